"""The record of a search: what is worth deploying, measured in full, and what the search took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from scipy.stats import spearmanr

from slimasr.errors import UserError
from slimasr.experiment.archive import read_archive
from slimasr.experiment.checkpoints import fingerprint
from slimasr.locking import Lock, file_lock, folder_lock
from slimasr.measure.quality import Quality, wer_entry
from slimasr.results.schema import Results, SearchedEntry, SubnetEntry
from slimasr.results.search import FoundEntry, Front, Summary
from slimasr.results.store import change_results, read_results, update_results
from slimasr.search.history import History
from slimasr.search.run import Search
from slimasr.supernet.front import Measurement, best_under, find_front
from slimasr.supernet.subnet import Subnet

FEWEST_CORRELATED = 3
"""A rank correlation of fewer subnets than this says nothing."""


def choose_finalists(search: Search, history: History) -> list[Subnet]:
    """What goes into results.json: all subnets after an exhaustive search, else max, the front downwards, and min.

    Max and min are there, where they were looked at, also if they are above a limit: the others are compared to them.

    Raises:
        UserError: no subnet meets the limits; names the nearest.
    """
    config, space, limits = search.experiment.config.search, search.experiment.space, search.feasible.limits
    measured = history.within(limits).measured
    if not measured:
        best_under([Measurement(c.subnet, 0.0, None, c.costs) for c in history.finished], limits)
        raise UserError("the search has measured no subnet")
    ends, allowed = (space.max, space.min), {candidate.subnet for candidate in measured}
    if config.kind == "exhaustive":
        return [subnet for subnet in space if subnet in allowed or (subnet in ends and subnet in history)]
    front = find_front((c.measurement() for c in measured), config.cost)
    chosen = dict.fromkeys([space.max, *(m.subnet for m in reversed(front)), space.min])
    return [subnet for subnet in chosen if subnet in history]


def measure_finalists(search: Search, subnets: Sequence[Subnet]) -> Iterator[Measurement]:
    """Put subnets into results.json with WER, interval, loss, all costs and time.

    What was measured under the same conditions is not measured again. Entries of other weights are dropped: they
    describe nothing that exists. Of several searches of one study, one measures and the others wait for its results.
    """
    lock = search.experiment.dir / "search" / "finalists.lock"
    with folder_lock(lock, "slimasr-search, which measures the front", wait=True) as held:
        yield from _measure_finalists(search, subnets, held)


def _measure_finalists(search: Search, subnets: Sequence[Subnet], lock: Lock) -> Iterator[Measurement]:
    exp, weights = search.experiment.dir, fingerprint(search.experiment.dir / "final.pt")
    _drop_others(search, weights)
    known = {measurement.subnet: measurement for measurement in read_archive(exp, search.conditions)}
    history = search.study.history()
    for subnet in subnets:
        if subnet not in known:
            candidate = history.get(subnet)
            quality = search.evaluator.quality(subnet)
            costs = _costs(search, subnet, {} if candidate is None else candidate.costs)
            entry = _entry(search, subnet, quality, costs, weights)
            lock.verify()
            update_results(exp, Results(subnets={subnet.id: entry}))
            known[subnet] = Measurement(subnet, quality.wer.wer, quality.loss, costs)
        yield known[subnet]


def write_front(search: Search, history: History, finalists: Sequence[Measurement]) -> list[Measurement]:
    """Write ``search/front.json``, with the costs that the finalists have, and give the front, cheapest first."""
    config = search.experiment.config
    full = {measurement.subnet: measurement for measurement in finalists}
    within = history.within(search.feasible.limits)
    front = find_front((c.measurement() for c in within.measured), config.search.cost)
    front = [full.get(measurement.subnet, measurement) for measurement in front]
    content = Front(
        set_name=config.data.dev,
        cost=config.search.cost,
        weights=fingerprint(search.experiment.dir / "final.pt"),
        data=search.dev_data,
        measured=len(history.finished),
        front=tuple(map(FoundEntry.of, front)),
    )
    content.write(search.experiment.dir)
    return front


def write_summary(search: Search, history: History, *, done: int, minutes: float, workers: int) -> Summary:
    """Write ``search/summary.json``: how fast the search was, and how long beside the training.

    A run that found nothing left to do leaves it as it is. A run that was killed has left no time behind, but its
    evaluations have: the search took at least as long as any of them ran.

    Args:
        done: candidates of this run.
        minutes: wall clock of this run, front and record included.
    """
    exp = search.experiment.dir
    now = _summary(search, history, workers)
    busy_minutes = search.study.busy_seconds() / 60
    with file_lock(exp / Summary.PLACE):
        before = Summary.read(exp)
        if before is not None and not _continues(now, before):
            before = None
        if before is not None and not done and before.candidates == now.candidates:
            return before
        spent = max((0.0 if before is None else before.minutes) + minutes, busy_minutes)
        summary = now.model_copy(update={"minutes": spent, "per_minute": now.candidates / spent})
        summary.write(exp)
    return summary


def _continues(now: Summary, before: Summary) -> bool:
    """Whether an earlier summary is of the same search; what older versions did not note counts as equal."""
    return (
        now.weights == before.weights
        and before.int8 in (None, now.int8)
        and before.decoding in (None, now.decoding)
        and before.data in (None, now.data)
    )


def rank_correlation(subnets: Mapping[str, SubnetEntry], front: Sequence[str], dev: str, test: str) -> float | None:
    """Spearman's rank correlation of dev and test WER over the front: how far the dev set can be trusted to rank.

    Args:
        subnets: ``subnets`` of results.json.
        front: ids.

    Returns:
        None where fewer than three of them were decoded on the test set, or all are equal on one of the sets.
    """
    scored = [subnets[name].wer for name in front if name in subnets]
    both = [wers for wers in scored if dev in wers and test in wers]
    on_dev = [wers[dev].wer for wers in both]
    on_test = [wers[test].wer for wers in both]
    if len(both) < FEWEST_CORRELATED or len(set(on_dev)) == 1 or len(set(on_test)) == 1:
        return None
    return float(spearmanr(on_dev, on_test).statistic)


def _costs(search: Search, subnet: Subnet, known: Mapping[str, float]) -> dict[str, float]:
    """All costs of a subnet: those counted, those that the search has measured, and time, which may be known yet."""
    counted = {**search.feasible.costs(subnet), **known}
    return counted if "rtf" in counted else {**counted, **search.measure_runtime(subnet)}


def _entry(search: Search, subnet: Subnet, quality: Quality, costs: Mapping[str, float], weights: str) -> SubnetEntry:
    experiment, config = search.experiment, search.experiment.config
    return SubnetEntry(
        subnet=subnet,
        costs=costs,
        dev_loss=quality.loss,
        wer={config.data.dev: wer_entry(quality, experiment.checkpoint, config.decoding, search.dev_data)},
        search=SearchedEntry(
            wer=quality.wer.wer,
            dev_loss=quality.loss,
            weights=weights,
            int8=config.search.int8,
            decoding=search.conditions.decoding,
            data=search.dev_data,
        ),
    )


def _summary(search: Search, history: History, workers: int) -> Summary:
    """What the summary says without the runs before this one; the time that all of them took is filled in later."""
    conditions = search.conditions
    return Summary(
        generator=search.experiment.config.search.kind,
        candidates=len(history.finished),
        stopped_early=len(history.select("stopped")),
        space=search.experiment.space.count(),
        minutes=0.0,
        evaluation_minutes=search.study.seconds() / 60,
        per_minute=0.0,
        train_minutes=read_results(search.experiment.dir).train_minutes,
        workers=workers,
        weights=fingerprint(search.experiment.dir / "final.pt"),
        int8=conditions.int8,
        decoding=conditions.decoding,
        data=conditions.data,
    )


def _drop_others(search: Search, weights: str) -> None:
    def drop(results: Results) -> Results:
        kept = {
            name: entry
            for name, entry in results.subnets.items()
            if entry.search is None or entry.search.weights == weights
        }
        return results.model_copy(update={"subnets": kept}) if len(kept) < len(results.subnets) else results

    change_results(search.experiment.dir, drop)
