"""Changes of utterances on their way into a batch: reverberation, noise, level, telephone, in this order.

`Collator` asks an object with the methods of `Changes` to change every utterance. In training this is an
`Augmentation`, whose draws depend on the seed, the epoch (or the pass over shards) and the id of the utterance alone:
they are the same whatever process loads the batch, with any number of processes, and after a resume.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut, MonoCut
from lhotse.dataset import CutMix
from lhotse.utils import fastcopy

from slimasr.config.data import DataConfig
from slimasr.config.schema import Config
from slimasr.data.audio.recordings import AudioError, audio_path, load_samples
from slimasr.data.augmentation.rooms import random_response, reverberation
from slimasr.data.augmentation.telephone import over_telephone
from slimasr.data.features.frames import SILENCE
from slimasr.data.files import NOISE_SET, ROOMS_SET, DataFolder, read_cuts
from slimasr.data.identity.manifest_record import STAGE_1, check_source
from slimasr.data.memory.training_cuts import read_feature_cuts
from slimasr.errors import UserError

STORED_STEP = 2.0**-5
"""The steps in which lhotse stores features, so that stored silence is this far above `SILENCE` at most."""

DRAWN_AS = "drawn_as"
"""Key of ``cut.custom`` with the text that stands for an utterance in random draws, where the same id recurs."""

SHORTEST_NOISY_SECONDS = 0.15
"""lhotse ends noise up to 0.1 s before the utterance, so shorter ones get none."""


class Changes(Protocol):
    """What is done to utterances."""

    def cut(self, cut: Cut) -> Cut:
        """Return a cut with reverberation and noise added; id, length and supervisions stay."""

    def samples(self, name: str, samples: np.ndarray, sampling_rate: int) -> np.ndarray:
        """Return the changed audio of an utterance (`drawn_as`), (1, num_samples) float32 as the original."""

    def features(self, name: str, features: np.ndarray) -> np.ndarray:
        """Return the changed features of an utterance whose audio is not read, (T, F) float32 as the original."""


def drawn_as(cut: Cut) -> str:
    """Return the text that stands for an utterance in random draws: its id, unless `DRAWN_AS` names another one."""
    return str((cut.custom or {}).get(DRAWN_AS, cut.id))


def drawn_in_pass(utterance: str, number: int) -> str:
    """Return the `DRAWN_AS` of an utterance in the pass over the data with this number."""
    return f"{number}/{utterance}"


@dataclass(frozen=True)
class Augmentation:
    """Random changes of the training utterances of one epoch, or of a run on shards.

    Attributes:
        config: what is changed, and by how much.
        seed: text from which everything is drawn, together with that of an utterance (`drawn_as`).
        noise: the pieces of ``data.noise``.
        rooms: the impulse responses of ``data.reverb.folder``.
    """

    config: DataConfig
    seed: str
    noise: Sequence[Cut] = ()
    rooms: Sequence[Cut] = ()

    def cut(self, cut: Cut) -> Cut:
        """Return a cut with the reverberation and the noise that are drawn for it. See `Changes.cut`."""
        return self._with_noise(self._in_room(cut))

    def samples(self, name: str, samples: np.ndarray, sampling_rate: int) -> np.ndarray:
        """Change the level, and send the audio over a telephone. See `Changes.samples`."""
        gain = self._gain(name)
        if gain is not None:
            samples = samples * np.float32(10.0 ** (gain / 20.0))
        telephone = self.config.telephone
        rng = self._rng("telephone", name)
        if telephone is None or rng.random() >= telephone.probability:
            return samples
        return over_telephone(samples, sampling_rate, rng.choice(telephone.codecs))

    def features(self, name: str, features: np.ndarray) -> np.ndarray:
        """Change the level. See `Changes.features`."""
        gain = self._gain(name)
        return features if gain is None else amplified(features, gain)

    def _gain(self, name: str) -> float | None:
        """The gain of an utterance in dB; None if its level stays."""
        gain = self.config.gain
        rng = self._rng("gain", name)
        if gain is None or rng.random() >= gain.probability:
            return None
        return rng.uniform(*gain.range_db)

    def _in_room(self, cut: Cut) -> Cut:
        reverb = self.config.reverb
        rng = self._rng("reverb", drawn_as(cut))
        if reverb is None or rng.random() >= reverb.probability:
            return cut
        if self.rooms:
            return reverberated(cut, _response_of(self.rooms[rng.randrange(len(self.rooms))]))
        seconds, direct_db = rng.uniform(*reverb.seconds), rng.uniform(*reverb.direct_db)
        drawn = np.random.default_rng(rng.getrandbits(64))
        return reverberated(cut, random_response(seconds, direct_db, cut.sampling_rate, drawn))

    def _with_noise(self, cut: Cut) -> Cut:
        noise = self.config.noise
        rng = self._rng("noise", drawn_as(cut))
        if noise is None or rng.random() >= noise.probability or cut.duration < SHORTEST_NOISY_SECONDS:
            return cut
        # lhotse would shuffle all pieces for every utterance, so the piece is drawn here. It recurs if it is short.
        piece = CutSet.from_items([self.noise[rng.randrange(len(self.noise))]])
        mix = CutMix(
            piece, snr=noise.snr, p=1.0, pad_to_longest=False, preserve_id=True, seed=rng, random_mix_offset=True
        )
        (mixed,) = mix(CutSet.from_items([cut]))
        return mixed

    def _rng(self, what: str, name: str) -> random.Random:
        # One generator per kind of change: the draws of the others stay the same when one is switched on.
        return random.Random(f"{what}/{self.seed}/{name}")


@dataclass(frozen=True)
class AugmentationSource:
    """Makes the `Augmentation` of every epoch; arguments as there."""

    config: DataConfig
    noise: Sequence[Cut] = ()
    rooms: Sequence[Cut] = ()

    def of(self, seed: int, epoch: int) -> Augmentation:
        """Return the changes of an epoch of a run with this seed."""
        return Augmentation(self.config, f"{seed}/{epoch}", self.noise, self.rooms)

    def of_passes(self, seed: int) -> Augmentation:
        """Return the changes of a run with this seed, whose utterances name their pass (`DRAWN_AS`)."""
        return Augmentation(self.config, str(seed), self.noise, self.rooms)


def read_augmentation(config: Config, folder: DataFolder) -> AugmentationSource | None:
    """Open what ``data.gain``, ``data.reverb``, ``data.noise`` and ``data.telephone`` need; None without any of them.

    Raises:
        UserError: stage 1 or 2 has not run with these folders.
    """
    data = config.data
    if data.gain is None and data.reverb is None and data.noise is None and data.telephone is None:
        return None
    noise: list[Cut] = []
    rooms: list[Cut] = []
    if data.noise is not None:
        check_source(folder, NOISE_SET, data.noise.folder)
        noise = list(read_feature_cuts(folder, NOISE_SET))
    if data.reverb is not None and data.reverb.folder is not None:
        check_source(folder, ROOMS_SET, data.reverb.folder)
        rooms = list(read_cuts(folder.raw_cuts(ROOMS_SET), STAGE_1))
    return AugmentationSource(data, noise, rooms)


def _response_of(room: Cut) -> np.ndarray:
    """Read a recorded impulse response."""
    try:
        samples = load_samples(room)
    except AudioError as error:
        raise UserError(f"data.reverb.folder: {error}") from error
    # Speech in such a room would be silent, too.
    if not samples.any():
        raise UserError(f"data.reverb.folder: {audio_path(room)}: is silent; remove it, and run stage 1 again")
    return samples


def reverberated(cut: Cut, response: np.ndarray) -> MonoCut:
    """Return a cut with the reverberation of a (1, num_samples) impulse response."""
    recording = cut.recording
    transforms = [*(recording.transforms or []), reverberation(response)]
    return fastcopy(cut, recording=fastcopy(recording, transforms=transforms))


def amplified(features: np.ndarray, gain_db: float) -> np.ndarray:
    """Return (T, F) log-mel features of louder or quieter audio.

    The logarithm of an energy that is multiplied is one addition. Its floor stays where it is: energy that falls below
    is lost, and bins at the floor, whose energy is not known, are taken as digital silence.
    """
    louder = np.maximum(features + np.float32(gain_db * math.log(10.0) / 10.0), np.float32(SILENCE))
    silent = features <= SILENCE + STORED_STEP
    changed: np.ndarray = np.where(silent, np.minimum(features, louder), louder)
    return changed


def generator_of(text: str) -> np.random.Generator:
    """Return a generator that depends on a text alone."""
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))
