"""The search: claim what the generator proposes, evaluate it, tell the study; then the record of what was found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from slimasr.decoding.decode import describe
from slimasr.experiment import Experiment
from slimasr.experiment.archive import Conditions
from slimasr.experiment.checkpoints import fingerprint
from slimasr.measure.quality import Batches, joined_features
from slimasr.measure.runtime import measure_runtime
from slimasr.results.search import Candidates, FoundEntry, StoppedEntry
from slimasr.search.database import Database, default_url
from slimasr.search.evaluator import Evaluator
from slimasr.search.feasible import Feasible, describe_space
from slimasr.search.generators import Generator, Proposal, build_generator
from slimasr.search.history import Candidate, History, error_bar
from slimasr.search.prefix import layer_keys
from slimasr.search.study import Outcome, Study
from slimasr.supernet.front import Limits, Measurement
from slimasr.supernet.subnet import Subnet

SHORTEST_WAIT, LONGEST_WAIT = 0.05, 1.0
"""Seconds between looks at what other workers have claimed; each look doubles them."""


@dataclass(frozen=True)
class Search:
    """One search over an experiment's subnets, as any number of workers run it.

    Attributes:
        experiment: what is searched.
        study: where everything found so far is kept.
        feasible: what may be proposed.
        dev_batches: gives the dev set.
        dev_data: fingerprint of the dev set.
    """

    experiment: Experiment
    study: Study
    feasible: Feasible
    dev_batches: Batches
    dev_data: str

    @classmethod
    def open(cls, experiment: Experiment, dev_batches: Batches, dev_data: str, storage: str | None = None) -> Search:
        """A search as the experiment's configuration describes it.

        Args:
            storage: URL of the database; default: ``search.storage``, else a file in the experiment.

        Raises:
            UserError: no subnet meets the limits, the database cannot be used or holds a study of something else.
        """
        config = experiment.config
        model, limits = experiment.model, Limits(**config.search.limits)
        feasible = Feasible(experiment.space, lambda s: asdict(model.count(s)), config.search.cost, limits)
        url = storage or config.search.storage or default_url(experiment.dir)
        database = Database(
            url, patience=config.search.storage_patience, heartbeat_seconds=config.search.heartbeat_seconds
        )
        identity = {
            "space": describe_space(experiment.space),
            "dev set": config.data.dev,
            "content of the dev set": dev_data,
            "cost": config.search.cost,
            "search.int8": config.search.int8,
            # Limits on counted costs only narrow what is proposed; this one decides what is not evaluated.
            "search.limits.rtf": config.search.limits.get("rtf"),
            "decoding.max_symbols_per_frame": config.decoding.max_symbols_per_frame,
            # None stands for greedy search, which older studies do not name.
            "decoding": None if config.decoding.kind == "greedy" else describe(config.decoding),
        }
        name = f"{config.name}-{fingerprint(experiment.dir / 'final.pt')}"
        study = Study(database, name, experiment.space, identity, config.search.cost, limits)
        return cls(experiment, study, feasible, dev_batches, dev_data)

    @property
    def conditions(self) -> Conditions:
        """Under which subnets are measured."""
        config = self.experiment.config
        return Conditions(config.data.dev, config.search.int8, describe(config.decoding), self.dev_data)

    def generator(self) -> Generator:
        """The recipe's generator, from its beginning."""
        path_of = self.experiment.model.encoder.path_of
        config = self.experiment.config
        return build_generator(config.search, self.feasible, lambda s: layer_keys(s, path_of(s)), config.seed)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Loads the dev set when it is first needed."""
        return Evaluator(self.experiment.model, self.experiment.tokenizer, self.dev_batches(), self.experiment.config)

    def work(self, wanted: Callable[[], bool] = lambda: True) -> Iterator[Candidate]:
        """Evaluate subnet after subnet until nothing is left, waiting for what other workers have claimed.

        Args:
            wanted: asked before every claim; the work ends when it says no.

        Yields:
            Every subnet that this worker has finished.
        """
        generator, wait = self.generator(), SHORTEST_WAIT
        self.study.reap()
        while wanted():
            history = self.study.history()
            proposal = generator.propose(history)
            if proposal is None:
                if not history.select("running"):
                    return
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
                self.study.reap()
                continue
            wait = SHORTEST_WAIT
            yield from self._take(proposal, history, generator)

    def write_candidates(self) -> History:
        """Write ``search/candidates.json`` from the study, and give its history."""
        history, config = self.study.history(), self.experiment.config
        content = Candidates(
            set_name=config.data.dev,
            cost=config.search.cost,
            weights=fingerprint(self.experiment.dir / "final.pt"),
            data=self.dev_data,
            kind=config.search.kind,
            int8=config.search.int8,
            decoding=self.conditions.decoding,
            candidates=tuple(FoundEntry.of(candidate.measurement()) for candidate in history.measured),
            stopped=tuple(StoppedEntry.of(candidate.measurement()) for candidate in history.select("stopped")),
        )
        content.write(self.experiment.dir)
        return history

    def _take(self, proposal: Proposal, history: History, generator: Generator) -> Iterator[Candidate]:
        """Claim and evaluate; nothing where another worker was first.

        Without the dev set nothing is claimed: others would have to wait for a worker that is still loading.
        """
        evaluator = self.evaluator
        claim = self.study.claim(proposal, self.feasible.costs(proposal.subnet))
        if claim is None:
            return
        try:
            with self.study.alive(claim):
                outcome = self._evaluate(evaluator, claim.candidate, history, generator)
        except BaseException:
            self.study.give_back(claim)
            raise
        finished = self.study.finish(claim, outcome)
        if finished is not None:
            yield finished

    def _evaluate(self, evaluator: Evaluator, candidate: Candidate, history: History, generator: Generator) -> Outcome:
        config = self.experiment.config.search
        measured = self._measured_costs(candidate.subnet)
        costs = {**candidate.costs, **measured}
        if self.feasible.limits.excess(Measurement(candidate.subnet, 0.0, None, costs)) > 1.0:
            return Outcome(0, evaluator.words, None, stopped=True, seconds=0.0, costs=measured)
        bar = float("inf")
        if config.stop_early and config.kind != "exhaustive":
            bar = error_bar(history.within(self.feasible.limits), costs, config.cost, generator.buckets)
        return replace(evaluator.evaluate(candidate.subnet, bar), costs=measured)

    def _measured_costs(self, subnet: Subnet) -> Mapping[str, float]:
        """Time and memory, where time is the cost or limited; else none: they are measured for the front at the end."""
        config = self.experiment.config.search
        return self.measure_runtime(subnet) if config.cost == "rtf" or "rtf" in config.limits else {}

    def measure_runtime(self, subnet: Subnet) -> Mapping[str, float]:
        """Time and memory of the stand-alone model on dev audio."""
        config = self.experiment.config
        return measure_runtime(
            self.experiment.model.extract(subnet).cpu(),
            joined_features(self.evaluator.batches, config.search.rtf_seconds).cpu(),
            threads=config.search.rtf_threads,
            max_symbols_per_frame=config.decoding.max_symbols_per_frame,
        ).to_dict()
