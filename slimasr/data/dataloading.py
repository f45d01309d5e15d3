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
from slimasr.data.audio import AudioError, load_samples
from slimasr.data.batch import Batch
from slimasr.data.features import read_stats
from slimasr.data.files import BadUtterance, DataFolder
from slimasr.data.filters import EncoderFrames, conv_encoder_frames
from slimasr.data.musan import MUSAN_SET
from slimasr.data.sampling import Hearing, Place, count_batches, pack, plan_epoch
from slimasr.data.shards import make_extractor
from slimasr.data.tokenizer import Tokenizer
from slimasr.data.training_cuts import read_feature_cuts, read_training_cuts
from slimasr.errors import UserError


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
        encoder_frames: EncoderFrames = conv_encoder_frames,
    ) -> None:
        """Read the training manifests.

        Args:
          seed: default ``config.seed``.
          key: supervision field that all utterances of a batch share (`Method.batch_key`).
          encoder_frames: feature frames -> encoder frames, to tell which utterances have an alignment.

        Raises:
          UserError: stage 2 has not run or ran with other settings; above ``data.max_bad_share`` unusable.
        """
        read_stats(config, data_dir)
        self._config = config
        self._folder = DataFolder(data_dir)
        self._tokenizer = tokenizer
        self._seed = config.seed if seed is None else seed
        self._place = Place(rank, world_size)
        self._cuts = read_training_cuts(config, self._folder, tokenizer, encoder_frames, key)
        self._noise = _read_noise(config, self._folder)

    @property
    def bad_utterances(self) -> tuple[BadUtterance, ...]:
        """Training utterances left out by any stage so far, with reasons."""
        return self._cuts.bad

    @property
    def num_utterances(self) -> int:
        """Training utterances of an epoch, over all ranks."""
        return len(self._cuts.ids)

    def train_batches(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Batches of an epoch for this rank, from the one numbered ``skip`` (from 0) on."""
        hearings = self._cuts.of_epoch(self._seed, epoch)
        plan = plan_epoch(hearings, self._config.data, self._seed, epoch, self._place)
        numbered = ((number, self._cuts_of(batch)) for number, batch in enumerate(plan) if number >= skip)
        mixer = None
        if self._noise is not None and self._config.data.musan is not None:
            mixer = NoiseMixer(self._noise, self._config.data.musan, f"{self._seed}/{epoch}/{self._place.rank}")
        keys = None if self._cuts.keys is None else [batch[0].key for batch in plan]
        yield from _load(numbered, Collator(self._config, self._tokenizer, mixer, keys), self._config.data.num_workers)

    def num_train_batches(self, epoch: int) -> int:
        """Batches of an epoch, the same on all ranks; draws and reads nothing."""
        hearings = self._cuts.of_epoch(self._seed, epoch)
        return count_batches(hearings, self._config.data, self._place.world_size)

    def worst_batches(self) -> list[Batch]:
        """The batches that need most memory, at the lowest speed: longest utterances, and largest lattice."""
        data = self._config.data
        packed = pack(self._cuts.slowest(), data.batch_seconds, data.max_cuts)
        tokens = {name: len(self._tokenizer.encode(self._text(name))) for name in self._cuts.ids}
        sizes = [len(b) * b[0].duration * (1 + max(tokens[item.id] for item in b)) for b in packed]
        collate = Collator(self._config, self._tokenizer)
        return [collate[0, self._cuts_of(packed[number])] for number in sorted({0, sizes.index(max(sizes))})]

    def eval_batches(self, set_name: str, max_seconds: float) -> Iterator[Batch]:
        """A whole set, the same on all ranks, as `eval_batches` gives it."""
        return eval_batches(self._config, self._folder.root, set_name, self._tokenizer, max_seconds)

    def _cuts_of(self, batch: Sequence[Hearing]) -> CutSet:
        return CutSet.from_items([self._cuts.cut(hearing) for hearing in batch])

    def _text(self, name: str) -> str:
        text: str = next(iter(self._cuts.stored.values()))[name].supervisions[0].text
        return text


def eval_batches(
    config: Config, data_dir: Path, set_name: str, tokenizer: Tokenizer, max_seconds: float
) -> Iterator[Batch]:
    """Every utterance of a set once, longest first, in batches of at most ``max_seconds`` with padding.

    Nothing is left out: unknown characters become ``<unk>``, and audio that cannot be read is a `UserError`.
    """
    read_stats(config, data_dir)
    cuts = read_feature_cuts(DataFolder(data_dir), set_name)
    packed = pack(list(cuts), max_seconds)
    yield from _load(enumerate(map(CutSet.from_items, packed)), Collator(config, tokenizer), config.data.num_workers)


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
    ) -> None:
        self._num_mel_bins = config.features.num_mel_bins
        self._extractor: Fbank | None = None
        if config.data.storage == "on_the_fly":
            self._extractor = make_extractor(config.features.num_mel_bins, config.data.sampling_rate)
        self._tokenizer = tokenizer
        self._mixer = mixer
        self._keys = keys

    def __getitem__(self, item: tuple[int, CutSet]) -> Batch:
        number, clean = item
        cuts = list(clean if self._mixer is None else self._mixer(number, clean))
        texts = tuple(cut.supervisions[0].text for cut in cuts)
        x, x_lens = _pad([torch.from_numpy(self._features(cut)) for cut in cuts], LOG_EPSILON)
        y, y_lens = _pad([torch.tensor(self._tokenizer.encode(text), dtype=torch.int64) for text in texts], 0)
        key = None if self._keys is None else self._keys[number]
        return Batch(x, x_lens, y, y_lens, tuple(cut.id for cut in cuts), texts, key)

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


def _read_noise(config: Config, folder: DataFolder) -> CutSet | None:
    return None if config.data.musan is None else read_feature_cuts(folder, MUSAN_SET)
