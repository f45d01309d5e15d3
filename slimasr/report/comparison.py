"""Paired comparisons of systems over sets and seeds, from the errors that each made on every utterance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from slimasr.report.pairs import Pair, System, all_pairs
from slimasr.report.records import Run, Study, SubnetRecord
from slimasr.scoring.bootstrap import REPLICATIONS

_CHUNK = 500


def compare_all(study: Study, dev: str, tests: Sequence[str]) -> list[dict[str, Any]]:
    """Every comparison that a claim or table asks for and the runs allow, as plain JSON data."""
    wanted: dict[tuple[System, System], Pair] = {}
    for pair in all_pairs(study.runs):
        wanted.setdefault((pair.a, pair.b), pair)
    found = (_compare(p.a, p.b, study, tests if p.chosen else (dev, *tests)) for p in wanted.values())
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


def _compare(a: System, b: System, study: Study, sets: Sequence[str]) -> dict[str, Any] | None:
    pairs = [(x, y) for x in _of(study.runs, a) for y in _of(study.runs, b) if x[0].seed == y[0].seed]
    common = [s for s in sets if pairs and all(_knows(x, s) and _knows(y, s) for (_, x), (_, y) in pairs)]
    if not common:
        return None
    counts = []
    for name in common:
        words = np.array([*study.utterances[name].values()]) * len(pairs)
        sums = (sum(np.array(pair[side][1].wer[name].by_utterance) for pair in pairs) for side in (0, 1))
        counts.append(np.stack([*sums, words]))
    errors_a, errors_b, words = np.concatenate(counts, axis=1)
    low, high = paired_interval(errors_a - errors_b, words)
    return {
        "a": {"role": a[0], "subnet": a[1]},
        "b": {"role": b[0], "subnet": b[1]},
        "sets": common,
        "seeds": sorted(x.seed for (x, _), _ in pairs),
        "words": int(words.sum()),
        "wer_a": 100.0 * float(errors_a.sum() / words.sum()),
        "wer_b": 100.0 * float(errors_b.sum() / words.sum()),
        "delta": 100.0 * float((errors_a - errors_b).sum() / words.sum()),
        "ci95": [low, high],
    }


def _of(runs: Sequence[Run], system: System) -> list[tuple[Run, SubnetRecord]]:
    role, subnet = system
    found = ((run, run.subnet(subnet)) for run in runs if run.role == role)
    return [(run, record) for run, record in found if record is not None]


def _knows(record: SubnetRecord, set_name: str) -> bool:
    """Whether the errors on every utterance of a set are known."""
    return set_name in record.wer and bool(record.wer[set_name].by_utterance)
