"""Stage 5 as a whole: evaluate subnets, measure the best ones in full, and write the results."""

from __future__ import annotations

import time
from dataclasses import dataclass

from slimasr.energy import measure_energy
from slimasr.errors import UserError
from slimasr.experiment.archive import read_candidates
from slimasr.progress import Notes, Progress, silent, unread
from slimasr.results.search import Summary
from slimasr.search.energy import metered
from slimasr.search.finalists import choose_finalists, measure_finalists, write_front, write_summary
from slimasr.search.search import Job
from slimasr.search.workers import run_workers
from slimasr.supernet.front import Limits, Measurement, best_under


@dataclass(frozen=True)
class SearchResult:
    """What a search has found.

    Attributes:
        set_name: the dev set.
        cost: the cost of the Pareto front.
        candidates: every subnet that has a WER, those measured in full first.
        finalists: the subnets measured in full, by this run or an earlier one.
        front: the Pareto front, cheapest first.
        limits: upper bounds on the costs of the best subnet.
        summary: content of ``search/summary.json``.
        pathways: names of the pathways of the space.
    """

    set_name: str
    cost: str
    candidates: list[Measurement]
    finalists: list[Measurement]
    front: list[Measurement]
    limits: Limits
    summary: Summary
    pathways: tuple[str, ...] = ()

    def best(self, language: str = "") -> Measurement:
        """Return the subnet with the lowest dev WER within the limits.

        Args:
            language: the language of the speech, where several have pathways.

        Raises:
            UserError: no subnet meets the limits; the message names the nearest one.
        """
        return best_under(self.candidates, self.limits, language)


def run_search(
    job: Job,
    *,
    workers: int = 1,
    limits: Limits = Limits(),
    progress: Progress = silent,
    notes: Notes = unread,
) -> SearchResult:
    """Search an experiment's subnets, or resume a search that was interrupted.

    Each outcome is stored in the study at once. The record for other stages, ``results.json`` and ``search/*.json``, is
    written at the end.

    Args:
        job: the experiment, its data and the study.
        workers: number of single-threaded worker processes; 1 = this process.
        limits: upper bounds on the costs of the best subnet, in addition to ``search.limits``.
        progress: shows how many candidates were evaluated, and how many finalists.
        notes: receives what could not be verified and what is unusual about the dev set, before the search begins.

    Raises:
        UserError: the experiment, its dev set, the database or the profile of a device cannot be used, or no subnet
            meets ``search.limits``.
    """
    if limits.latency is not None and job.latency is None:
        raise UserError("--max-latency-ms needs the profile of a device: name it by --latency PROFILE")
    start = time.monotonic()
    search = job.open()
    experiment = search.experiment
    config = experiment.config
    notes(experiment.notes)
    notes(job.notes(search))
    # The history also holds what other machines are evaluating, so this run may do less than the progress bar expects.
    left = max(0, search.generator().total() - len(search.study.history()))
    evaluated = run_workers(job, search, workers) if workers > 1 else search.work()
    gpus = 1 if experiment.model.feature_mean.is_cuda else 0
    with measure_energy(config.search.energy, gpus) as meter:
        # Iterating does the work: `evaluated` is a generator.
        done = sum(1 for _ in metered(progress(evaluated, left, "search"), experiment.dir, meter))
        history = search.write_candidates()
        chosen = choose_finalists(search, history)
        # The front is written twice. Measuring the finalists takes minutes: if the run is killed meanwhile, this first
        # front, with counted costs alone, serves other stages. The second one adds time and memory.
        write_front(search, history, ())
        measured = progress(measure_finalists(search, chosen), len(chosen), "front")
        finalists = list(metered(measured, experiment.dir, meter))
    front = write_front(search, history, finalists)
    minutes = (time.monotonic() - start) / 60
    summary = write_summary(search, history, done=done, minutes=minutes, workers=workers)
    # From the files, as other stages read them: finalists first, with time and memory.
    candidates = read_candidates(experiment)
    pathways = experiment.space.pathways
    every_limit = limits.tightened(search.feasible.limits)
    return SearchResult(
        config.data.dev, config.search.cost, candidates, finalists, front, every_limit, summary, pathways
    )
