"""NSGA-II as a generator: optuna's sampler, fed from the study that all workers share."""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import TrialState

from slimasr.config.search import Nsga2SearchConfig
from slimasr.search.feasible import DRAWS, Feasible
from slimasr.search.generators import Generator, Proposal
from slimasr.search.history import Candidate, History
from slimasr.supernet.space import Gene, SearchSpace
from slimasr.supernet.subnet import Subnet


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The genes of a space as optuna sees them."""
    return {name: CategoricalDistribution(choices) for name, choices in space.genes.items()}


class Nsga2(Generator):
    """Non-dominated sorting genetic algorithm on WER and cost.

    The sampler works on a copy in memory of what the study holds: it asks there, as often as it takes to get a subnet
    that is new, and what it asked for is claimed in the study with the sampler's own marks. A known subnet that it
    asks for counts in its population with the known figures, and is not measured again.
    """

    def __init__(self, feasible: Feasible, config: Nsga2SearchConfig, seed: int) -> None:
        self._feasible = feasible
        self._config = config
        self._seed = seed
        self._distributions = distributions(feasible.space)
        self._cost = config.cost
        self._study = optuna.create_study(directions=["minimize", "minimize"])
        self._copied: set[Subnet] = set()
        self._asked = 0

    def total(self) -> int:
        return min(self._config.candidates, self._feasible.space.count())

    def propose(self, history: History) -> Proposal | None:
        if len(history) >= self.total():
            return None
        for subnet in (self._feasible.space.max, self._feasible.space.min):
            if subnet not in history and self._feasible.allows(subnet):
                return Proposal(subnet)
        self._copy(history)
        for _ in range(DRAWS):
            proposal = self._ask(history)
            if proposal is not None:
                return proposal
        rng = random.Random(f"{self._seed}/search/{len(history)}")
        fresh = (self._feasible.draw(rng) for _ in range(DRAWS * DRAWS))
        found = next((s for s in fresh if s not in history and self._feasible.allows(s)), None)
        return None if found is None else Proposal(found)

    def _ask(self, history: History) -> Proposal | None:
        """Draw one trial of the sampler. It is completed at once: the copy receives its measurement from the study."""
        self._asked += 1
        self._study.sampler = self._sampler(len(history))
        trial = self._study.ask(self._distributions)
        subnet = self._feasible.space.from_genes(trial.params)
        frozen = self._study.trials[trial.number]
        known = history.get(subnet)
        allowed = self._feasible.allows(subnet)
        if known is not None and known.state == "measured" and allowed:
            self._study.tell(trial, [known.wer, known.costs[self._cost]])
            return None
        self._study.tell(trial, state=TrialState.FAIL)
        if known is not None or not allowed:
            return None
        return Proposal(subnet, marks=dict(frozen.system_attrs))

    def _sampler(self, known: int) -> optuna.samplers.BaseSampler:
        """Seeded by what is known and has been asked, so that neither a restart nor a second worker repeats draws."""
        seed = random.Random(f"{self._seed}/nsga2/{known}/{self._asked}").randrange(2**31)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.NSGAIISampler(population_size=self._config.population, seed=seed)

    def _copy(self, history: History) -> None:
        for candidate in history.within(self._feasible.counted_limits).measured:
            if candidate.subnet not in self._copied:
                self._copied.add(candidate.subnet)
                self._study.add_trial(self._as_trial(candidate))

    def _as_trial(self, candidate: Candidate) -> optuna.trial.FrozenTrial:
        largest: Mapping[str, Gene] = {name: choices[0] for name, choices in self._feasible.space.genes.items()}
        return optuna.trial.create_trial(
            values=[candidate.wer, candidate.costs[self._cost]],
            params={**largest, **self._feasible.space.genes_of(candidate.subnet)},
            distributions=self._distributions,
            system_attrs=dict(candidate.marks or {}),
        )
