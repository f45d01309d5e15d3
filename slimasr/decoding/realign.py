"""Realignment: train a small frame classifier on an alignment, take its best path, repeat.

The spikes of a CTC head and the emissions of a transducer say little about how long a unit lasts. A classifier that
sees a few frames has to find the sound of a unit, so its best path moves the boundaries there and finds the silence in
between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from slimasr.data.timeline import SILENCE_UNIT, WORD_BOUNDARY, Timeline, spans_of_runs
from slimasr.decoding.frame_classifier import ClassifierOptions, FrameClassifier, Frames, train_classifier
from slimasr.losses.ctc_alignment import best_label_path

SILENCE_CLASS = 0
"""Class of frames without a unit."""

UTTERANCES_AT_ONCE = 32
"""Best paths are found for so many utterances at a time."""


@dataclass(frozen=True)
class Utterance:
    """An utterance to be aligned.

    Attributes:
        x: (T, F) log-mel features.
        timeline: its present timeline.
    """

    x: Tensor
    timeline: Timeline


@dataclass(frozen=True)
class Inventory:
    """The classes of frames: silence, then the units in their order, without the word boundary, which has no sound."""

    units: tuple[str, ...]

    @classmethod
    def of(cls, timelines: Iterable[Timeline]) -> Inventory:
        """All units of some timelines."""
        units = {unit for timeline in timelines for unit in timeline.units}
        return cls(tuple(sorted(units - {WORD_BOUNDARY})))

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.units) + 1

    def classes_of(self, units: Sequence[str]) -> list[int] | None:
        """The class of each unit, silence for word boundaries; None if a unit is unknown."""
        index = {WORD_BOUNDARY: SILENCE_CLASS} | {unit: number for number, unit in enumerate(self.units, start=1)}
        classes = [index.get(unit) for unit in units]
        return None if None in classes else [number for number in classes if number is not None]

    def targets(self, timeline: Timeline) -> Tensor:
        """(T,) int64, the class of each feature frame."""
        assert SILENCE_UNIT == -1
        owners = np.asarray([*(self.classes_of(timeline.units) or ()), SILENCE_CLASS])
        return torch.from_numpy(owners[timeline.units_at(1, timeline.frames)])


@dataclass(frozen=True)
class PassFigures:
    """How well the frames of an alignment can be told apart, on the dev set.

    Attributes:
        entropy: unigram entropy of the targets in nats a frame.
        cross_entropy: cross-entropy of the classifier in nats a frame.
        accuracy: share of frames whose class the classifier finds.
        silence: share of frames without a unit.
        unit_seconds: mean length of a unit.
    """

    entropy: float
    cross_entropy: float
    accuracy: float
    silence: float
    unit_seconds: float

    def __str__(self) -> str:
        return (
            f"entropy {self.entropy:.2f}, dev cross-entropy {self.cross_entropy:.2f} nats a frame, "
            f"{100 * self.accuracy:.0f} % of frames right, {100 * self.silence:.0f} % silence, "
            f"{1000 * self.unit_seconds:.0f} ms a character"
        )


def realign(
    train: Sequence[Utterance],
    dev: Sequence[Utterance],
    times: int,
    options: ClassifierOptions | None = None,
) -> Iterator[tuple[PassFigures, Aligner]]:
    """Train on an alignment and realign, several times.

    Args:
        train, dev: utterances with an alignment, each with at least one frame.
        times: number of realignments; with 0, the given alignment is only judged.

    Yields:
        For the given alignment and after every realignment, the figures of a classifier that was trained on it, and the
        aligner made of this classifier.
    """
    options = options or ClassifierOptions()
    inventory = Inventory.of(item.timeline for item in train)
    dev = [item for item in dev if inventory.classes_of(item.timeline.units) is not None]
    frames = Frames.of([item.x for item in train], options.offsets)
    dev_frames = Frames.of([item.x for item in dev], options.offsets)
    for number in range(times + 1):
        targets = torch.cat([inventory.targets(item.timeline) for item in train])
        classifier = train_classifier(frames, targets, inventory.num_classes, options, seed=number)
        aligner = Aligner(classifier, inventory, log_prior(targets, inventory.num_classes), options)
        yield judge(classifier, dev, dev_frames, inventory), aligner
        if number < times:
            train, dev = aligner.realigned(train), aligner.realigned(dev)


def log_prior(targets: Tensor, num_classes: int) -> Tensor:
    """(V,) logarithm of the share of each class, one frame added to each so that none is impossible."""
    counts = torch.bincount(targets, minlength=num_classes).float() + 1.0
    return (counts / counts.sum()).log()


@dataclass(frozen=True)
class Aligner:
    """Finds the best path by posterior minus log prior, with optional silence between any two units."""

    classifier: FrameClassifier
    inventory: Inventory
    prior: Tensor
    options: ClassifierOptions

    def realigned(self, utterances: Sequence[Utterance]) -> list[Utterance]:
        """The utterances with new timelines; one that has no path keeps its own."""
        found: list[Utterance] = []
        for first in range(0, len(utterances), UTTERANCES_AT_ONCE):
            found += self._some(utterances[first : first + UTTERANCES_AT_ONCE])
        return found

    def _some(self, utterances: Sequence[Utterance]) -> Iterator[Utterance]:
        frames = Frames.of([item.x for item in utterances], self.options.offsets)
        scores = (self.classifier.log_posteriors(frames) - self.prior).split(frames.lengths)
        labels = [self._labels(item.timeline) for item in utterances]
        paths, totals = best_label_path(
            torch.nn.utils.rnn.pad_sequence(list(scores), batch_first=True),
            torch.tensor(frames.lengths),
            torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in labels], batch_first=True),
            torch.tensor([len(row) for row in labels]),
            SILENCE_CLASS,
            blank_between_repeats=False,
        )
        for item, path, row, total in zip(utterances, paths.tolist(), labels, totals.tolist(), strict=True):
            if not row or total == float("-inf"):
                yield item
                continue
            spans = spans_of_runs(path[: len(item.x)], len(row), 1, item.timeline.frames)
            yield replace(item, timeline=_with_spans(item.timeline, spans))

    def _labels(self, timeline: Timeline) -> list[int]:
        """The classes of the units that have a sound; none if one of them is unknown."""
        return [label for label in self.inventory.classes_of(timeline.units) or () if label != SILENCE_CLASS]


def _with_spans(timeline: Timeline, spans: Sequence[tuple[int, int]]) -> Timeline:
    """The timeline with new spans of the units that have a sound; a word boundary is the moment its word begins."""
    starts: list[int] = []
    ends: list[int] = []
    left = iter(spans)
    for unit in timeline.units:
        if unit != WORD_BOUNDARY:
            start, end = next(left)
            starts.append(start)
            ends.append(end)
            # The boundary in front of the first unit of a word still needs the start of this unit.
            if len(starts) > 1 and starts[-2] < 0:
                starts[-2] = ends[-2] = start
        else:
            starts.append(-1)
            ends.append(-1)
    return replace(timeline, starts=np.asarray(starts, dtype=np.int64), ends=np.asarray(ends, dtype=np.int64))


def judge(classifier: FrameClassifier, dev: Sequence[Utterance], frames: Frames, inventory: Inventory) -> PassFigures:
    """Compare a classifier with the alignment of the dev set."""
    targets = torch.cat([inventory.targets(item.timeline) for item in dev])
    posteriors = classifier.log_posteriors(frames)
    shares = torch.bincount(targets).double() / len(targets)
    units = sum(unit != WORD_BOUNDARY for item in dev for unit in item.timeline.units)
    spoken = int((targets != SILENCE_CLASS).sum())
    return PassFigures(
        entropy=float(torch.special.entr(shares).sum()),
        cross_entropy=-float(posteriors.gather(1, targets.unsqueeze(1)).double().mean()),
        accuracy=float((posteriors.argmax(dim=1) == targets).double().mean()),
        silence=float((targets == SILENCE_CLASS).double().mean()),
        unit_seconds=0.01 * spoken / max(1, units),
    )
