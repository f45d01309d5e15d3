"""The record of a search: the subnets worth deploying, measured in full, and what the search took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from slimasr.errors import UserError
from slimasr.experiment.archive import read_archive
from slimasr.locking import Lock, file_lock, folder_lock
from slimasr.measure.quality import Quality, wer_entry
from slimasr.results.schema import Results, SearchedEntry, SubnetEntry
from slimasr.results.search import FoundEntry, Front, Summary
from slimasr.results.store import change_results, read_results, update_results
from slimasr.search.history import History
from slimasr.search.search import Search
from slimasr.supernet.front import Limits, Measurement, find_front, no_subnet_meets
from slimasr.supernet.subnet import Subnet


def choose_finalists(search: Search, history: History) -> list[Subnet]:
    """The subnets that go into results.json.

    After an exhaustive search these are all subnets; else max, the Pareto front from its largest subnet down, and min.
    Max and min are among them if they were evaluated, even above a limit: the others are compared with them.

    Raises:
        UserError: no subnet meets the limits; names the nearest.
    """
    config = search.experiment.config.search
    space = search.experiment.space
    limits = search.feasible.limits
    measured = history.within(limits).measured
    if not measured:
        raise _nothing_measured(history, limits)
    if config.kind == "exhaustive":
        wanted = {candidate.subnet for candidate in measured}
        wanted |= {subnet for subnet in (space.max, space.min) if subnet in history}
        # In the order of the space, largest first, as tables list them.
        return [subnet for subnet in space if subnet in wanted]
    front = find_front((candidate.measurement() for candidate in measured), config.cost)
    largest_first = [measurement.subnet for measurement in reversed(front)]
    chosen = dict.fromkeys([space.max, *largest_first, space.min])
    return [subnet for subnet in chosen if subnet in history]


def _nothing_measured(history: History, limits: Limits) -> UserError:
    """The error that no subnet within the limits was measured."""
    evaluated = {candidate.subnet: candidate.costs for candidate in history.finished}
    if evaluated and not any(limits.allow(costs) for costs in evaluated.values()):
        return no_subnet_meets(limits, evaluated)
    return UserError("the search has measured no subnet")


def measure_finalists(search: Search, subnets: Sequence[Subnet]) -> Iterator[Measurement]:
    """Put subnets into results.json with WER, interval, loss, all costs and time.

    Subnets that were measured under the same conditions are not measured again. Entries of other weights are dropped:
    they describe nothing that exists. Of several searches of one study, one measures and the others wait for its
    results.
    """
    lock = search.experiment.dir / "search" / "finalists.lock"
    with folder_lock(lock, "slimasr-search, which measures the front", wait=True) as held:
        yield from _measure_finalists(search, subnets, held)


def _measure_finalists(search: Search, subnets: Sequence[Subnet], lock: Lock) -> Iterator[Measurement]:
    _drop_others(search)
    archive = read_archive(search.experiment, search.conditions)
    known = {measurement.subnet: measurement for measurement in archive}
    history = search.study.history()
    for subnet in subnets:
        if subnet not in known:
            candidate = history.get(subnet)
            quality = search.evaluator.quality(subnet)
            costs = _costs(search, subnet, {} if candidate is None else candidate.costs)
            # Measuring takes a while. If the lock was lost meanwhile, another process is writing these entries.
            lock.verify()
            update_results(search.experiment.dir, Results(subnets={subnet.id: _entry(search, subnet, quality, costs)}))
            known[subnet] = Measurement(subnet, quality.wer.wer, quality.loss, costs)
        yield known[subnet]


def write_front(search: Search, history: History, finalists: Sequence[Measurement]) -> list[Measurement]:
    """Write ``search/front.json``, with all costs of the finalists, and return the Pareto front, cheapest first."""
    config = search.experiment.config
    # Finalists have time and memory too; candidates have counted costs alone.
    full = {measurement.subnet: measurement for measurement in finalists}
    within = history.within(search.feasible.limits)
    front = find_front((candidate.measurement() for candidate in within.measured), config.search.cost)
    front = [full.get(measurement.subnet, measurement) for measurement in front]
    content = Front(
        set_name=config.data.dev,
        cost=config.search.cost,
        weights=search.experiment.weights_digest,
        data=search.dev_data,
        measured=len(history.finished),
        front=tuple(map(FoundEntry.of, front)),
    )
    content.write(search.experiment.dir)
    return front


def write_summary(search: Search, history: History, *, done: int, minutes: float, workers: int) -> Summary:
    """Write ``search/summary.json``: how fast the search was, and how long it took compared with the training.

    A run that found nothing left to do keeps the summary as it is. A run that was killed has recorded no time, but its
    evaluations have: the search took at least as long as any of them ran.

    Args:
        search: the search.
        history: what it found.
        done: candidates of this run.
        minutes: wall clock of this run, front and record included.
        workers: number of worker processes of this run.
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


def _costs(search: Search, subnet: Subnet, known: Mapping[str, float]) -> dict[str, float]:
    """All costs of a subnet; ``known`` are those that the search has measured already."""
    counted = {**search.feasible.costs(subnet), **known}
    if "rtf" in counted:
        return counted
    return {**counted, **search.measure_runtime(subnet)}


def _entry(search: Search, subnet: Subnet, quality: Quality, costs: Mapping[str, float]) -> SubnetEntry:
    """The entry of a subnet in results.json."""
    experiment = search.experiment
    config = experiment.config
    return SubnetEntry(
        subnet=subnet,
        costs=costs,
        dev_loss=quality.loss,
        wer={config.data.dev: wer_entry(quality, experiment.checkpoint, config.decoding, search.dev_data)},
        search=SearchedEntry(
            wer=quality.wer.wer,
            dev_loss=quality.loss,
            weights=experiment.weights_digest,
            int8=config.search.int8,
            decoding=search.conditions.decoding,
            data=search.dev_data,
        ),
    )


def _summary(search: Search, history: History, workers: int) -> Summary:
    """The summary without the runs before this one; the time that all of them took is filled in later."""
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
        weights=search.experiment.weights_digest,
        int8=conditions.int8,
        decoding=conditions.decoding,
        data=conditions.data,
    )


def _drop_others(search: Search) -> None:
    """Drop the entries of results.json that a search of other weights has made."""
    weights = search.experiment.weights_digest

    def drop(results: Results) -> Results:
        kept = {
            name: entry
            for name, entry in results.subnets.items()
            if entry.search is None or entry.search.weights == weights
        }
        return results.model_copy(update={"subnets": kept}) if len(kept) < len(results.subnets) else results

    change_results(search.experiment.dir, drop)
