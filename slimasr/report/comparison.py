"""Paired comparisons of systems over sets and seeds, from the hypotheses that decoding left behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from slimasr.report.pairs import Pair, System, all_pairs
from slimasr.report.records import Run
from slimasr.scoring import Utterance, align
from slimasr.scoring.bootstrap import REPLICATIONS

Recogs = Callable[[Run, str, str], "list[Utterance] | None"]
"""(run, subnet id of the space, set name) -> utterances, None where that was not decoded."""

_CHUNK = 500


def compare_all(runs: Sequence[Run], dev: str, tests: Sequence[str], read: Recogs) -> list[dict[str, Any]]:
    """Every comparison that a claim or table asks for and the runs allow, as plain JSON data."""
    wanted: dict[tuple[System, System], Pair] = {}
    for pair in all_pairs(runs):
        wanted.setdefault((pair.a, pair.b), pair)
    found = (_compare(p.a, p.b, runs, tests if p.chosen else (dev, *tests), read) for p in wanted.values())
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


def _compare(a: System, b: System, runs: Sequence[Run], sets: Sequence[str], read: Recogs) -> dict[str, Any] | None:
    pairs = [(x, y) for x in _of(runs, a) for y in _of(runs, b) if x.seed == y.seed]
    common = [s for s in sets if pairs and all(read(x, a[1], s) and read(y, b[1], s) for x, y in pairs)]
    if not common:
        return None
    totals: dict[tuple[str, str], np.ndarray] = {}
    for set_name in common:
        for x, y in pairs:
            first = {u.id: u for u in read(x, a[1], set_name) or ()}
            second = {u.id: u for u in read(y, b[1], set_name) or ()}
            for utterance in sorted(first.keys() & second.keys()):
                one, two = first[utterance], second[utterance]
                counts = np.array([_errors(one), _errors(two), len(one.ref)])
                key = (set_name, utterance)
                totals[key] = totals.get(key, np.zeros(3, dtype=np.int64)) + counts
    errors_a, errors_b, words = np.stack(list(totals.values())).T
    low, high = paired_interval(errors_a - errors_b, words)
    return {
        "a": {"role": a[0], "subnet": a[1]},
        "b": {"role": b[0], "subnet": b[1]},
        "sets": common,
        "seeds": sorted(x.seed for x, _ in pairs),
        "words": int(words.sum()),
        "wer_a": 100.0 * float(errors_a.sum() / words.sum()),
        "wer_b": 100.0 * float(errors_b.sum() / words.sum()),
        "delta": 100.0 * float((errors_a - errors_b).sum() / words.sum()),
        "ci95": [low, high],
    }


def _of(runs: Sequence[Run], system: System) -> list[Run]:
    role, subnet = system
    return [run for run in runs if run.role == role and run.subnet(subnet) is not None]


def _errors(utterance: Utterance) -> int:
    return align(utterance).counts().errors
