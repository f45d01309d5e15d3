"""Perturbed test sets: every utterance in a room, with noise, at another level, over a telephone, in this order.

All of it is drawn from the id of the utterance alone, so that all models hear the same. What arrives is rounded to the
steps of 16 bits and clipped at full scale, as recordings are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lhotse.audio.mixer import AudioMixer
from lhotse.cut import Cut

from slimasr.config.augmentation import Codec
from slimasr.data.audio.recordings import load_samples
from slimasr.data.augmentation.augment import generator_of
from slimasr.data.augmentation.rooms import random_response, reverberation
from slimasr.data.augmentation.telephone import over_telephone
from slimasr.data.files import DataFolder
from slimasr.data.identity.digests import digest_of
from slimasr.data.memory.training_cuts import read_feature_cuts
from slimasr.errors import UserError
from slimasr.results.perturbed import Perturbation, perturbed_name

NUM_VOICES = 6
"""Number of voices in babble; with so many, hardly a word of them is intelligible."""

LOWEST_HERTZ = 20.0
"""Pink noise has no energy below this frequency, which is inaudible."""

DIRECT_DB = 0.0
"""Level of the direct sound above the reverberation, as of a speaker across a table."""

TELEPHONE: Codec = "mulaw"
"""The codec of perturbed telephone lines, that of fixed networks."""

FULL_SCALE = 2.0**15
"""Steps of 16 bits from 0 to full scale."""


@dataclass(frozen=True)
class EvaluationSet:
    """A set as it is decoded.

    Attributes:
        name: under which it is written and scored.
        fingerprint: of the set and of what is done to it.
        changes: what is done to it, None = nothing.
    """

    name: str
    fingerprint: str
    changes: PerturbedSet | None = None


def evaluation_sets(
    perturbations: Sequence[Perturbation], data_dir: Path, set_name: str, fingerprint: str
) -> list[EvaluationSet]:
    """Return the perturbed versions of a set; without perturbations, the set as it is.

    Args:
        perturbations: what is done to the set, one version each.
        data_dir: folder of the recipe's data.
        set_name: the set.
        fingerprint: of the set.

    Raises:
        UserError: stage 2 has not run.
    """
    if not perturbations:
        return [EvaluationSet(set_name, fingerprint)]
    voices: list[Cut] = []
    if any(asked.babble is not None for asked in perturbations):
        voices = list(read_feature_cuts(DataFolder(data_dir), set_name))
    found = []
    for asked in perturbations:
        changed = digest_of([fingerprint, str(asked)])
        found.append(EvaluationSet(perturbed_name(set_name, asked), changed, PerturbedSet(asked, voices)))
    return found


@dataclass(frozen=True)
class PerturbedSet:
    """The changes of a perturbed set (`slimasr.data.augmentation.augment.Changes`).

    Attributes:
        perturbation: what is done.
        voices: the utterances of the set, of which babble is made; needed for babble alone.
    """

    perturbation: Perturbation
    voices: Sequence[Cut] = ()

    def cut(self, cut: Cut) -> Cut:
        """Return the cut as it is: audio is changed when it has been read."""
        return cut

    def features(self, name: str, features: np.ndarray) -> np.ndarray:
        """Fail, because stored features do not hear a room; the audio of a perturbed set is always read."""
        raise NotImplementedError

    def samples(self, name: str, samples: np.ndarray, sampling_rate: int) -> np.ndarray:
        """Return the perturbed (1, num_samples) float32 audio of an utterance."""
        asked = self.perturbation
        if asked.reverb is not None:
            response = random_response(asked.reverb, DIRECT_DB, sampling_rate, generator_of(f"reverb/{name}"))
            samples = reverberation(response)(samples, sampling_rate)
        samples = self._with_noise(name, samples, sampling_rate)
        if asked.gain is not None:
            samples = samples * np.float32(10.0 ** (asked.gain / 20.0))
        if asked.telephone:
            samples = over_telephone(samples, sampling_rate, TELEPHONE)
        return recorded(samples)

    def _with_noise(self, name: str, samples: np.ndarray, sampling_rate: int) -> np.ndarray:
        asked = self.perturbation
        # There is no level to which noise could be set.
        if not samples.any():
            return samples
        mixer = AudioMixer(samples, sampling_rate)
        if asked.noise is not None:
            mixer.add_to_mix(pink_noise(samples.shape[1], sampling_rate, generator_of(f"noise/{name}")), asked.noise)
        if asked.babble is not None:
            mixer.add_to_mix(self._babble(name, samples.shape[1]), asked.babble)
        mixed: np.ndarray = mixer.mixed_audio
        return mixed

    def _babble(self, name: str, num_samples: int) -> np.ndarray:
        """Make (1, num_samples) of voices of other utterances, all of one level; short ones recur."""
        others = [cut for cut in self.voices if cut.id != name]
        if not others:
            raise UserError("--perturb babble: is made of other utterances of the set, which has a single one")
        rng = generator_of(f"babble/{name}")
        total = np.zeros((1, num_samples), dtype=np.float32)
        for number in rng.choice(len(others), min(NUM_VOICES, len(others)), replace=False):
            voice = load_samples(others[int(number)])
            level = np.sqrt(np.square(voice).mean())
            if level > 0:
                total += np.resize(voice / level, (1, num_samples))
        return total


def pink_noise(num_samples: int, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Make (1, num_samples) float32 noise with equal energy in every octave and a root mean square of about 1."""
    hertz = np.fft.rfftfreq(num_samples, 1.0 / sampling_rate)
    spectrum = rng.standard_normal(len(hertz)) + 1j * rng.standard_normal(len(hertz))
    # Power falls with the frequency, so amplitude with its root.
    spectrum *= np.where(hertz < LOWEST_HERTZ, 0.0, 1.0 / np.sqrt(np.maximum(hertz, LOWEST_HERTZ)))
    noise = np.fft.irfft(spectrum, num_samples)
    level = np.sqrt(np.square(noise).mean())
    # Audio shorter than a period of the lowest frequency has none.
    return (noise / level if level > 0 else noise).astype(np.float32)[np.newaxis]


def recorded(samples: np.ndarray) -> np.ndarray:
    """Return samples as a recorder with 16 bits stores them."""
    steps = np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
    found: np.ndarray = (steps / FULL_SCALE).astype(np.float32)
    return found
