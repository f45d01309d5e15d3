"""Audio files to lhotse recordings and samples, with errors that name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from lhotse import AudioSource, Recording
from lhotse.audio import AudioLoadingError, DurationMismatchError
from lhotse.audio.backend import audio_backend
from lhotse.cut import Cut

# libsndfile reads wav, flac, ogg, mp3 and NIST SPHERE; lhotse's default would call a program for the last.
BACKEND = "LibsndfileBackend"


class AudioError(Exception):
    """An audio file that cannot be used; the message names it."""


def read_recording(path: Path, recording_id: str) -> Recording:
    """Read a mono file's header.

    Raises:
      AudioError: missing, unreadable, empty or not mono.
    """
    if not path.is_file():
        raise AudioError(f"{path}: no such file")
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path}: not a readable audio file ({error})") from error
    if info.frames <= 0:
        raise AudioError(f"{path}: holds no samples")
    if info.channels != 1:
        raise AudioError(f"{path}: has {info.channels} channels, needs to be mono")
    return Recording(
        id=recording_id,
        sources=[AudioSource(type="file", channels=[0], source=str(path))],
        sampling_rate=info.samplerate,
        num_samples=info.frames,
        duration=info.frames / info.samplerate,
    )


def load_samples(cut: Cut) -> np.ndarray:
    """Decode a cut's audio: (1, num_samples) float32 in [-1, 1].

    Raises:
      AudioError: the file is gone, corrupt or holds values that are not finite.
    """
    source = audio_path(cut)
    try:
        with audio_backend(BACKEND):
            samples: np.ndarray = cut.load_audio()
    except TypeError as error:
        # lhotse puts its message in the place of libsndfile's error code, and the result cannot be printed.
        raise AudioError(f"{source}: cannot be decoded (corrupt or cut short)") from error
    except (
        AudioLoadingError,
        DurationMismatchError,
        OSError,
        RuntimeError,
        ValueError,
        AssertionError,
    ) as error:
        reason = str(error).strip().splitlines()
        raise AudioError(f"{source}: cannot be decoded ({reason[0] if reason else type(error).__name__})") from error
    if not np.isfinite(samples).all():
        raise AudioError(f"{source}: holds samples that are not finite")
    return samples


def audio_path(cut: Cut) -> str:
    """The file a cut reads, for messages."""
    recording = getattr(cut, "recording", None)
    return str(recording.sources[0].source) if recording is not None and recording.sources else cut.id
