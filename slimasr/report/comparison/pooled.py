"""Compare systems that consist of several subnets, each of which serves one language."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slimasr.report.comparison.languages import on_tests, units_in
from slimasr.report.comparison.pairs import Pair, Part, System
from slimasr.report.comparison.rates import Rate
from slimasr.report.records import Study
from slimasr.results.report import ComparisonEntry, SystemEntry
from slimasr.scoring.bootstrap import difference_interval


@dataclass(frozen=True)
class _Counts:
    """What both systems did on the utterances of a part.

    Attributes:
        sets: names of the test sets.
        counts: (3, N) errors of both systems and words of the references, summed over the seeds.
    """

    sets: tuple[str, ...]
    counts: np.ndarray


def compare_parts(study: Study, pair: Pair) -> ComparisonEntry | None:
    """Compare two systems by the errors on every utterance of the test sets of all parts, resampled together.

    Args:
        study: the runs.
        pair: two systems with parts.

    Returns:
        The comparison over the seeds that both systems have in all parts; None if there are none, or if the errors of
        a part are not known.
    """
    seeds = sorted(set.intersection(*(_seeds(study, part) for part in pair.parts)))
    found = [_counts(study, part, seeds) for part in pair.parts] if seeds else []
    if not found or not all(item is not None for item in found):
        return None
    known = [item for item in found if item is not None]
    errors_a, errors_b, words = counts = np.concatenate([item.counts for item in known], axis=1)
    # A single utterance has no interval.
    if counts.shape[1] < 2:
        return None
    total_a, total_b, total = (float(row.sum()) for row in counts)
    return ComparisonEntry(
        a=SystemEntry(role=pair.a[0], subnet=pair.a[1]),
        b=SystemEntry(role=pair.b[0], subnet=pair.b[1]),
        sets=tuple(dict.fromkeys(name for item in known for name in item.sets)),
        seeds=tuple(seeds),
        words=int(total),
        wer_a=100.0 * total_a / total,
        wer_b=100.0 * total_b / total,
        delta=100.0 * (total_a - total_b) / total,
        ci95=difference_interval(errors_a - errors_b, words),
    )


def _seeds(study: Study, part: Part) -> set[int]:
    """The seeds of which both systems of a part were measured in its language."""
    return _rates(study, part.a, part.language).keys() & _rates(study, part.b, part.language).keys()


def _rates(study: Study, system: System, language: str) -> dict[int, dict[str, Rate]]:
    """Seed -> the error rates of a system in a language, by test set."""
    role, subnet = system
    found = {}
    for run in study.with_role(role):
        record = run.subnet(subnet)
        rates = {} if record is None else on_tests(record, language)
        if rates:
            found[run.seed] = rates
    return found


def _counts(study: Study, part: Part, seeds: list[int]) -> _Counts | None:
    """The counts over the sets on which all seeds of both systems were measured alike; None if there are none."""
    rates = [_rates(study, system, part.language)[seed] for system in (part.a, part.b) for seed in seeds]
    names = [name for name in rates[0] if all(name in each for each in rates)]
    columns = []
    kept = []
    for name in names:
        units = units_in(study.utterances, name, part.language)
        measured = [each[name] for each in rates]
        is_known = units is not None and all(len(rate.by_utterance) == len(units) for rate in measured)
        # The difference between systems that were decoded by different searches would be the search's.
        if units is None or not is_known or len({rate.decoding for rate in measured}) > 1:
            continue
        errors = np.array([rate.by_utterance for rate in measured])
        words = np.array(list(units.values())) * len(seeds)
        columns.append(np.stack([errors[: len(seeds)].sum(axis=0), errors[len(seeds) :].sum(axis=0), words]))
        kept.append(name)
    return _Counts(tuple(kept), np.concatenate(columns, axis=1)) if columns else None
