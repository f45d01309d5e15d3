"""Training batches, which depend only on the seed, the epoch and the rank."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

from lhotse import CutSet

from slimasr.config.sampling import sampling_power
from slimasr.config.schema import Config
from slimasr.data.augmentation.augment import read_augmentation
from slimasr.data.batches.batch import Batch
from slimasr.data.batches.collate import Collator, NoiseMixer, load_batches
from slimasr.data.batches.evaluation import eval_batches
from slimasr.data.batches.filters import EncoderFrames
from slimasr.data.files import MUSAN_SET, BadUtterance, DataFolder
from slimasr.data.memory.samples import Samples, group_samples
from slimasr.data.memory.sampling import (
    EpochPart,
    RankInfo,
    count_batches,
    pack,
    plan_epoch,
    untrained,
)
from slimasr.data.memory.training_cuts import TrainingCuts, read_feature_cuts, read_training_cuts
from slimasr.data.memory.turns import Turns
from slimasr.data.timelines.batch import BatchLabels, LabelSource, open_labels
from slimasr.data.tokens.tokenizer import Tokenizer

__all__ = ["BatchSource", "eval_batches"]


class BatchSource:
    """Training batches of one recipe.

    The batches of an epoch are determined by the seed, the epoch and the rank. A run that stopped within an epoch
    resumes with ``skip``. Iteration does not use the global random number generators.
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
            seed: random seed; the default is ``config.seed``.
            key: supervision field that all utterances of a batch share (`Method.batch_key`).
            encoder_frames: feature frames -> encoder frames, which decides whether an utterance has an alignment.

        Raises:
            UserError: stage 2 has not run or ran with other settings; more than ``data.max_bad_share`` of the
                utterances are unusable; an utterance of the train or dev sets lacks the alignment that
                ``loss.alignments`` should hold.
        """
        self._config = config
        self._folder = DataFolder(data_dir)
        self._tokenizer = tokenizer
        self._seed = config.seed if seed is None else seed
        self._process = RankInfo(rank, world_size)
        self._cuts = read_training_cuts(config, self._folder, tokenizer, encoder_frames, key)
        self._noise = _read_noise(config, self._folder)
        self._augmentation = read_augmentation(config, self._folder)
        self._labels = _open_labels(config, self._folder, tokenizer, self._cuts)

    @property
    def bad_utterances(self) -> tuple[BadUtterance, ...]:
        """Training utterances that any stage so far has left out, with reasons."""
        return self._cuts.bad

    @property
    def unaligned(self) -> tuple[str, ...]:
        """Training utterances that lack the alignment which a loss needs; losses that need none still use them."""
        return () if self._labels is None else tuple(self._labels.alignments.missing(self._cuts.ids))

    @property
    def num_utterances(self) -> int:
        """Number of training utterances of an epoch, over all ranks."""
        return len(self._cuts.ids)

    @property
    def longest_seconds(self) -> float:
        """Length of the longest utterance in seconds at the lowest speed."""
        return float(self._cuts.slowest().durations.max())

    @property
    def languages(self) -> dict[str, int]:
        """Language -> number of training utterances; an empty name for those without a language."""
        return self._cuts.languages

    @property
    def keys(self) -> tuple[str, ...]:
        """The values of the batch key, sorted; empty if batches are mixed."""
        return () if self._cuts.keys is None else tuple(sorted(self._cuts.keys.values))

    def train_batches(self, epoch: int, skip: int = 0, parts: Sequence[EpochPart] = ()) -> Iterator[Batch]:
        """Yield the batches of an epoch for this rank, starting with number ``skip`` (counted from 0).

        Args:
            parts: earlier parts of the epoch; their utterances are left out, and ``skip`` counts the remaining batches.
        """
        turns = self._turns(parts)
        samples = self._samples(epoch, parts, turns)
        repeat = partial(self._cuts.of_epoch, self._seed, epoch)
        plan = plan_epoch(samples, self._config.data, self._seed, epoch, self._process, turns, repeat)
        # Skipped batches are planned but never read. Numbers count from the start of the epoch, skipped batches
        # included, because noise, keys and speeds are found by number.
        numbered = ((number, self._cuts.cuts(batch)) for number, batch in enumerate(plan) if number >= skip)
        mixer = None
        if self._noise is not None and self._config.data.musan is not None:
            mixer = NoiseMixer(self._noise, self._config.data.musan, f"{self._seed}/{epoch}/{self._process.rank}")
        changes = None if self._augmentation is None else self._augmentation.of(self._seed, epoch)
        collator = Collator(self._config, self._tokenizer, mixer, self._keys_of(plan), self._labels_of(plan), changes)
        yield from load_batches(numbered, collator, self._config.data.num_workers)

    def num_train_batches(self, epoch: int, parts: Sequence[EpochPart] = ()) -> int:
        """Number of batches that the earlier parts of an epoch have left, equal on all ranks; reads no files."""
        turns = self._turns(parts)
        samples = self._samples(epoch, parts, turns)
        return count_batches(samples, self._config.data, self._process.world_size, turns)

    def worst_batches(self) -> list[Batch]:
        """The batches that need most memory, at the lowest speed: the longest utterances and the largest lattice."""
        data = self._config.data
        slowest = self._cuts.slowest()
        groups = group_samples(slowest)
        packed = [batch for group in groups.values() for batch in pack(group, data.batch_seconds, data.max_cuts)]
        rows = {name: row for row, name in enumerate(self._cuts.ids)}
        batches = [slowest.take([rows[item.id] for item in batch]) for batch in packed]
        # A lattice has N * T * (U + 1) entries. The first utterance of each batch is its longest.
        lengths = [float(batch.durations[0]) for batch in batches]
        tokens = self._cuts.tokens
        sizes = [len(batch) * batch.durations[0] * (1 + int(tokens[batch.rows].max())) for batch in batches]
        largest = {lengths.index(max(lengths)), sizes.index(max(sizes))}
        collate = Collator(self._config, self._tokenizer, None, self._keys_of(batches), self._labels_of(batches))
        return [collate[number, self._cuts.cuts(batches[number])] for number in sorted(largest)]

    def eval_batches(self, set_name: str, max_seconds: float) -> Iterator[Batch]:
        """Yield a whole set, equal on all ranks, as `eval_batches` does."""
        return eval_batches(self._config, self._folder.root, set_name, self._tokenizer, max_seconds)

    def _samples(self, epoch: int, parts: Sequence[EpochPart], turns: Turns) -> Samples:
        samples = self._cuts.of_epoch(self._seed, epoch)
        # With sampling, `Turns.left` says how much is left of the epoch.
        if turns.power is not None:
            return samples
        return untrained(samples, self._config.data, self._seed, epoch, parts, turns)

    def _turns(self, parts: Sequence[EpochPart]) -> Turns:
        """How languages take turns in the rest of an epoch."""
        step_batches = self._config.training.accumulate
        power = sampling_power(self._config.data.language_sampling)
        # Without a choice of languages, each utterance occurs once.
        if power is None or len(self.keys) < 2:
            return Turns(step_batches)
        left = [Fraction(part.total - part.done, max(1, part.total)) for part in parts]
        return Turns(step_batches, power, math.prod(left, start=Fraction(1)), f"/{len(parts)}" if parts else "")

    def _keys_of(self, plan: Sequence[Samples]) -> list[str | None] | None:
        return None if self._cuts.keys is None else [batch[0].key for batch in plan]

    def _labels_of(self, plan: Sequence[Samples]) -> BatchLabels | None:
        if self._labels is None:
            return None
        return BatchLabels(self._labels, [batch.speeds.tolist() for batch in plan])


def _open_labels(config: Config, folder: DataFolder, tokenizer: Tokenizer, cuts: TrainingCuts) -> LabelSource | None:
    """Open the alignments of the training sets, after a check of those of the dev set."""
    if config.loss.alignments is None:
        return None
    # Before training starts; `eval_batches` reads the dev set's own alignments.
    dev = [(cut, 1.0) for cut in read_feature_cuts(folder, config.data.dev)]
    open_labels(config, tokenizer, [config.data.dev], dev)
    # Durations at one speed tell those at all of them.
    return open_labels(config, tokenizer, config.data.train, cuts.stored_cuts())


def _read_noise(config: Config, folder: DataFolder) -> CutSet | None:
    return None if config.data.musan is None else read_feature_cuts(folder, MUSAN_SET)
