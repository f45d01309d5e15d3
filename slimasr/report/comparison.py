"""Comparisons of systems over sets and seeds, paired where the errors that each made on every utterance are known."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from slimasr.report.pairs import Pair, System, all_pairs
from slimasr.report.records import Run, Study, SubnetRecord
from slimasr.results.report import ComparisonEntry, SystemEntry
from slimasr.scoring.bootstrap import REPLICATIONS

Measured = tuple[Run, SubnetRecord]

_CHUNK = 500


def compare_all(
    study: Study, dev: str, tests: Sequence[str], told: Sequence[ComparisonEntry] = ()
) -> list[ComparisonEntry]:
    """Every comparison that a claim or table asks for and the runs allow.

    Sets that the two systems were decoded on by different searches are left out: the difference would be the search's.

    Args:
        told: comparisons made earlier, of hypotheses that are no longer at hand; they count for more than intervals
            that take the systems as independent.
    """
    wanted: dict[tuple[System, System], Pair] = {}
    for pair in all_pairs(study.runs):
        wanted.setdefault((pair.a, pair.b), pair)
    known = {(entry.a.name, entry.b.name): entry for entry in told}
    found = []
    for key, pair in wanted.items():
        sets = [s for s in (tests if pair.chosen else (dev, *tests)) if _decoded_alike(*key, study, s)]
        earlier = known.get(key)
        if earlier is not None and not set(earlier.sets) <= set(sets):
            earlier = None
        found.append(_paired(*key, study, sets) or earlier or _independent(*key, study, sets))
    return [entry for entry in found if entry is not None]


def paired_interval(
    more_errors: np.ndarray, words: np.ndarray, replications: int = REPLICATIONS, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of ``100 * sum(more_errors) / sum(words)`` over resampled utterances, in
    points.

    Args:
        more_errors: (N,) errors of the first system minus those of the second, per utterance.
        words: (N,) reference words per utterance. With several seeds both are sums over seeds: an utterance is
            drawn with all its seeds, as its difficulty is common to them.
    """
    rng = np.random.default_rng(seed)
    samples = []
    for start in range(0, replications, _CHUNK):
        drawn = rng.integers(len(words), size=(min(_CHUNK, replications - start), len(words)))
        drawn_words = words[drawn].sum(axis=1)
        kept = drawn_words > 0
        samples.append(100.0 * more_errors[drawn].sum(axis=1)[kept] / drawn_words[kept])
    low, high = np.percentile(np.concatenate(samples), [2.5, 97.5])
    return float(low), float(high)


def _paired(a: System, b: System, study: Study, sets: Sequence[str]) -> ComparisonEntry | None:
    """By the errors on every utterance, over all seeds that both systems have.

    None where these errors are not known, and for a single utterance, which gives no interval.
    """
    pairs = _by_seed(a, b, study)
    common = [s for s in sets if pairs and all(_knows(x, s) and _knows(y, s) for (_, x), (_, y) in pairs)]
    if not common:
        return None
    counts = []
    for name in common:
        words = np.array([*study.utterances[name].values()]) * len(pairs)
        sums = (sum(np.array(pair[side][1].wer[name].by_utterance) for pair in pairs) for side in (0, 1))
        counts.append(np.stack([*sums, words]))
    errors_a, errors_b, words = np.concatenate(counts, axis=1)
    if len(words) < 2:
        return None
    ends = paired_interval(errors_a - errors_b, words)
    return _entry(a, b, common, sorted(x.seed for (x, _), _ in pairs), (errors_a, errors_b, words), ends)


def _independent(a: System, b: System, study: Study, sets: Sequence[str]) -> ComparisonEntry | None:
    """By the WERs' own intervals, of the first seed that both systems have, as if their errors were independent.

    They are not: both stumble over the same utterances, so that the interval is wider than a paired one.
    """
    pairs = _by_seed(a, b, study)
    if not pairs:
        return None
    (run, one), (_, two) = pairs[0]
    scored = {s: (one.wer[s], two.wer[s]) for s in sets if s in one.wer and s in two.wer}
    common = {s: wers for s, wers in scored.items() if all(w.interval is not None for w in wers)}
    if not common:
        return None
    errors_a, errors_b, words = np.array([[x.errors, y.errors, x.words] for x, y in common.values()]).T
    halves = np.array([[0.5 * (w.high - w.low) * w.words for w in wers] for wers in common.values()])
    middle = 100.0 * float((errors_a - errors_b).sum() / words.sum())
    half = float(np.sqrt(np.square(halves).sum()) / words.sum())
    ends = middle - half, middle + half
    entry = _entry(a, b, [*common], [run.seed], (errors_a, errors_b, words), ends)
    return entry.model_copy(update={"paired": False})


def _entry(
    a: System,
    b: System,
    sets: Sequence[str],
    seeds: Sequence[int],
    counts: tuple[np.ndarray, np.ndarray, np.ndarray],
    ends: tuple[float, float],
) -> ComparisonEntry:
    """``counts``: errors of both systems and reference words, over anything that can be summed."""
    errors_a, errors_b, words = (float(part.sum()) for part in counts)
    return ComparisonEntry(
        a=SystemEntry(role=a[0], subnet=a[1]),
        b=SystemEntry(role=b[0], subnet=b[1]),
        sets=tuple(sets),
        seeds=tuple(seeds),
        words=int(words),
        wer_a=100.0 * errors_a / words,
        wer_b=100.0 * errors_b / words,
        delta=100.0 * (errors_a - errors_b) / words,
        ci95=ends,
    )


def _by_seed(a: System, b: System, study: Study) -> list[tuple[Measured, Measured]]:
    """Both systems, once for every seed that both were trained with."""
    pairs = product(_of(study.runs, a), _of(study.runs, b))
    return [(x, y) for x, y in pairs if x[0].seed == y[0].seed]


def _of(runs: Sequence[Run], system: System) -> list[Measured]:
    role, subnet = system
    found = ((run, run.subnet(subnet)) for run in runs if run.role == role)
    return [(run, record) for run, record in found if record is not None]


def _decoded_alike(a: System, b: System, study: Study, set_name: str) -> bool:
    """Whether all runs of both systems that were decoded on a set were decoded by one search."""
    records = (record for system in (a, b) for _, record in _of(study.runs, system))
    return len({record.wer[set_name].decoding for record in records if set_name in record.wer}) <= 1


def _knows(record: SubnetRecord, set_name: str) -> bool:
    """Whether the errors on every utterance of a set are known."""
    return set_name in record.wer and bool(record.wer[set_name].by_utterance)
