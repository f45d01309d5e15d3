"""The training utterances that a recipe can use, at every training speed, as records and compressed lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut

from slimasr.config.schema import Config
from slimasr.data.batches.filters import EncoderFrames
from slimasr.data.features.shards import at_speed
from slimasr.data.files import BadUtterance, DataFolder, read_cuts
from slimasr.data.identity.provenance import stored_speed
from slimasr.data.memory.read_records import read_records
from slimasr.data.memory.samples import Labels, Samples
from slimasr.data.memory.sampling import speeds_of
from slimasr.data.memory.stored_cuts import LazyCuts, StoredCuts, cut_of
from slimasr.data.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class TrainingCuts:
    """Usable training utterances.

    Attributes:
        ids: utterances in the order of the manifests.
        speeds: ``data.speeds``.
        stored: speed -> the cuts at this speed; with on-the-fly features, only speed 1.
        tokens: (N,) int32, number of tokens of each transcript.
        spoken: language of each utterance; an empty name for those without one.
        bad: utterances that any stage so far has left out.
        keys: batch key of each utterance; None = batches are mixed.
    """

    ids: Sequence[str]
    speeds: tuple[float, ...]
    stored: dict[float, StoredCuts]
    tokens: np.ndarray
    spoken: Labels
    bad: tuple[BadUtterance, ...]
    keys: Labels | None = None

    @property
    def languages(self) -> dict[str, int]:
        """Language -> number of utterances; an empty name for those without a language."""
        counts = np.bincount(self.spoken.codes, minlength=len(self.spoken.values)).tolist()
        return dict(zip(self.spoken.values, counts, strict=True))

    @property
    def features(self) -> Path:
        """Folder to which paths of features are relative."""
        return next(iter(self.stored.values())).features

    def cuts(self, samples: Samples) -> CutSet:
        """The cuts of these utterances at their speeds, which are made when they are iterated over."""
        lines, changes = [], []
        for row, speed in zip(samples.rows.tolist(), samples.speeds.tolist(), strict=True):
            # With on-the-fly features only speed 1 is stored.
            is_stored = speed in self.stored
            lines.append(self.stored[speed if is_stored else 1.0].line(row))
            changes.append(1.0 if is_stored else speed)
        return CutSet(LazyCuts(lines, changes, self.features))

    def stored_cuts(self) -> Iterator[tuple[Cut, float]]:
        """The cut of every utterance at one of the stored speeds, with this speed."""
        speed, stored = next(iter(self.stored.items()))
        return ((cut_of(stored.line(row), stored.features), speed) for row in range(len(self.ids)))

    def of_epoch(self, seed: int, epoch: int, chosen: Samples | None = None, again: str = "") -> Samples:
        """Every utterance once, at the speed that was drawn for it in this epoch.

        Args:
            chosen: the utterances of these samples instead of all.
            again: which repetition within the epoch; empty = the first occurrence.
        """
        rows = np.arange(len(self.ids)) if chosen is None else chosen.rows
        names = self.ids if chosen is None else chosen.ids
        return self._samples(rows, speeds_of(names, self.speeds, seed, epoch, again))

    def slowest(self) -> Samples:
        """Every utterance once, at its longest duration."""
        speeds = np.full(len(self.ids), min(self.speeds), dtype=np.float64)
        return self._samples(np.arange(len(self.ids)), speeds)

    def _samples(self, rows: np.ndarray, speeds: np.ndarray) -> Samples:
        durations = np.empty(len(rows), dtype=np.float64)
        for speed in self.speeds:
            here = np.flatnonzero(speeds == speed)
            stored = self.stored.get(speed)
            # lhotse's perturbed cut of a speed that is not stored has this duration up to rounding.
            seconds = self.stored[1.0].durations / speed if stored is None else stored.durations
            durations[here] = seconds[rows[here]]
        return Samples(self.ids, rows, speeds, durations, self.keys)


def read_training_cuts(
    config: Config,
    folder: DataFolder,
    tokenizer: Tokenizer,
    encoder_frames: EncoderFrames,
    key: str | None = None,
) -> TrainingCuts:
    """Read the cuts of stage 2 and leave out utterances that cannot be used for training at one of the speeds.

    Args:
        key: supervision field by which batches are grouped.

    Raises:
        UserError: stage 2 has not run, no utterance is usable, or more than ``data.max_bad_share`` are unusable.
    """
    records = read_records(config, folder, tokenizer, encoder_frames, key)
    return TrainingCuts(
        records.ids,
        tuple(config.data.speeds),
        records.stored,
        np.frombuffer(records.tokens, dtype=np.int32),
        Labels.of(records.languages),
        tuple(records.bad),
        None if key is None else Labels.of(records.keys),
    )


def read_feature_cuts(folder: DataFolder, set_name: str, speed: float = 1.0) -> CutSet:
    """The cuts that stage 2 wrote, with absolute paths of their features."""
    cuts = read_cuts(folder.cuts(set_name, speed), "stage 2 (slimasr-features)")
    # Manifests hold relative paths, so that the data folder can be moved.
    return CutSet.from_cuts(cut.with_features_path_prefix(folder.features) if cut.has_features else cut for cut in cuts)


def read_cuts_at(config: Config, folder: DataFolder, set_name: str, speed: float) -> CutSet:
    """A set at a training speed."""
    cuts = read_feature_cuts(folder, set_name, stored_speed(config, speed))
    if config.data.storage == "precomputed":
        return cuts
    return CutSet.from_cuts(at_speed(cut, speed) for cut in cuts)
