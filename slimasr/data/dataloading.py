"""From cuts to batches: training epochs that follow from seed and epoch alone, evaluation sets in full."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lhotse import CutSet, Fbank
from lhotse.cut import Cut
from lhotse.dataset import CutMix
from lhotse.utils import LOG_EPSILON
from torch.utils.data import DataLoader, Dataset

from slimasr.config.schema import Config, MusanConfig
from slimasr.data.alignments import Alignments, read_alignments
from slimasr.data.audio import AudioError, load_samples
from slimasr.data.batch import Batch
from slimasr.data.files import MUSAN_SET, BadUtterance, DataFolder
from slimasr.data.filters import EncoderFrames
from slimasr.data.identity import check_audio_unchanged
from slimasr.data.provenance import check_features, stored_speed
from slimasr.data.sampling import EpochPart, Hearing, Place, count_batches, pack, plan_epoch, untrained
from slimasr.data.shards import make_extractor
from slimasr.data.tokenizer import Tokenizer
from slimasr.data.training_cuts import read_cuts_at, read_feature_cuts, read_training_cuts
from slimasr.errors import UserError

BatchFrames = Sequence[Sequence[np.ndarray]]
"""Batch by batch, utterance by utterance: the encoder frames of its tokens."""


class BatchSource:
    """Training batches of one recipe.

    What an epoch's batches hold follows from the seed, the epoch and the rank; a run that stopped in
    mid-epoch goes on with ``skip``. Iteration draws nothing from global random number generators.
    """

    def __init__(
        self,
        config: Config,
        data_dir: Path,
        tokenizer: Tokenizer,
        *,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        key: str | None = None,
        encoder_frames: EncoderFrames,
    ) -> None:
        """Read the training manifests.

        Args:
          seed: default ``config.seed``.
          key: supervision field that all utterances of a batch share (`Method.batch_key`).
          encoder_frames: feature frames -> encoder frames, to tell which utterances have an alignment.

        Raises:
          UserError: stage 2 has not run or ran with other settings; above ``data.max_bad_share`` unusable; an
            utterance of the train or dev sets lacks the alignment that ``loss.auxiliary`` needs.
        """
        self._config = config
        self._folder = DataFolder(data_dir)
        self._tokenizer = tokenizer
        self._seed = config.seed if seed is None else seed
        self._place = Place(rank, world_size)
        self._cuts = read_training_cuts(config, self._folder, tokenizer, encoder_frames, key)
        self._noise = _read_noise(config, self._folder)
        self._alignments = _read_all_alignments(config, self._folder, self._cuts.ids)

    @property
    def bad_utterances(self) -> tuple[BadUtterance, ...]:
        """Training utterances left out by any stage so far, with reasons."""
        return self._cuts.bad

    @property
    def num_utterances(self) -> int:
        """Training utterances of an epoch, over all ranks."""
        return len(self._cuts.ids)

    def train_batches(self, epoch: int, skip: int = 0, parts: Sequence[EpochPart] = ()) -> Iterator[Batch]:
        """Batches of an epoch for this rank, from the one numbered ``skip`` (from 0) on.

        Args:
          parts: earlier parts of the epoch; the batches hold, and ``skip`` counts, what these have left.
        """
        hearings = self._hearings(epoch, parts)
        plan = plan_epoch(hearings, self._config.data, self._seed, epoch, self._place)
        numbered = ((number, self._cuts_of(batch)) for number, batch in enumerate(plan) if number >= skip)
        mixer = None
        if self._noise is not None and self._config.data.musan is not None:
            mixer = NoiseMixer(self._noise, self._config.data.musan, f"{self._seed}/{epoch}/{self._place.rank}")
        keys = None if self._cuts.keys is None else [batch[0].key for batch in plan]
        collator = Collator(self._config, self._tokenizer, mixer, keys, self._frames_of(plan))
        yield from _load(numbered, collator, self._config.data.num_workers)

    def num_train_batches(self, epoch: int, parts: Sequence[EpochPart] = ()) -> int:
        """Batches of an epoch that its earlier parts have left, the same on all ranks; reads nothing."""
        return count_batches(self._hearings(epoch, parts), self._config.data, self._place.world_size)

    def worst_batches(self) -> list[Batch]:
        """The batches that need most memory, at the lowest speed: longest utterances, and largest lattice."""
        data = self._config.data
        packed = pack(self._cuts.slowest(), data.batch_seconds, data.max_cuts)
        tokens = {name: len(self._tokenizer.encode(self._text(name))) for name in self._cuts.ids}
        sizes = [len(b) * b[0].duration * (1 + max(tokens[item.id] for item in b)) for b in packed]
        collate = Collator(self._config, self._tokenizer, frames=self._frames_of(packed))
        return [collate[number, self._cuts_of(packed[number])] for number in sorted({0, sizes.index(max(sizes))})]

    def eval_batches(self, set_name: str, max_seconds: float) -> Iterator[Batch]:
        """A whole set, the same on all ranks, as `eval_batches` gives it."""
        return eval_batches(self._config, self._folder.root, set_name, self._tokenizer, max_seconds)

    def _hearings(self, epoch: int, parts: Sequence[EpochPart]) -> list[Hearing]:
        return untrained(self._cuts.of_epoch(self._seed, epoch), self._config.data, self._seed, epoch, parts)

    def _cuts_of(self, batch: Sequence[Hearing]) -> CutSet:
        return CutSet.from_items([self._cuts.cut(hearing) for hearing in batch])

    def _frames_of(self, plan: Sequence[Sequence[Hearing]]) -> BatchFrames | None:
        if self._alignments is None:
            return None
        return [[self._alignments.of(item.id, item.speed) for item in batch] for batch in plan]

    def _text(self, name: str) -> str:
        text: str = next(iter(self._cuts.stored.values()))[name].supervisions[0].text
        return text


def eval_batches(
    config: Config,
    data_dir: Path,
    set_name: str,
    tokenizer: Tokenizer,
    max_seconds: float,
    *,
    speed: float = 1.0,
    aligned: bool = False,
) -> Iterator[Batch]:
    """Every utterance of a set once, longest first, in batches of at most ``max_seconds`` with padding.

    Nothing is left out: unknown characters become ``<unk>``, and audio that cannot be read is a `UserError`.

    Args:
      speed: one of ``data.speeds``, for a training set as training hears it.
      aligned: the batches carry the alignments that ``loss.auxiliary`` names, if it names any.
    """
    folder = DataFolder(data_dir)
    check_features(config, folder, set_name, stored_speed(config, speed))
    cuts = list(read_cuts_at(config, folder, set_name, speed))
    check_audio_unchanged(cuts, set_name)
    packed = pack(cuts, max_seconds)
    frames = None
    if aligned and config.loss.auxiliary is not None:
        alignments = read_alignments(config.loss.auxiliary.alignments, [set_name], [speed])
        frames = [[alignments.of(cut.id, speed) for cut in batch] for batch in packed]
    collator = Collator(config, tokenizer, frames=frames)
    yield from _load(enumerate(map(CutSet.from_items, packed)), collator, config.data.num_workers)


@dataclass(frozen=True)
class NoiseMixer:
    """Mixes noise into a batch's cuts, from a generator of its own for every batch."""

    noise: CutSet
    config: MusanConfig
    seed: str

    def __call__(self, number: int, cuts: CutSet) -> CutSet:
        """The cuts, some with noise, under the same ids and of the same lengths."""
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
    """(number of the batch, its cuts) -> `Batch`, in the loader's workers where there are any."""

    def __init__(
        self,
        config: Config,
        tokenizer: Tokenizer,
        mixer: NoiseMixer | None = None,
        keys: Sequence[str | None] | None = None,
        frames: BatchFrames | None = None,
    ) -> None:
        """``keys``, ``frames``: by the number of the batch, what its `Batch.key` and `Batch.alignment` are made of."""
        self._num_mel_bins = config.features.num_mel_bins
        self._extractor: Fbank | None = None
        if config.data.storage == "on_the_fly":
            self._extractor = make_extractor(config.features.num_mel_bins, config.data.sampling_rate)
        self._tokenizer = tokenizer
        self._mixer = mixer
        self._keys = keys
        self._frames = frames

    def __getitem__(self, item: tuple[int, CutSet]) -> Batch:
        number, clean = item
        cuts = list(clean if self._mixer is None else self._mixer(number, clean))
        texts = tuple(cut.supervisions[0].text for cut in cuts)
        x, x_lens = _pad([torch.from_numpy(self._features(cut)) for cut in cuts], LOG_EPSILON)
        y, y_lens = _pad([torch.tensor(self._tokenizer.encode(text), dtype=torch.int64) for text in texts], 0)
        key = None if self._keys is None else self._keys[number]
        ids = tuple(cut.id for cut in cuts)
        alignment = None if self._frames is None else _alignment(self._frames[number], ids, y_lens)
        return Batch(x, x_lens, y, y_lens, ids, texts, key, alignment)

    def _features(self, cut: Cut) -> np.ndarray:
        """(T, F) float32."""
        try:
            if self._extractor is not None:
                samples = load_samples(cut)
                features: np.ndarray = self._extractor.extract(samples, cut.sampling_rate)
            else:
                features = cut.load_features()
        except AudioError as error:
            raise UserError(f"{cut.id}: {error}") from error
        except (OSError, ValueError, AssertionError) as error:
            raise UserError(f"{cut.id}: stored features cannot be read ({error}); run stage 2 again") from error
        if features.shape[1] != self._num_mel_bins:
            raise UserError(
                f"{cut.id}: has {features.shape[1]} mel bins, features.num_mel_bins is {self._num_mel_bins}"
            )
        return features


def _pad(rows: Sequence[torch.Tensor], value: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of different lengths -> (N, longest, ...), (N,) int64 lengths."""
    lens = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value), lens


def _alignment(frames: Sequence[np.ndarray], ids: Sequence[str], y_lens: torch.Tensor) -> torch.Tensor:
    """(N, U) as in `Batch`."""
    for name, row, tokens in zip(ids, frames, y_lens.tolist(), strict=True):
        if len(row) != tokens:
            raise UserError(f"{name}: has {tokens} tokens, its alignment {len(row)}: made with another tokenizer")
    return _pad([torch.from_numpy(row) for row in frames], -1)[0]


def _load(numbered: Iterable[tuple[int, CutSet]], collator: Collator, num_workers: int) -> Iterator[Batch]:
    loader: DataLoader[Batch] = DataLoader(
        collator,
        batch_size=None,
        sampler=numbered,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        # Else every epoch would draw a number from torch's global generator, and a resumed run would differ.
        generator=torch.Generator().manual_seed(0),
    )
    yield from loader


def _as_it_is(batch: Any) -> Any:
    return batch


def _read_all_alignments(config: Config, folder: DataFolder, ids: Sequence[str]) -> Alignments | None:
    """Alignments of the training sets, checked to be complete, as those of dev are."""
    if config.loss.auxiliary is None:
        return None
    place, data = config.loss.auxiliary.alignments, config.data
    read_alignments(place, [data.dev]).require(cut.id for cut in read_feature_cuts(folder, data.dev))
    alignments = read_alignments(place, data.train, data.speeds)
    alignments.require(ids)
    return alignments


def _read_noise(config: Config, folder: DataFolder) -> CutSet | None:
    return None if config.data.musan is None else read_feature_cuts(folder, MUSAN_SET)
