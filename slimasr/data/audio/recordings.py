"""Read audio files as lhotse recordings and samples; every error names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import BinaryIO

import numpy as np
import soundfile
from lhotse import AudioSource, Recording
from lhotse.audio import AudioLoadingError, DurationMismatchError
from lhotse.audio.backend import AudioBackend, LibsndfileBackend, get_current_audio_backend, set_current_audio_backend
from lhotse.cut import Cut
from lhotse.utils import compute_num_samples

from slimasr.data.audio.file import AudioError, check_range, open_audio, reason_of

__all__ = ["AudioError", "audio_path", "load_samples", "read_recording"]

# lhotse's audio backend is global: threads that set and restore it at the same time could leave the wrong one.
_BACKEND = RLock()


class CheckedBackend(AudioBackend):
    """A lhotse audio backend with the checks of `open_audio`.

    It reads all formats of libsndfile; lhotse's default backend would call an external program for NIST SPHERE.
    """

    def __init__(self, name: str) -> None:
        """Create the backend; ``name`` stands for audio in memory in messages."""
        self._name = name

    def read_audio(
        self,
        path_or_fd: str | Path | BinaryIO,
        offset: float = 0.0,
        duration: float | None = None,
        force_opus_sampling_rate: int | None = None,
    ) -> tuple[np.ndarray, int]:
        """(num_channels, T) float32 samples and their rate; ``offset`` and ``duration`` in seconds.

        Raises:
            AudioError: see `open_audio` and `AudioFile.read`; audio in memory cannot be decoded or is out of range.
        """
        if not isinstance(path_or_fd, str | Path):
            return self._read_memory(path_or_fd, offset, duration)
        with open_audio(Path(path_or_fd)) as file:
            # lhotse's own rounding of seconds to samples, so that the lengths agree with its manifests.
            if offset > 0:
                file.seek(compute_num_samples(offset, file.sampling_rate))
            if duration is None:
                samples = np.concatenate(list(file.blocks()), axis=1)
            else:
                samples = file.read(compute_num_samples(duration, file.sampling_rate))
            return samples, file.sampling_rate

    def _read_memory(self, content: BinaryIO, offset: float, duration: float | None) -> tuple[np.ndarray, int]:
        """Read audio that comes from a shard."""
        try:
            samples, rate = LibsndfileBackend().read_audio(content, offset, duration)
        # lhotse would wrap this error in one whose message cannot be printed.
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{self._name}: cannot be decoded: damaged ({reason_of(error)})") from error
        check_range(samples, self._name)
        return samples, int(rate)


def read_recording(path: Path, recording_id: str, *, mono: bool = True) -> Recording:
    """Read the header of a file, or the whole file if its header does not give the number of samples.

    Args:
        mono: whether the file must have one channel.

    Raises:
        AudioError: the file is missing, unreadable, truncated, empty or, if it must be, not mono.
    """
    with open_audio(path) as file:
        if mono and file.num_channels != 1:
            raise AudioError(f"{path}: has {file.num_channels} channels, needs to be mono")
        num_samples = file.num_samples
        if num_samples is None:
            # One pass through the whole file, which also finds damage.
            num_samples = sum(block.shape[1] for block in file.blocks())
        return Recording(
            id=recording_id,
            sources=[AudioSource(type="file", channels=list(range(file.num_channels)), source=str(path))],
            sampling_rate=file.sampling_rate,
            num_samples=num_samples,
            duration=num_samples / file.sampling_rate,
        )


def load_samples(cut: Cut, name: str = "") -> np.ndarray:
    """Decode a cut's audio: (1, num_samples) float32; full scale is [-1, 1].

    A cut with several channels (lhotse's ``MultiCut``) stands for their average.

    Args:
        name: of audio in memory, for messages; default: the id of the cut.

    Raises:
        AudioError: the file is missing, corrupt, truncated or of another length than its recording, or it holds
            values that are not finite or far outside [-1, 1].
    """
    in_memory = _in_memory(cut)
    source = name if in_memory and name else audio_path(cut)
    try:
        with _checked(source):
            samples: np.ndarray = cut.load_audio()
    except AudioError as error:
        raise _original(error) from None
    except (AudioLoadingError, DurationMismatchError) as error:
        then = "its manifest says; restore the shard" if in_memory else "when stage 1 read it; run stage 1 again"
        raise AudioError(f"{source}: is not as long as {then}") from error
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        raise AudioError(f"{source}: cannot be decoded ({reason})") from error
    # Checked again after decoding, because resampling and changes of speed also compute with the samples.
    if not np.isfinite(samples).all():
        raise AudioError(f"{source}: holds samples that are not finite")
    return samples if len(samples) == 1 else samples.mean(axis=0, keepdims=True)


@contextmanager
def _checked(name: str) -> Iterator[None]:
    """Make lhotse read audio by `CheckedBackend` inside the block; ``name`` is that of audio in memory.

    lhotse's own context manager does not restore the backend after an error.
    """
    with _BACKEND:
        previous = get_current_audio_backend()
        set_current_audio_backend(CheckedBackend(name))
        try:
            yield
        finally:
            set_current_audio_backend(previous)


def _original(error: AudioError) -> AudioError:
    """The error before lhotse added its own lines to the message."""
    while isinstance(error.__context__, AudioError):
        error = error.__context__
    return error


def audio_path(cut: Cut) -> str:
    """The file from which a cut is read, for messages."""
    # Mixed and padding cuts have no recording.
    recording = getattr(cut, "recording", None)
    if recording is None or not recording.sources or _in_memory(cut):
        return cut.id
    return str(recording.sources[0].source)


def _in_memory(cut: Cut) -> bool:
    recording = getattr(cut, "recording", None)
    return recording is not None and bool(recording.sources) and recording.sources[0].type == "memory"
