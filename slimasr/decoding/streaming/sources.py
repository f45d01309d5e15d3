"""Where a stream of speech comes from: a file, standard input, a microphone."""

from __future__ import annotations

import os
import select
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from slimasr.data.audio.file import AudioError, AudioFile, check_range, open_audio
from slimasr.data.audio.wav_stream import Read, SampleFormat, is_wav, read_ahead, read_samples, read_wav_header
from slimasr.errors import UserError

STANDARD_INPUT = "standard input"
POLL_SECONDS = 0.1
"""How often a source that waits for audio looks whether it is to stop."""

T = TypeVar("T")

Stopped = Callable[[], bool]
"""Says whether the user has ended the stream."""


class AudioSource(ABC):
    """A source of audio that arrives in pieces.

    Attributes:
        name: what the user calls it.
        sampling_rate: of its samples, in Hz.
        is_live: whether the audio arrives at the speed at which it is spoken.
    """

    name: str
    sampling_rate: int
    is_live: bool

    @abstractmethod
    def pieces(self, seconds: float, stopped: Stopped) -> Iterator[np.ndarray]:
        """Yield (T,) float32 mono samples of at most so many seconds, until the source ends or is stopped.

        Raises:
            UserError: the source holds no samples or damaged ones.
        """


class FileSource(AudioSource):
    """An audio file of any format, whose channels are averaged."""

    is_live = False

    def __init__(self, file: AudioFile) -> None:
        """Read a file from its start."""
        self.name = str(file.path)
        self.sampling_rate = file.sampling_rate
        self._file = file

    def pieces(self, seconds: float, stopped: Stopped) -> Iterator[np.ndarray]:
        size = _samples_of(seconds, self.sampling_rate)
        length = size
        while length == size and not stopped():
            # (channels, T) -> (T,)
            piece = _understood(partial(self._file.read, size)).mean(axis=0)
            length = len(piece)
            if length:
                yield piece


class SamplesSource(AudioSource):
    """Samples that are in memory."""

    name = "samples"
    is_live = False

    def __init__(self, samples: np.ndarray, sampling_rate: int) -> None:
        """Keep (T,) float32 mono samples."""
        self.sampling_rate = sampling_rate
        self._samples = samples

    def pieces(self, seconds: float, stopped: Stopped) -> Iterator[np.ndarray]:
        size = _samples_of(seconds, self.sampling_rate)
        for start in range(0, len(self._samples), size):
            if stopped():
                return
            yield self._samples[start : start + size]


@contextmanager
def file_source(path: Path) -> Iterator[FileSource]:
    """Open an audio file.

    Raises:
        UserError: the file is missing, unreadable, not audio, truncated or without samples.
    """
    try:
        with open_audio(path) as file:
            yield FileSource(file)
    except AudioError as error:
        raise UserError(str(error)) from error


class PipeSource(AudioSource):
    """Samples from standard input: wav, or headerless 16-bit mono samples of a known rate."""

    name = STANDARD_INPUT
    is_live = True

    def __init__(self, file: BinaryIO, raw_rate: int | None, stopped: Stopped) -> None:
        """Read the header if there is one, which waits for it.

        Args:
            file: standard input.
            raw_rate: sampling rate in Hz of headerless samples; None = wav.
            stopped: says whether the user has ended the stream.

        Raises:
            UserError: the stream is empty, no wav, or wav although it should have no header.
        """
        self._read = _reader(file, stopped)
        if raw_rate is None:
            self._form: SampleFormat = _understood(partial(read_wav_header, self._read, self.name))
        else:
            self._form = SampleFormat(raw_rate)
            self._read, start = read_ahead(self._read, 12)
            if is_wav(start):
                raise UserError(f"{self.name}: is wav, whose header says its sampling rate: leave --raw out")
        self.sampling_rate = self._form.sampling_rate

    def pieces(self, seconds: float, stopped: Stopped) -> Iterator[np.ndarray]:
        size = _samples_of(seconds, self.sampling_rate)
        num_samples = 0
        for piece in read_samples(self._read, self._form, size):
            _understood(partial(check_range, piece, self.name))
            num_samples += len(piece)
            yield piece
        if not num_samples:
            raise UserError(f"{self.name}: holds no samples")
        expected = None if self._form.length is None else self._form.length // self._form.frame_bytes
        if expected is not None and num_samples < expected and not stopped():
            raise UserError(f"{self.name}: is truncated: {num_samples} of {expected} samples have arrived")


class PacedSource(AudioSource):
    """Another source at the speed at which its audio was spoken."""

    is_live = True

    def __init__(self, source: AudioSource) -> None:
        """Slow a source down."""
        self.name = source.name
        self.sampling_rate = source.sampling_rate
        self._source = source

    def pieces(self, seconds: float, stopped: Stopped) -> Iterator[np.ndarray]:
        start = time.perf_counter()
        spoken = 0.0
        for piece in self._source.pieces(seconds, stopped):
            spoken += len(piece) / self.sampling_rate
            time.sleep(max(0.0, start + spoken - time.perf_counter()))
            yield piece


def _understood(call: Callable[[], T]) -> T:
    """Return the result of a call; its `AudioError` becomes a `UserError`."""
    try:
        return call()
    except AudioError as error:
        raise UserError(str(error)) from error


def _samples_of(seconds: float, sampling_rate: int) -> int:
    return max(1, round(seconds * sampling_rate))


def _reader(file: BinaryIO, stopped: Stopped) -> Read:
    """Return a function that reads bytes as soon as there are any, and none after a stop."""
    try:
        descriptor = file.fileno()
    except OSError:
        # Not a file of the system, such as standard input that a test has replaced.
        return file.read

    def read(num_bytes: int) -> bytes:
        while not stopped():
            ready, _, _ = select.select([descriptor], [], [], POLL_SECONDS)
            if ready:
                return os.read(descriptor, num_bytes)
        return b""

    return read
