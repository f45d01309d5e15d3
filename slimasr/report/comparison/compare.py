"""Compare systems over sets and seeds; comparisons are paired if the errors on every utterance are known of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

import numpy as np

from slimasr.report.comparison.pairs import Pair, System
from slimasr.report.comparison.pooled import compare_parts
from slimasr.report.comparison.rates import Rate
from slimasr.report.records import Run, Study, SubnetRecord
from slimasr.results.report import ComparisonEntry, PhonemeDifference, SystemEntry
from slimasr.scoring.bootstrap import difference_interval

References = Mapping[str, Mapping[str, int]]
"""Set -> utterance -> words or phonemes of its reference."""

Measured = tuple[Run, SubnetRecord]
"""One seed of a system: the run, and the record of the subnet in it."""


def compare_all(
    study: Study,
    pairs: Iterable[Pair],
    dev: str,
    tests: Sequence[str],
    earlier: Iterable[ComparisonEntry] = (),
) -> list[ComparisonEntry]:
    """Make every wanted comparison that the runs allow.

    A set is left out if the two systems were decoded on it by different searches: the difference would be the
    search's.

    Args:
        study: the runs, with the errors on every utterance as far as they are known.
        pairs: the wanted comparisons. Of two pairs of the same systems the first one counts.
        dev: name of the dev set.
        tests: names of the test sets.
        earlier: comparisons made earlier, of hypotheses that are no longer available. They are preferred to intervals
            that take the systems as independent.
    """
    wanted: dict[tuple[System, System], Pair] = {}
    for pair in pairs:
        wanted.setdefault((pair.a, pair.b), pair)
    known = {(entry.a.name, entry.b.name): entry for entry in earlier}
    found = []
    for (a, b), pair in wanted.items():
        if pair.parts:
            whole = compare_parts(study, pair)
            found += [] if whole is None else [whole]
            continue
        # A search chose the subnet for its errors on dev, so that its WER there is biased.
        candidates = tests if pair.chosen else (dev, *tests)
        sets = [name for name in candidates if _decoded_alike(a, b, study, name)]
        # The narrowest interval first.
        entry = _paired(a, b, study, sets)
        if entry is None:
            entry = _earlier(known.get((a, b)), sets)
        if entry is None:
            entry = _independent(a, b, study, sets)
        if entry is not None:
            per = _by_phonemes(entry, study)
            found.append(entry if per is None else entry.model_copy(update={"per": per}))
    return found


def _by_phonemes(entry: ComparisonEntry, study: Study) -> PhonemeDifference | None:
    """Compare the systems of an entry by their phoneme errors, over its sets and seeds; None if not all are known."""
    pairs = [pair for pair in _by_seed(entry.a.name, entry.b.name, study) if pair[0][0].seed in entry.seeds]
    rates = [record.per.get(name) for pair in pairs for _, record in pair for name in entry.sets]
    if not pairs or not all(rate is not None and rate.by_utterance for rate in rates):
        return None
    both = [(first.per, second.per) for (_, first), (_, second) in pairs]
    errors_a, errors_b, phonemes = counts = _counts(both, study.phonemes, entry.sets)
    if counts.shape[1] < 2:
        return None
    number = int(phonemes.sum())
    per_a, per_b = (100.0 * float(errors.sum()) / number for errors in (errors_a, errors_b))
    interval = difference_interval(errors_a - errors_b, phonemes)
    return PhonemeDifference(phonemes=number, per_a=per_a, per_b=per_b, delta=per_a - per_b, ci95=interval)


def _earlier(entry: ComparisonEntry | None, sets: Sequence[str]) -> ComparisonEntry | None:
    """An earlier comparison, if it is over no other sets than those that may be compared now."""
    if entry is None or not set(entry.sets) <= set(sets):
        return None
    return entry


def _paired(a: System, b: System, study: Study, sets: Sequence[str]) -> ComparisonEntry | None:
    """Compare by the errors on every utterance, over all seeds that both systems have.

    Returns:
        None if these errors are not known, or if there is a single utterance, which has no interval.
    """
    pairs = _by_seed(a, b, study)
    if not pairs:
        return None
    records = [record for pair in pairs for _, record in pair]
    common = [name for name in sets if all(_knows(record, name) for record in records)]
    if not common:
        return None
    both = [(first.wer, second.wer) for (_, first), (_, second) in pairs]
    errors_a, errors_b, words = counts = _counts(both, study.utterances, common)
    if len(words) < 2:
        return None
    seeds = sorted(run.seed for (run, _), _ in pairs)
    return _entry(a, b, common, seeds, counts, difference_interval(errors_a - errors_b, words))


def _counts(
    both: Sequence[tuple[Mapping[str, Rate], Mapping[str, Rate]]], references: References, sets: Sequence[str]
) -> np.ndarray:
    """(3, N): errors of both systems and reference units on every utterance, summed over the seeds.

    Seeds of one utterance are summed, not concatenated: they are no independent samples of speech. The utterances of
    all sets are resampled together.

    Args:
        both: the error rates of both systems by set, seed by seed.
        references: units of the references.
        sets: names of the sets.
    """
    parts = []
    for name in sets:
        units = np.array(list(references[name].values())) * len(both)
        errors_a = np.sum([first[name].by_utterance for first, _ in both], axis=0)
        errors_b = np.sum([second[name].by_utterance for _, second in both], axis=0)
        parts.append(np.stack([errors_a, errors_b, units]))
    return np.concatenate(parts, axis=1)


def _independent(a: System, b: System, study: Study, sets: Sequence[str]) -> ComparisonEntry | None:
    """Compare by the intervals of the two WERs, for the first common seed, as if the errors were independent.

    They are not: the same utterances are hard for both systems, so that the interval is wider than a paired one.
    """
    pairs = _by_seed(a, b, study)
    if not pairs:
        return None
    (run, first), (_, second) = pairs[0]
    common = [name for name in sets if _has_interval(first, name) and _has_interval(second, name)]
    if not common:
        return None
    wers = [(first.wer[name], second.wer[name]) for name in common]
    # (3, sets), as for single utterances above.
    counts = np.array([[ours.errors, theirs.errors, ours.units] for ours, theirs in wers]).T
    errors_a, errors_b, words = counts
    # Half-widths as numbers of errors (times 100) rather than rates: those of independent sums add up as squares.
    halves = np.array([0.5 * (wer.high - wer.low) * wer.units for both in wers for wer in both])
    middle = 100.0 * float((errors_a - errors_b).sum() / words.sum())
    half = float(np.sqrt(np.square(halves).sum()) / words.sum())
    entry = _entry(a, b, common, [run.seed], counts, (middle - half, middle + half))
    return entry.model_copy(update={"paired": False})


def _entry(
    a: System,
    b: System,
    sets: Sequence[str],
    seeds: Sequence[int],
    counts: np.ndarray,
    interval: tuple[float, float],
) -> ComparisonEntry:
    """Make the entry of a comparison.

    Args:
        counts: (3, N) errors of both systems and reference words, over anything that can be summed.
        interval: ends of the difference's interval in points.
    """
    errors_a, errors_b, words = map(float, counts.sum(axis=1))
    return ComparisonEntry(
        a=SystemEntry(role=a[0], subnet=a[1]),
        b=SystemEntry(role=b[0], subnet=b[1]),
        sets=tuple(sets),
        seeds=tuple(seeds),
        words=int(words),
        wer_a=100.0 * errors_a / words,
        wer_b=100.0 * errors_b / words,
        delta=100.0 * (errors_a - errors_b) / words,
        ci95=interval,
    )


def _by_seed(a: System, b: System, study: Study) -> list[tuple[Measured, Measured]]:
    """Both systems, once for every seed that both were trained with."""
    found = []
    for ours, theirs in product(_of(study.runs, a), _of(study.runs, b)):
        if ours[0].seed == theirs[0].seed:
            found.append((ours, theirs))
    return found


def _of(runs: Sequence[Run], system: System) -> list[Measured]:
    """The runs of a system, one per seed, each with its record."""
    role, subnet = system
    found = [(run, run.subnet(subnet)) for run in runs if run.role == role]
    return [(run, record) for run, record in found if record is not None]


def _decoded_alike(a: System, b: System, study: Study, set_name: str) -> bool:
    """Whether all runs of both systems that were decoded on a set were decoded by one search."""
    records = [record for system in (a, b) for _, record in _of(study.runs, system)]
    decodings = {record.wer[set_name].decoding for record in records if set_name in record.wer}
    return len(decodings) <= 1


def _knows(record: SubnetRecord, set_name: str) -> bool:
    """Whether the errors on every utterance of a set are known."""
    return set_name in record.wer and bool(record.wer[set_name].by_utterance)


def _has_interval(record: SubnetRecord, set_name: str) -> bool:
    return set_name in record.wer and record.wer[set_name].interval is not None
