"""Align whole sets: from a source of timelines, over realignments, to a folder of alignments and tied states."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lhotse import CutSet

from slimasr.data.batches.collate import Collator, load_batches
from slimasr.data.files import DataFolder
from slimasr.data.memory.sampling import pack
from slimasr.data.memory.training_cuts import read_cuts_at
from slimasr.data.timelines.folder import (
    Origin,
    alignment_file,
    forget_set,
    read_alignments,
    write_alignments,
    write_facts,
)
from slimasr.data.timelines.states import States, build_states, digests_of_alignments, write_states
from slimasr.data.timelines.timeline import Timeline
from slimasr.decoding.alignment.realign import Aligner, PassFigures, Utterance, realign
from slimasr.decoding.alignment.sources import AlignmentData, Source, Timelines, features_at_natural_speed
from slimasr.locking import Lock

TRAIN_SECONDS = 3 * 3600.0
"""The frame classifier learns from at most so much audio, drawn at random from the training sets."""

UTTERANCES_AT_ONCE = 256
"""Features of so many utterances are in memory while a set is realigned."""


def align_sets(
    data: AlignmentData,
    source: Source,
    set_names: Sequence[str],
    times: int,
    report: Callable[[int, PassFigures], None],
) -> tuple[Origin, Iterator[tuple[str, Timelines]]]:
    """Find the timelines of some sets.

    Args:
        set_names: the sets to align.
        times: number of realignments; they need the training sets and the dev set, too.
        report: called with the figures of the source's alignment, then with those of each realignment.

    Returns:
        What made the timelines; then the name of each set with its timelines, which are found one set at a time.

    Raises:
        UserError: data are missing, or too few of its utterances have an alignment.
    """
    origin = source.origin
    if not times:
        return origin, ((name, source.timelines(data, name)) for name in set_names)
    section = data.config.data
    known = {name: source.timelines(data, name) for name in dict.fromkeys([*section.train, section.dev])}
    aligner = _trained(data, known, times, report)
    given = ((name, known[name] if name in known else source.timelines(data, name)) for name in set_names)
    realigned = ((name, _realigned(data, name, timelines, aligner)) for name, timelines in given)
    return replace(origin, realign=origin.realign + times), realigned


def write_sets(
    folder: Path,
    origin: Origin,
    fingerprints: Mapping[str, str],
    sets: Iterator[tuple[str, Timelines]],
    lock: Lock,
) -> Iterator[tuple[Path, int, int]]:
    """Write the timelines of sets.

    Args:
        fingerprints: name of each set -> its fingerprint (`slimasr.data.identity.digests.Identity`).
        lock: of the folder.

    Yields:
        Each file, the number of its utterances, and of those without times.
    """
    for name, timelines in sets:
        # Another process may have taken the lock over if this one was suspended for long.
        lock.verify()
        path = alignment_file(folder, name)
        forget_set(folder, name)
        write_alignments(path, timelines)
        write_facts(folder, origin, {name: fingerprints[name]})
        yield path, len(timelines), sum(not timeline.aligned for timeline in timelines.values())


def tie_states(data: AlignmentData, folder: Path, min_count: int) -> States:
    """Make tied states from the alignments of the training sets in a folder, and write them there."""
    names = data.config.data.train
    alignments = read_alignments(folder, names)
    states = build_states(alignments.timelines.values(), min_count, digests_of_alignments(folder, names))
    write_states(folder, states)
    return states


def _trained(
    data: AlignmentData, timelines: Mapping[str, Timelines], times: int, report: Callable[[int, PassFigures], None]
) -> Aligner:
    """Train on the training sets, from the timelines of these and the dev set; the aligner of the last realignment."""
    section = data.config.data
    train = [item for name in _drawn(data, section.train, timelines).items() for _, item in _utterances(data, *name)]
    dev = [item for _, item in _utterances(data, section.dev, timelines[section.dev])]
    aligners = []
    for number, (figures, aligner) in enumerate(realign(train, dev, times)):
        report(number, figures)
        aligners.append(aligner)
    # The last one has learnt from the last realignment, which the one before it has made.
    return aligners[-2]


def _drawn(data: AlignmentData, set_names: Sequence[str], timelines: Mapping[str, Timelines]) -> dict[str, Timelines]:
    """Of each set, the utterances from which the classifier learns: all that fit into `TRAIN_SECONDS`, by chance."""
    everything = [(set_name, name) for set_name in set_names for name in timelines[set_name]]
    random.Random(0).shuffle(everything)
    chosen: dict[str, Timelines] = {name: {} for name in set_names}
    left = TRAIN_SECONDS * 100
    for set_name, name in everything:
        timeline = timelines[set_name][name]
        if timeline.aligned and timeline.frames <= left:
            chosen[set_name][name] = timeline
            left -= timeline.frames
    return chosen


def _realigned(data: AlignmentData, set_name: str, timelines: Timelines, aligner: Aligner) -> Timelines:
    found = dict(timelines)
    waiting: list[tuple[str, Utterance]] = []

    def finish() -> None:
        items = aligner.realigned([item for _, item in waiting])
        found.update((name, item.timeline) for (name, _), item in zip(waiting, items, strict=True))
        waiting.clear()

    for named in _utterances(data, set_name, timelines, aligned=False):
        waiting.append(named)
        if len(waiting) == UTTERANCES_AT_ONCE:
            finish()
    finish()
    return found


def _utterances(
    data: AlignmentData, set_name: str, timelines: Mapping[str, Timeline], aligned: bool = True
) -> Iterator[tuple[str, Utterance]]:
    """Read the features of these utterances of a set; those without audio or, if ``aligned``, without times, are not.

    Yields:
        Utterance id and utterance.
    """
    config = data.config
    cuts = [
        cut
        for cut in read_cuts_at(config, DataFolder(data.root), set_name, 1.0)
        if cut.id in timelines and timelines[cut.id].frames and (timelines[cut.id].aligned or not aligned)
    ]
    packed = map(CutSet.from_items, pack(cuts, config.decoding.batch_seconds))
    for batch in load_batches(enumerate(packed), Collator(config, data.tokenizer), config.data.num_workers):
        for row, name in enumerate(batch.ids):
            timeline = timelines[name]
            # A copy, because a view would keep the padded batch in memory.
            x = batch.x[row, : int(batch.x_lens[row])].clone()
            yield name, Utterance(features_at_natural_speed(x, timeline.frames), timeline, timeline)
