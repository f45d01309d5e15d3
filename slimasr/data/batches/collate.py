"""Make batches from cuts: features, labels and what alignments say, loaded by this process or by workers."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lhotse import CutSet, Fbank
from lhotse.cut import Cut
from lhotse.dataset import CutMix
from lhotse.utils import LOG_EPSILON
from torch.utils.data import DataLoader, Dataset

from slimasr.config.augmentation import MusanConfig
from slimasr.config.schema import Config
from slimasr.data.audio.recordings import AudioError, load_samples
from slimasr.data.augmentation.augment import Changes, drawn_as
from slimasr.data.batches.batch import Batch
from slimasr.data.features.frames import extract_frames, has_frame, no_frames, pad_with_silence
from slimasr.data.features.shards import make_extractor
from slimasr.data.languages import common_language
from slimasr.data.timelines.batch import BatchLabels
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.errors import UserError


@dataclass(frozen=True)
class NoiseMixer:
    """Mixes noise into the cuts of a batch, with a separate random generator for every batch."""

    noise: CutSet
    config: MusanConfig
    seed: str

    def __call__(self, number: int, cuts: CutSet) -> CutSet:
        """The cuts, some with noise, with unchanged ids and lengths."""
        rng = random.Random(f"noise/{self.seed}/{number}")
        mix = CutMix(
            self.noise,
            snr=self.config.snr,
            p=self.config.probability,
            pad_to_longest=False,
            preserve_id=True,
            seed=rng,
            random_mix_offset=True,
        )
        mixed: CutSet = mix(cuts)
        return mixed


class Collator(Dataset[Batch]):
    """Maps (number of the batch, its cuts) to a `Batch`; runs in the loader's workers if there are any."""

    def __init__(
        self,
        config: Config,
        tokenizer: Tokenizer,
        mixer: NoiseMixer | None = None,
        keys: Sequence[str | None] | None = None,
        labels: BatchLabels | None = None,
        changes: Changes | None = None,
        from_audio: bool = False,
    ) -> None:
        """``keys``, indexed by batch number, become `Batch.key`; ``labels`` are `Batch.ends` and `Batch.targets`.

        ``changes`` are made to every utterance before noise of MUSAN is mixed in. With ``from_audio``, features are
        computed from audio even if they have been stored.
        """
        self.config = config
        self._num_mel_bins = config.features.num_mel_bins
        self._extractor: Fbank | None = None
        self._from_audio = from_audio
        if from_audio or config.data.reads_audio:
            self._extractor = make_extractor(config.features.num_mel_bins, config.data.sampling_rate)
        self._tokenizer = tokenizer
        self._mixer = mixer
        self._keys = keys
        self._labels = labels
        self._changes = changes

    def __getitem__(self, item: tuple[int, CutSet]) -> Batch:
        number, clean = item
        # Mixing in noise keeps the order of the cuts and drops ``cut.custom``, so this comes first.
        names = [drawn_as(cut) for cut in clean]
        if self._changes is not None:
            clean = CutSet.from_items([self._changes.cut(cut) for cut in clean])
        # Noise is mixed into cuts, before features are read or computed.
        cuts = list(clean if self._mixer is None else self._mixer(number, clean))
        texts = tuple(cut.supervisions[0].text for cut in cuts)
        found = (self._features(cut, name) for cut, name in zip(cuts, names, strict=True))
        padded = (pad_with_silence(features, self.config.model.frontend.min_frames) for features in found)
        x, x_lens = _pad([torch.from_numpy(rows) for rows in padded], LOG_EPSILON)
        y, y_lens = _pad([torch.tensor(self._tokenizer.encode(text), dtype=torch.int64) for text in texts], 0)
        key = None if self._keys is None else self._keys[number]
        # `NoiseMixer` keeps ids and lengths, so alignments of the clean audio remain valid.
        ids = tuple(cut.id for cut in cuts)
        ends = targets = None
        if self._labels is not None:
            ends, targets = self._labels.of(number, ids, texts, x_lens.tolist())
        return Batch(x, x_lens, y, y_lens, ids, texts, key, ends, targets, language=common_language(cuts))

    @property
    def computes(self) -> bool:
        """Whether features are computed from audio."""
        return self._extractor is not None

    def _features(self, cut: Cut, name: str) -> np.ndarray:
        """(T, F) float32; T = 0 for audio shorter than one frame. ``name`` is the cut's `drawn_as`."""
        if not has_frame(cut.duration):
            return no_frames(self._num_mel_bins)
        try:
            # Dev and test sets have stored features although those of shards of audio are computed.
            is_stored = self._extractor is None or (cut.has_features and not self._from_audio)
            features = self._stored(cut, name) if is_stored else self._computed(cut, name)
        except AudioError as error:
            raise UserError(f"{cut.id}: {error}") from error
        except (OSError, ValueError, AssertionError) as error:
            # lhotse appends the whole cut to its message.
            reason = str(error).partition("[extra info]")[0].strip()
            raise UserError(
                f"{cut.id}: stored features cannot be read from {cut.features.storage_path} ({reason}); "
                "run stage 2 again (slimasr-features)"
            ) from error
        if features.shape[1] != self._num_mel_bins:
            raise UserError(
                f"{cut.id}: has {features.shape[1]} mel bins, features.num_mel_bins is {self._num_mel_bins}"
            )
        return features

    def _stored(self, cut: Cut, name: str) -> np.ndarray:
        features: np.ndarray = cut.load_features()
        return features if self._changes is None else self._changes.features(name, features)

    def _computed(self, cut: Cut, name: str) -> np.ndarray:
        assert self._extractor is not None
        samples = load_samples(cut)
        if self._changes is not None:
            samples = self._changes.samples(name, samples, cut.sampling_rate)
        return extract_frames(self._extractor, samples, cut.sampling_rate, cut.duration)


def _pad(rows: Sequence[torch.Tensor], value: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad rows of different lengths to (N, longest, ...) and return their (N,) int64 lengths."""
    lens = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value), lens


def load_batches(numbered: Iterable[tuple[int, CutSet]], collator: Collator, num_workers: int) -> Iterator[Batch]:
    """Yield the batch of every (number, cuts), in the given order.

    Args:
        num_workers: processes that make batches ahead; 0 = this process makes them.
    """
    loader: DataLoader[Batch] = DataLoader(
        collator,
        # Batching is off: each (number, cuts) is an index, with which the loader calls `Collator.__getitem__`.
        batch_size=None,
        sampler=numbered,
        num_workers=num_workers,
        # The default function would convert the batch's fields; a lambda could not be sent to workers.
        collate_fn=_as_it_is,
        # Without this, every epoch would draw a number from torch's global generator, and a resumed run would differ.
        generator=torch.Generator().manual_seed(0),
        pin_memory=torch.cuda.is_available(),
    )
    yield from loader


def _as_it_is(batch: Any) -> Any:
    return batch
