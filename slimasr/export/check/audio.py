"""The utterances on which a bundle is checked: of a set, of files, or synthetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from slimasr.data.audio.recordings import AudioError, load_samples
from slimasr.data.features.frames import has_frame
from slimasr.data.files import DataFolder, read_cuts
from slimasr.data.identity.manifest_record import STAGE_1
from slimasr.data.languages import language_of
from slimasr.decoding.transcription.audio import read_pieces
from slimasr.errors import UserError

SYNTHETIC_SECONDS = (0.01, 0.06, 0.3, 1.0, 2.5, 4.0, 8.0)
"""Lengths of the synthetic utterances: of a single frame, fewer frames than a front end takes, and usual ones."""

WHOLE = 86400.0
"""No recording is cut into pieces before so many seconds."""


@dataclass(frozen=True)
class Heard:
    """An utterance.

    Attributes:
        name: its id or its file.
        samples: (S,) float32 in [-1, 1], at the rate of the model's features.
        text: the reference; None = it is not known.
        language: its language, "" = it is not known.
    """

    name: str
    samples: np.ndarray
    text: str | None = None
    language: str = ""

    def seconds(self, sample_rate: int) -> float:
        """Length in seconds."""
        return len(self.samples) / sample_rate


@dataclass(frozen=True)
class AudioSet:
    """Utterances under a name.

    Attributes:
        name: of the set.
        audio: its utterances.
        data: its fingerprint, None if it is not known.
    """

    name: str
    audio: tuple[Heard, ...]
    data: str | None = None

    def with_frames(self, sample_rate: int) -> AudioSet:
        """Return the utterances that hold a feature frame: of shorter ones, runtimes compute what they like."""
        return replace(self, audio=tuple(heard for heard in self.audio if has_frame(heard.seconds(sample_rate))))

    def served(self, language: str | None) -> AudioSet:
        """Return the utterances in a language, and those whose language is not known; None = all of them."""
        if language is None:
            return self
        return replace(self, audio=tuple(heard for heard in self.audio if heard.language in ("", language)))


def set_audio(data: Path, set_name: str) -> tuple[Heard, ...]:
    """Read the audio and the references of a set that stage 1 has written.

    Args:
        data: the recipe's data folder.
        set_name: name of the set.

    Raises:
        UserError: stage 1 has not run, or audio cannot be read.
    """
    cuts = read_cuts(DataFolder(data).raw_cuts(set_name), STAGE_1)
    try:
        return tuple(Heard(cut.id, load_samples(cut)[0], cut.supervisions[0].text, language_of(cut)) for cut in cuts)
    except AudioError as error:
        raise UserError(str(error)) from error


def file_audio(paths: Sequence[Path], sample_rate: int) -> tuple[Heard, ...]:
    """Read audio files, each as one utterance.

    Args:
        paths: files of any format that libsndfile reads, and of any rate and number of channels.
        sample_rate: rate of the result in Hz.

    Raises:
        UserError: a file is missing, unreadable, truncated or empty.
    """
    return tuple(Heard(str(path), np.concatenate(list(read_pieces(path, sample_rate, WHOLE)))) for path in paths)


def synthetic_audio(sample_rate: int, seed: int = 0) -> tuple[Heard, ...]:
    """Make utterances of `SYNTHETIC_SECONDS`: hums of changing pitch and loudness, with pauses and noise.

    They are no speech, but reach all of a model: what it finds in them differs from frame to frame.
    """
    rng = np.random.default_rng(seed)
    return tuple(
        Heard(f"synthetic {seconds:g} s", hum(round(seconds * sample_rate), sample_rate, rng))
        for seconds in SYNTHETIC_SECONDS
    )


def hum(length: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """(length,) float32: syllables of 0.2 s with a pitch, two resonances and a level of their own."""
    syllable = round(0.2 * rate)
    count = -(-length // syllable)
    sound = np.zeros(count * syllable)
    time = np.arange(syllable) / rate
    for number in range(count):
        pitch, low, high = rng.uniform(90, 250), rng.uniform(250, 900), rng.uniform(900, 3000)
        harmonics = pitch * np.arange(1, int(0.45 * rate / pitch))
        levels = 1.0 / (1.0 + ((harmonics - low) / 100.0) ** 2) + 0.5 / (1.0 + ((harmonics - high) / 150.0) ** 2)
        voice = (levels[:, np.newaxis] * np.sin(2 * np.pi * harmonics[:, np.newaxis] * time)).sum(0)
        place = slice(number * syllable, (number + 1) * syllable)
        sound[place] = rng.uniform(0.0, 0.15) * voice * np.hanning(syllable)
    sound += 0.003 * rng.standard_normal(len(sound))
    return np.clip(sound[:length], -1.0, 1.0).astype(np.float32)
