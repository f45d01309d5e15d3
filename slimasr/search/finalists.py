"""The record of a search: the best subnets, measured in full, and the time that the search took."""

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
from slimasr.search.study import PREDICTED
from slimasr.supernet.front import Limits, Measurement, find_front, no_subnet_meets
from slimasr.supernet.subnet import Subnet


def choose_finalists(search: Search, history: History) -> list[Subnet]:
    """Choose the subnets that go into results.json.

    After an exhaustive search these are all subnets; after any other, max, the Pareto front from its largest subnet
    down, and min. Max and min are included if they were evaluated, even if they exceed a limit, because the others are
    compared with them.

    Raises:
        UserError: no subnet meets the limits; the message names the nearest one.
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
    # Max and min may be on the front too: the dictionary keeps each subnet once, in its first place.
    chosen = dict.fromkeys([space.max, *largest_first, space.min])
    return [subnet for subnet in chosen if subnet in history]


def _nothing_measured(history: History, limits: Limits) -> UserError:
    """Return the error for a search that measured no subnet within the limits."""
    # If every evaluated subnet exceeds a limit, the limits are the reason; their nearest subnet helps the user.
    evaluated = {candidate.subnet: candidate.costs for candidate in history.finished}
    if evaluated and not any(limits.allow(costs) for costs in evaluated.values()):
        return no_subnet_meets(limits, evaluated)
    return UserError("the search has measured no subnet")


def measure_finalists(search: Search, subnets: Sequence[Subnet]) -> Iterator[Measurement]:
    """Measure subnets in full, and write WER, interval, loss and all costs to results.json.

    Subnets that were measured under the same conditions before are not measured again. Entries of other weights are
    dropped, because those weights no longer exist. If several searches share one study, one of them measures and the
    others wait for its results.

    Yields:
        The measurement of every subnet, in the order of ``subnets``.
    """
    path = search.experiment.dir / "search" / "finalists.lock"
    with folder_lock(path, "slimasr-search, which measures the front", wait=True) as lock:
        yield from _measure_finalists(search, subnets, lock)


def _measure_finalists(search: Search, subnets: Sequence[Subnet], lock: Lock) -> Iterator[Measurement]:
    # Read after the lock was acquired: the process that held it may have measured everything in the meantime.
    _drop_others(search)
    _record_latency(search)
    archive = read_archive(search.experiment, search.conditions)
    known = {measurement.subnet: measurement for measurement in archive}
    history = search.study.history()
    for subnet in subnets:
        if subnet not in known:
            candidate = history.get(subnet)
            quality = search.evaluator.quality(subnet)
            known_costs = {} if candidate is None else candidate.costs
            costs = _costs(search, subnet, known_costs)
            # Measuring takes a while. If the lock was lost meanwhile, another process is writing these entries.
            lock.verify()
            entry = _entry(search, subnet, quality, costs)
            update_results(search.experiment.dir, Results(subnets={subnet.id: entry}))
            known[subnet] = Measurement(subnet, quality.wer.wer, quality.loss, costs)
        yield known[subnet]


def write_front(search: Search, history: History, finalists: Sequence[Measurement]) -> list[Measurement]:
    """Write ``search/front.json``, with all costs of the finalists, and return the Pareto front, cheapest first."""
    config = search.experiment.config
    in_full = {measurement.subnet: measurement for measurement in finalists}
    within = history.within(search.feasible.limits)
    front = find_front((candidate.measurement() for candidate in within.measured), config.search.cost)
    # Finalists also have time and memory; before they are measured, the front has the costs of the search alone.
    front = [in_full.get(measurement.subnet, measurement) for measurement in front]
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

    A run that found nothing left to do keeps the summary as it is. A run that was killed has written no time to it, but
    the study holds the times of its evaluations: the search took at least as long as they did.

    Args:
        search: the search.
        history: what it found.
        done: number of candidates that this run evaluated.
        minutes: wall-clock time of this run, including the measurement of the finalists.
        workers: number of worker processes of this run.
    """
    exp = search.experiment.dir
    now = _summary(search, history, workers)
    busy_minutes = search.study.busy_seconds() / 60
    with file_lock(exp / Summary.PLACE):
        before = Summary.read(exp)
        # Times of a search of other weights or under other conditions are not added to those of this one.
        if before is not None and not _continues(now, before):
            before = None
        if before is not None and not done and before.candidates == now.candidates:
            return before
        spent = max((0.0 if before is None else before.minutes) + minutes, busy_minutes)
        summary = now.model_copy(update={"minutes": spent, "per_minute": now.candidates / spent})
        summary.write(exp)
    return summary


def _continues(now: Summary, before: Summary) -> bool:
    """Return whether an earlier summary is of the same search; fields that older versions lack count as equal."""
    return (
        now.weights == before.weights
        and before.int8 in (None, now.int8)
        and before.decoding in (None, now.decoding)
        and before.data in (None, now.data)
    )


def _costs(search: Search, subnet: Subnet, known: Mapping[str, float]) -> dict[str, float]:
    """Return all costs of a subnet; ``known`` are those that the search has already measured."""
    costs = {**search.feasible.costs(subnet), **known}
    # Searches whose cost or limit is the RTF measure time and memory of every candidate.
    if "rtf" in costs:
        return costs
    return {**costs, **search.measure_runtime(subnet)}


def _entry(search: Search, subnet: Subnet, quality: Quality, costs: Mapping[str, float]) -> SubnetEntry:
    """Return the entry of a subnet in results.json.

    The WER is written twice. Under ``wer``, later commands may replace it, for example by one of another decoding; what
    the search has found stays under ``search``.
    """
    experiment = search.experiment
    config = experiment.config
    return SubnetEntry(
        subnet=subnet,
        costs=costs,
        dev_loss=quality.loss,
        wer={config.data.dev: wer_entry(quality, experiment.checkpoint, search.conditions.decoding, search.dev_data)},
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
    """Return the summary without the total time of all runs, which `write_summary` adds."""
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


def _record_latency(search: Search) -> None:
    """Write the device to results.json, and its latency to all entries of the space, in place of another device's."""
    latency = search.latency
    if latency is None:
        return
    space = search.experiment.space

    def record(results: Results) -> Results:
        subnets: dict[str, SubnetEntry] = {}
        for name, entry in results.subnets.items():
            costs = {cost: value for cost, value in entry.costs.items() if cost not in PREDICTED}
            if entry.subnet in space:
                costs |= latency.costs(space.canonical(entry.subnet))
            subnets[name] = entry.model_copy(update={"costs": costs})
        return results.model_copy(update={"subnets": subnets, "latency_device": latency.device})

    change_results(search.experiment.dir, record)


def _drop_others(search: Search) -> None:
    """Drop the entries of results.json that a search of other weights has made."""
    weights = search.experiment.weights_digest

    def drop(results: Results) -> Results:
        kept: dict[str, SubnetEntry] = {}
        for name, entry in results.subnets.items():
            # Entries without a search were written by other commands.
            if entry.search is None or entry.search.weights == weights:
                kept[name] = entry
        if len(kept) == len(results.subnets):
            return results
        return results.model_copy(update={"subnets": kept})

    change_results(search.experiment.dir, drop)
