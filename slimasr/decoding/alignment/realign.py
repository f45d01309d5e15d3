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
import torch.nn.functional as F
from torch import Tensor

from slimasr.data.timelines.timeline import SILENCE_UNIT, WORD_BOUNDARY, Timeline, spans_of_runs
from slimasr.decoding.alignment.frame_classifier import ClassifierOptions, FrameClassifier, Frames, train_classifier
from slimasr.errors import UserError
from slimasr.losses.ctc_alignment import best_label_path

SILENCE_CLASS = 0
"""Class of frames without a unit."""

UTTERANCES_AT_ONCE = 32
"""Best paths are found for so many utterances at a time."""

REACH = 40
"""Frames of 10 ms by which a unit may move away from the alignment with which realignment began. A model of whole
utterances knows which unit is where, but not when it begins; a classifier that sees a few frames confuses units that
sound alike, and without a limit one of them can swallow a word."""


@dataclass(frozen=True)
class Utterance:
    """An utterance to be aligned.

    Attributes:
        x: (T, F) log-mel features.
        timeline: its present timeline.
        source: the timeline with which realignment began.
    """

    x: Tensor
    timeline: Timeline
    source: Timeline


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
    """How well a classifier distinguishes the frames of an alignment, on the dev set.

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

    Raises:
        UserError: there is nothing to train on, or no dev utterance has only the units of the training utterances.
    """
    options = options or ClassifierOptions()
    inventory = Inventory.of(item.timeline for item in train)
    dev = [item for item in dev if inventory.classes_of(item.timeline.units) is not None]
    if not train or not dev:
        raise UserError("--realign: needs training and dev utterances with an alignment, of the same characters")
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
        by_class = (self.classifier.log_posteriors(frames) - self.prior).split(frames.lengths)
        scores = [self._by_unit(item, rows) for item, rows in zip(utterances, by_class, strict=True)]
        counts = torch.tensor([rows.shape[1] - 1 for rows in scores])
        widest = int(counts.max())
        padded = [F.pad(rows, (0, widest + 1 - rows.shape[1])) for rows in scores]
        # Every unit of an utterance is a label of its own, so that equal neighbours need no silence between them.
        labels = torch.arange(1, widest + 1).expand(len(utterances), -1)
        paths, totals = best_label_path(
            torch.nn.utils.rnn.pad_sequence(padded, batch_first=True),
            torch.tensor(frames.lengths),
            labels,
            counts,
            SILENCE_CLASS,
        )
        for item, path, count, total in zip(utterances, paths.tolist(), counts.tolist(), totals.tolist(), strict=True):
            if not count or total == float("-inf"):
                yield item
                continue
            spans = spans_of_runs(path[: len(item.x)], count, 1, item.timeline.frames)
            yield replace(item, timeline=_with_spans(item.timeline, spans))

    def _by_unit(self, item: Utterance, by_class: Tensor) -> Tensor:
        """(T, V) scores of classes -> (T, 1 + units with a sound) scores of silence and units, -inf out of `REACH`."""
        labels = self._labels(item.timeline)
        scores = by_class[:, [SILENCE_CLASS, *labels]]
        if item.source.aligned and labels:
            spoken = [unit != WORD_BOUNDARY for unit in item.source.units]
            starts = torch.from_numpy(item.source.starts[spoken])
            ends = torch.from_numpy(item.source.ends[spoken])
            moments = torch.arange(len(scores)).unsqueeze(1)
            outside = (moments < starts - REACH) | (moments >= ends + REACH)
            scores[:, 1:] = scores[:, 1:].masked_fill(outside, float("-inf"))
        return scores

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
