"""One search: claim what the generator proposes, evaluate it, store the outcome, and record the candidates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from slimasr.config.schema import Config
from slimasr.data.batches.evaluation_notes import evaluation_notes
from slimasr.data.identity.experiment import checked_identity, unverified_sets
from slimasr.data.memory.dataloading import eval_batches
from slimasr.decoding.decode import default_device, describe
from slimasr.decoding.searches.graph import SearchGraph
from slimasr.decoding.searches.graphs import graph_in
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.archive import Conditions
from slimasr.experiment.folder import stored_config
from slimasr.measure.quality import Batches, joined_features
from slimasr.measure.runtime import RuntimeMeter
from slimasr.results.search import Candidates, FoundEntry, StoppedEntry
from slimasr.search.database import Database, default_url
from slimasr.search.evaluator import Evaluator
from slimasr.search.feasible import Feasible
from slimasr.search.generator import Generator, Proposal
from slimasr.search.generators import build_generator
from slimasr.search.history import Candidate, History, error_threshold, rivals_of
from slimasr.search.latency.device import LATENCY, DeviceLatency, LatencyOptions, device_latency
from slimasr.search.prefix import layer_keys
from slimasr.search.study import Outcome, Study, nothing_predicted
from slimasr.supernet.front import Limits
from slimasr.supernet.subnet import Subnet

SHORTEST_WAIT = 0.05
"""Seconds of the first pause while other workers finish what they claimed; each further pause is twice as long."""
LONGEST_WAIT = 1.0
"""Seconds of the longest pause."""
BATCH_SECONDS = 50.0
"""The encoder takes at most so many seconds of audio at once: small batches of similar lengths need little padding."""
CHANGEABLE = ("search.", "decoding.")
"""Sections of a trained experiment's configuration that a search may override."""


@dataclass(frozen=True)
class Job:
    """What a process needs to open a search for itself.

    Attributes:
        exp: experiment folder.
        data: folder of the recipe's data.
        overrides: ``search.<key>=<value>`` or ``decoding.<key>=<value>``: candidates may be decoded otherwise than the
            recipe says.
        storage: URL of the database; default: ``search.storage``, else a file in the experiment.
        debug: whether a worker shows the traceback of its error.
        latency: the profile of a device, for whose latency the subnets are searched; None = latency is no cost.
    """

    exp: Path
    data: Path
    overrides: tuple[str, ...] = ()
    storage: str | None = None
    debug: bool = False
    latency: LatencyOptions | None = None

    def experiment(self) -> Experiment:
        """Open the experiment, with the overrides.

        Raises:
            UserError: an override changes a key that training has fixed.
        """
        for override in self.overrides:
            if not override.startswith(CHANGEABLE):
                allowed = "only search.* and decoding.* can be overridden for a trained experiment"
                raise UserError(f"--set {override}: {allowed}")
        experiment = Experiment.open(self.exp)
        experiment.model.to(default_device())
        # The model was built from the stored configuration; the overrides concern only search and decoding.
        return replace(experiment, config=stored_config(self.exp, self.overrides))

    def open(self) -> Search:
        """Open the search.

        Raises:
            UserError: `Experiment.open` or `Search.open` fails, or the features of the dev set are out of date.
        """
        experiment = self.experiment()
        config = experiment.config
        # Before the dev set is read: a profile that does not fit is refused at once.
        latency = None if self.latency is None else device_latency(self.latency, experiment)
        _latency_matters(config, latency)
        # The evaluator joins these batches again for decoding, up to the full ``decoding.batch_seconds``.
        seconds = min(config.decoding.batch_seconds, BATCH_SECONDS)
        batches = partial(eval_batches, config, self.data, config.data.dev, experiment.tokenizer, seconds)
        dev_data = checked_identity(config, self.data, config.data.dev).fingerprint
        graph = graph_in(experiment, config.decoding, self.data)
        return Search.open(experiment, batches, dev_data, self.storage, graph, latency)

    def notes(self, search: Search) -> list[str]:
        """Return what the user should know about the study and the dev set."""
        config = search.experiment.config
        dev = config.data.dev
        unverified = unverified_sets(config, self.data, [dev])
        unusual = evaluation_notes(config, self.data, dev, search.experiment.tokenizer, losses=True)
        predicted = [] if search.latency is None else [*search.latency.notes, search.latency.in_words]
        return [*search.study.notes, *unverified, *unusual, *predicted]


@dataclass(frozen=True)
class Search:
    """One search over an experiment's subnets, as any number of workers run it.

    Attributes:
        experiment: the experiment that is searched.
        study: the record of everything found so far.
        feasible: the subnets that may be proposed.
        dev_batches: returns the batches of the dev set.
        dev_data: fingerprint of the dev set.
        graph: the graph of ``decoding.kind: graph``.
        latency: predicts the latency of subnets on a device, None if it is no cost.
    """

    experiment: Experiment
    study: Study
    feasible: Feasible
    dev_batches: Batches
    dev_data: str
    graph: SearchGraph | None = None
    latency: DeviceLatency | None = None

    @classmethod
    def open(
        cls,
        experiment: Experiment,
        dev_batches: Batches,
        dev_data: str,
        storage: str | None = None,
        graph: SearchGraph | None = None,
        latency: DeviceLatency | None = None,
    ) -> Search:
        """Open the search that the experiment's configuration describes.

        Args:
            experiment: the experiment that is searched.
            dev_batches: returns the batches of the dev set.
            dev_data: fingerprint of the dev set.
            storage: URL of the database; default: ``search.storage``, else a file in the experiment.
            graph: the graph of ``decoding.kind: graph``.
            latency: predicts the latency of subnets on a device; None = it is no cost.

        Raises:
            UserError: no subnet meets the limits, latency is a cost of the recipe but not predicted, or the database
                cannot be used or holds a study of something else.
        """
        config = experiment.config
        model = experiment.model
        limits = Limits(**config.search.limits)
        matters = _latency_matters(config, latency)
        predicted = nothing_predicted if latency is None else latency.costs
        feasible = Feasible(
            experiment.space, lambda s: {**asdict(model.count(s)), **predicted(s)}, config.search.cost, limits
        )
        database = Database(
            storage or config.search.storage or default_url(experiment.dir),
            patience=config.search.storage_patience,
            heartbeat_seconds=config.search.heartbeat_seconds,
        )
        # Word errors can be compared only if all of this is equal. `Study` reports which key differs, so the keys are
        # words for the user, and renaming one would make existing studies unusable.
        identity = {
            "space": experiment.space.describe(),
            "dev set": config.data.dev,
            "content of the dev set": dev_data,
            "cost": config.search.cost,
            "search.int8": config.search.int8,
            # None stands for no halving. A subnet that was stopped by it could be on the front.
            "search.halving": config.search.halving or None,
            # Limits on counted costs only restrict what is proposed; this one decides what is not evaluated.
            "search.limits.rtf": config.search.limits.get("rtf"),
            "decoding.max_symbols_per_frame": config.decoding.max_symbols_per_frame,
            # None stands for greedy search, which older studies do not name.
            "decoding": None if config.decoding.kind == "greedy" else describe(config.decoding, graph),
        }
        # New weights have a separate study; that of the old weights is kept.
        name = f"{config.name}-{experiment.weights_digest}"
        if latency is not None and matters:
            # What is stopped early depends on the latencies, so that every profile has a study of its own.
            name += f"-latency-{latency.device.profile}"
        study = Study(database, name, experiment.space, identity, config.search.cost, limits, predicted)
        return cls(experiment, study, feasible, dev_batches, dev_data, graph, latency)

    @property
    def conditions(self) -> Conditions:
        """The conditions under which subnets are measured."""
        config = self.experiment.config
        return Conditions(config.data.dev, config.search.int8, describe(config.decoding, self.graph), self.dev_data)

    def generator(self) -> Generator:
        """Build the recipe's generator, at the beginning of its plan."""
        path_of = self.experiment.model.encoder.path_of
        config = self.experiment.config
        return build_generator(config.search, self.feasible, lambda s: layer_keys(s, path_of(s)), config.seed)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Evaluates subnets on the dev set, which is loaded when it is first needed and then kept."""
        experiment = self.experiment
        return Evaluator(experiment.model, experiment.tokenizer, self.dev_batches(), experiment.config, self.graph)

    @cached_property
    def _meter(self) -> RuntimeMeter:
        """Measures time and memory of all subnets, in a process that is started when it is first needed."""
        return RuntimeMeter(self.experiment.config.search.rtf_threads)

    def load_dev_set(self) -> Evaluator:
        """Load the dev set now, so that faults in it are reported now, and return the evaluator that holds it.

        Raises:
            UserError: the dev set cannot be read, or the WER on it is undefined.
        """
        return self.evaluator

    def work(self, wanted: Callable[[], bool] = lambda: True) -> Iterator[Candidate]:
        """Evaluate subnet after subnet until nothing is left, waiting for what other workers have claimed.

        Args:
            wanted: called before every claim; the work ends when it returns False.

        Yields:
            Every candidate that this worker has finished.
        """
        generator = self.generator()
        # What dead workers of an earlier run had claimed is free before the first proposal.
        wait = SHORTEST_WAIT
        self.study.reap()
        while wanted():
            history = self.study.history()
            proposal = generator.propose(history)
            if proposal is not None:
                wait = SHORTEST_WAIT
                yield from self._take(proposal, history, generator)
            elif history.select("running"):
                # The next generation depends on what others still evaluate. They may die, so look for dead ones too.
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
                self.study.reap()
            else:
                return

    def write_candidates(self) -> History:
        """Write ``search/candidates.json`` from the study, and return the study's history."""
        history = self.study.history()
        config = self.experiment.config
        content = Candidates(
            set_name=config.data.dev,
            cost=config.search.cost,
            weights=self.experiment.weights_digest,
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
        """Claim a subnet and evaluate it; yields nothing if another worker was first."""
        # Load before the claim: otherwise the others would wait for a worker that is still loading the dev set.
        evaluator = self.load_dev_set()
        claim = self.study.claim(proposal, self.feasible.costs(proposal.subnet))
        if claim is None:
            return
        try:
            with self.study.alive(claim):
                outcome = self._evaluate(evaluator, claim.candidate, history, generator)
        except BaseException:
            # Interrupts included: the next worker need not wait until the heartbeat counts as missed.
            self.study.give_back(claim)
            raise
        # None if this worker was thought dead and another one has taken the claim over.
        finished = self.study.finish(claim, outcome)
        if finished is not None:
            yield finished

    def _evaluate(self, evaluator: Evaluator, candidate: Candidate, history: History, generator: Generator) -> Outcome:
        """Evaluate a subnet as far as it matters: not at all if it is too slow, and no further than it is hopeless."""
        config = self.experiment.config.search
        measured = self._measured_costs(candidate.subnet)
        costs = {**candidate.costs, **measured}
        if not self.feasible.limits.allow(costs):
            return Outcome(0, evaluator.words_of(candidate.subnet), None, stopped=True, seconds=0.0, costs=measured)
        alike = history.alike(candidate.subnet)
        threshold = float("inf")
        rivals: list[Subnet] = []
        # An exhaustive search is to know the WER of every subnet, so it stops none early.
        if config.stop_early and config.kind != "exhaustive":
            # Only subnets that could be chosen may rule out another one.
            within = alike.within(self.feasible.limits)
            threshold = error_threshold(within, costs, config.cost, generator.buckets)
        if config.halving and config.kind != "exhaustive":
            rivals = rivals_of(alike, costs, config.cost)
        return replace(evaluator.evaluate(candidate.subnet, threshold, rivals), costs=measured)

    def _measured_costs(self, subnet: Subnet) -> Mapping[str, float]:
        """Measure time and memory if time is the cost or is limited; else the finalists are measured at the end."""
        config = self.experiment.config.search
        if config.cost == "rtf" or "rtf" in config.limits:
            return self.measure_runtime(subnet)
        return {}

    def measure_runtime(self, subnet: Subnet) -> Mapping[str, float]:
        """Measure time and memory of a subnet, extracted as a stand-alone model, on dev audio.

        Both are measured on the CPU, wherever the search itself runs.
        """
        config = self.experiment.config
        return self._meter.measure(
            self.experiment.model.extract(subnet).cpu(),
            joined_features(self.evaluator.batches, config.search.rtf_seconds).cpu(),
            max_symbols_per_frame=config.decoding.max_symbols_per_frame,
        ).to_dict()


def _latency_matters(config: Config, latency: DeviceLatency | None) -> bool:
    """Return whether latency is the cost of the front or is limited.

    Raises:
        UserError: it is, but there is no profile of a device.
    """
    key = "search.cost" if config.search.cost == LATENCY else "search.limits.latency"
    matters = config.search.cost == LATENCY or LATENCY in config.search.limits
    if matters and latency is None:
        raise UserError(f"{key}: latency needs the profile of a device: name it by --latency PROFILE")
    return matters
