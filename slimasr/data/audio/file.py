"""Open and read audio files; a missing or truncated file, or one with samples out of range, is an error that names it.

Training and transcription read all audio through `open_audio`.
"""

from __future__ import annotations

import io
import os
import shlex
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from slimasr.data.audio.compressed import inspect_mp3, inspect_ogg
from slimasr.data.audio.headers import (
    IncompleteError,
    Splice,
    inspect_au,
    inspect_caf,
    inspect_form,
    inspect_nist,
    inspect_w64,
    inspect_wav,
)

# 20 dB above full scale. Decoders of lossy formats, resampling and float masters go above 1, but not that far;
# speech in the range of integers does.
MAX_PEAK = 10.0
# Full scale of the integers that float samples are mistaken for.
_INTEGER_SCALES = (2**15, 2**23, 2**31)
# libsndfile's number of samples when the header leaves it open.
_UNKNOWN_LENGTH = 2**63 - 1
# The headers of other formats may only estimate the number of samples.
_EXACT_FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC", "OGG")
BLOCK_SAMPLES = 1 << 20
"""So many samples are read at once. Some decoders notice that audio is missing only within what they read at once."""

_INSPECTORS: dict[bytes, Callable[[BinaryIO, int], Splice | None]] = {
    b"RIFF": inspect_wav,
    b"RIFX": inspect_wav,
    b"RF64": inspect_wav,
    b"riff": inspect_w64,
    b"FORM": inspect_form,
    b".snd": inspect_au,
    b"dns.": inspect_au,
    b"caff": inspect_caf,
    b"NIST": inspect_nist,
    b"OggS": inspect_ogg,
}


READ = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".sph", ".aiff", ".aif", ".au", ".caf", ".w64")
"""Endings of the names of audio files that libsndfile reads, in the order in which they are preferred."""

CONVERTED = (".m4a", ".mp4", ".aac", ".wma", ".webm", ".amr", ".3gp", ".mka", ".mov")
"""Endings of the names of audio files that have to be converted first."""

SAMPLING_RATES = range(1000, 768_001)
"""Sampling rates in Hz that sound can have. Others come from damaged headers, and resampling would take any memory."""


class AudioError(Exception):
    """An audio file that cannot be used; the message names it."""


def check_sampling_rate(sampling_rate: int, name: object) -> None:
    """Raise `AudioError`, which names the audio, unless its sampling rate is one of `SAMPLING_RATES`."""
    if sampling_rate not in SAMPLING_RATES:
        low, high = SAMPLING_RATES[0], SAMPLING_RATES[-1]
        raise AudioError(f"{name}: has a sampling rate of {sampling_rate} Hz, needs one from {low} to {high}")


class AudioFile:
    """An open audio file, read from its start to its end.

    Attributes:
        path: the file.
        sampling_rate: in Hz.
        num_channels: channels of the file.
        num_samples: per channel, according to the header; None = the header does not give it, and only reading
            the file to its end shows it.
        encoding: container and encoding, as libsndfile names them, for example ``WAV PCM_16``.
    """

    def __init__(self, path: Path, file: soundfile.SoundFile) -> None:
        self.path = path
        self.sampling_rate: int = file.samplerate
        check_sampling_rate(self.sampling_rate, path)
        self.num_channels: int = file.channels
        self.num_samples: int | None = None if file.frames == _UNKNOWN_LENGTH else file.frames
        self.encoding = f"{file.format} {file.subtype}"
        self._file = file
        self._num_read = 0

    def read(self, num_samples: int) -> np.ndarray:
        """Read the next samples, (num_channels, T) float32; T is below ``num_samples`` only at the end of the file.

        Raises:
            AudioError: they cannot be decoded, are missing, not finite or far outside [-1, 1].
        """
        try:
            # soundfile returns (T, num_channels).
            block: np.ndarray = self._file.read(num_samples, dtype="float32", always_2d=True).T
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"{self.path}: cannot be decoded after {self._num_read} samples: damaged or truncated "
                f"({reason_of(error)})"
            ) from error
        self._num_read += block.shape[1]
        if block.shape[1] < num_samples:
            self._check_end()
        check_range(block, self.path)
        return block

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the remaining samples in blocks of bounded length; raises as `read`."""
        while True:
            block = self.read(BLOCK_SAMPLES)
            yield block
            if block.shape[1] < BLOCK_SAMPLES:
                return

    def seek(self, num_samples: int) -> None:
        """Skip the next samples."""
        if self.num_samples is not None:
            self._file.seek(num_samples, os.SEEK_CUR)
            self._num_read += num_samples
            return
        # Without a known length libsndfile cannot seek: the samples are decoded and dropped.
        while num_samples > 0:
            num_read = self.read(min(num_samples, BLOCK_SAMPLES)).shape[1]
            if num_read == 0:
                return
            num_samples -= num_read

    def _check_end(self) -> None:
        if self._num_read == 0:
            raise AudioError(f"{self.path}: holds no samples")
        # Only some formats give the exact number of samples, so that fewer of them mean damage.
        missing = self.num_samples is not None and self._num_read < self.num_samples
        if missing and self._file.format in _EXACT_FORMATS:
            raise AudioError(
                f"{self.path}: is damaged or truncated: {self._num_read} of {self.num_samples} samples can be decoded"
            )


@contextmanager
def open_audio(path: Path) -> Iterator[AudioFile]:
    """Open any file that libsndfile reads: wav, flac, ogg, mp3, NIST SPHERE, ...

    The header is compared with the length of the file; nothing is decoded.

    Raises:
        AudioError: the file is missing, unreadable, not audio, truncated or without samples.
    """
    with _open_regular(path) as content:
        splice = _inspect(content, path)
        try:
            sound = _open_sound(content, splice)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{path}: is not a readable audio file ({reason_of(error)}){_conversion(path)}") from error
        with sound:
            if sound.frames <= 0:
                raise AudioError(f"{path}: holds no samples")
            yield AudioFile(path, sound)


def _conversion(path: Path) -> str:
    """How to convert a file whose name says that its format is another one."""
    if path.suffix.lower() not in CONVERTED:
        return ""
    source, target = (shlex.quote(str(name)) for name in (path, path.with_suffix(".flac")))
    return f"; convert it first: ffmpeg -i {source} -vn {target}"


class _SequentialSoundFile(soundfile.SoundFile):
    """A sound file of unknown length: libsndfile cannot seek in it, which soundfile would do after every read."""

    def seekable(self) -> bool:
        return False


class _SplicedFile(io.RawIOBase):
    """A binary file whose first bytes are replaced."""

    def __init__(self, file: BinaryIO, splice: Splice) -> None:
        self._file = file
        self._splice = splice
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        # Positions count from the start of the replacement; behind it they differ from the file's by this number.
        moved = self._splice.start - len(self._splice.head)
        length = os.fstat(self._file.fileno()).st_size - moved
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: length}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        head = self._splice.head
        if self._position < len(head):
            # This may return fewer bytes than asked for, as raw files may; the caller reads again.
            content = head[self._position : self._position + len(buffer)]
        else:
            self._file.seek(self._position - len(head) + self._splice.start)
            content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


@contextmanager
def _open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading; a folder, a pipe (which would block) or a device is an error."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise AudioError(f"{path}: is a folder, not an audio file")
        if not stat.S_ISREG(mode):
            raise AudioError(f"{path}: is not a regular file; write its content to a file first")
        content = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise AudioError(f"{path}: no such file") from None
    except OSError as error:
        raise AudioError(f"{path}: cannot be opened ({error.strerror})") from error
    with content:
        yield content


def _inspect(content: BinaryIO, path: Path) -> Splice | None:
    """Inspect what libsndfile does not report about a file; its first four bytes identify the format."""
    try:
        size = content.seek(0, os.SEEK_END)
        if size == 0:
            raise AudioError(f"{path}: is not a readable audio file (it is empty)")
        content.seek(0)
        mark = content.read(4)
        inspector = _INSPECTORS.get(mark)
        # An MP3 file has no mark of its own: it starts with an ID3 tag or with the sync bits of a frame.
        if inspector is None and (mark[:3] == b"ID3" or mark[:1] == b"\xff"):
            inspector = inspect_mp3
        return None if inspector is None else inspector(content, size)
    except IncompleteError as error:
        raise AudioError(f"{path}: {error}") from error
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror})") from error


def _open_sound(content: BinaryIO, splice: Splice | None) -> soundfile.SoundFile:
    if splice is not None:
        return soundfile.SoundFile(_SplicedFile(content, splice))
    # A descriptor, because soundfile would infer formats from names (.raw) and cannot encode some names.
    descriptor = content.fileno()
    os.lseek(descriptor, 0, os.SEEK_SET)
    sound = soundfile.SoundFile(descriptor, closefd=False)
    if sound.frames < _UNKNOWN_LENGTH:
        return sound
    # The length is unknown, for example of a FLAC stream that was written to a pipe: open it again, for reading in
    # order.
    sound.close()
    os.lseek(descriptor, 0, os.SEEK_SET)
    return _SequentialSoundFile(descriptor, closefd=False)


def check_range(block: np.ndarray, path: Path | str) -> None:
    """Raise `AudioError`, which names ``path``, for samples that are not finite or far out of range."""
    if block.size == 0:
        return
    # np.maximum keeps NaN, which Python's max might drop.
    peak = float(np.maximum(block.max(), -block.min()))
    if not np.isfinite(peak):
        raise AudioError(f"{path}: holds samples that are not finite")
    if peak > MAX_PEAK:
        # The smallest range of integers that holds the peak is the likely cause.
        scale = next((scale for scale in _INTEGER_SCALES if peak <= scale), None)
        advice = "scale its samples to [-1, 1]" if scale is None else f"divide its samples by {scale}"
        raise AudioError(f"{path}: reaches {peak:.6g} where full scale is 1 (float samples out of range); {advice}")


def reason_of(error: soundfile.LibsndfileError) -> str:
    """What libsndfile says about a file that it cannot read."""
    return str(error.error_string).rstrip(".")
