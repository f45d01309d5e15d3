"""NSGA-II as a generator: optuna's sampler, fed from the study that all workers share."""

from __future__ import annotations

import random
import warnings
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import NSGAIISampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from slimasr.config.search import Nsga2SearchConfig
from slimasr.search.feasible import DRAWS, Feasible
from slimasr.search.generator import Generator, Proposal
from slimasr.search.history import Candidate, History
from slimasr.supernet.space import Gene, SearchSpace
from slimasr.supernet.subnet import Subnet

GENERATION = "NSGAIISampler:generation"
"""The mark of a trial that says for which generation it was drawn, under the name that optuna gives it."""


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The genes of a space as optuna sees them."""
    return {name: CategoricalDistribution(choices) for name, choices in space.genes.items()}


class Population:
    """The measured trials by generation, and the parents of every generation.

    Optuna's sampler finds both by reading all trials of a study at every draw. Here they are kept, so that the time of
    a draw does not depend on the number of trials.
    """

    def __init__(self, size: int) -> None:
        """``size`` is the number of trials after which the next generation begins."""
        self._size = size
        self._number = 0
        # Generation -> its measured trials. Those with other origins, such as max and min, belong to none.
        self.members: defaultdict[int, list[FrozenTrial]] = defaultdict(list)
        # Generation -> its parents. Trials that arrive after they were chosen do not change them.
        self.parents: dict[int, list[FrozenTrial]] = {0: []}

    def add(self, trial: FrozenTrial) -> None:
        """Add a measured trial."""
        # Optuna tells trials apart by their numbers.
        trial.number = self._number
        self._number += 1
        generation = trial.system_attrs.get(GENERATION)
        if generation is not None:
            self.members[generation].append(trial)

    @property
    def generation(self) -> int:
        """The generation for which the next trial is drawn."""
        latest = max(self.members, default=0)
        return latest if len(self.members.get(latest, ())) < self._size else latest + 1


class _Sampler(NSGAIISampler):
    """Optuna's sampler, which asks a `Population` for what it would else look up in the study."""

    def __init__(self, population: Population, size: int, seed: int) -> None:
        super().__init__(population_size=size, seed=seed)
        self._members = population

    def get_trial_generation(self, study: optuna.Study, trial: FrozenTrial) -> int:
        """Return the generation for which a trial is drawn."""
        return self._members.generation

    def get_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        """Return the measured trials of a generation."""
        return list(self._members.members.get(generation, ()))

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        """Return the parents of a generation, which are chosen when they are first needed."""
        parents = self._members.parents
        if generation in parents:
            return parents[generation]
        chosen = self.select_parent(study, generation)
        # As in optuna, the draw that chooses them has them from the best to the worst, and all others in the order in
        # which they were made.
        parents[generation] = sorted(chosen, key=lambda trial: trial.number)
        return chosen


class Nsga2(Generator):
    """Non-dominated sorting genetic algorithm on WER and cost.

    The sampler draws until it finds a subnet that is new. What it drew is claimed in the study with its mark, and
    becomes part of the population when it is measured. A known subnet that it draws counts in the population with the
    known figures, and is not measured again.
    """

    def __init__(self, feasible: Feasible, config: Nsga2SearchConfig, seed: int) -> None:
        self._feasible = feasible
        self._config = config
        self._seed = seed
        self._distributions = distributions(feasible.space)
        # Optuna draws genes in the order of their names, and those with one choice not at all.
        names = sorted(name for name, choices in self._distributions.items() if not choices.single())
        self._drawn = {name: self._distributions[name] for name in names}
        self._cost = config.cost
        # It stays empty: the sampler only reads the directions.
        self._study = optuna.create_study(directions=["minimize", "minimize"])
        self.population = Population(config.population)
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
        """Draw once; None if the subnet is known or above a limit."""
        self._asked += 1
        marks = {GENERATION: self.population.generation}
        genes = self._draw(self._sampler(len(history)))
        subnet = self._feasible.space.from_genes(genes)
        known = history.get(subnet)
        allowed = self._feasible.allows(subnet)
        if known is None and allowed:
            return Proposal(subnet, marks=marks)
        if known is not None and known.state == "measured" and allowed:
            self.population.add(self._measured(known, genes, marks))
        return None

    def _draw(self, sampler: NSGAIISampler) -> dict[str, Gene]:
        """Draw all genes, as a trial of a study does when it is asked for them one by one."""
        trial = FrozenTrial(
            number=-1,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=None,
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
            trial_id=-1,
        )
        # Empty in the first generation; afterwards it lacks the genes that mutate.
        inherited = sampler.sample_relative(self._study, trial, self._drawn)
        genes: dict[str, Gene] = {}
        for name, choices in self._feasible.space.genes.items():
            if name in inherited:
                genes[name] = inherited[name]
            elif name in self._drawn:
                genes[name] = sampler.sample_independent(self._study, trial, name, self._drawn[name])
            else:
                genes[name] = choices[0]
        return genes

    def _sampler(self, known: int) -> NSGAIISampler:
        """Seeded by what is known and has been asked, so that neither a restart nor a second worker repeats draws."""
        seed = random.Random(f"{self._seed}/nsga2/{known}/{self._asked}").randrange(2**31)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return _Sampler(self.population, self._config.population, seed)

    def _copy(self, history: History) -> None:
        """Add what was measured since the last proposal to the population."""
        largest: Mapping[str, Gene] = {name: choices[0] for name, choices in self._feasible.space.genes.items()}
        for candidate in history.measured:
            if candidate.subnet not in self._copied and self._feasible.counted_limits.allow(candidate.costs):
                self._copied.add(candidate.subnet)
                genes = {**largest, **self._feasible.space.genes_of(candidate.subnet)}
                self.population.add(self._measured(candidate, genes, candidate.marks or {}))

    def _measured(self, candidate: Candidate, genes: Mapping[str, Gene], marks: Mapping[str, Any]) -> FrozenTrial:
        """Return a measured candidate as a trial with these genes, of which some may be without effect."""
        return create_trial(
            values=[candidate.wer, candidate.costs[self._cost]],
            params=dict(genes),
            distributions=self._distributions,
            system_attrs=dict(marks),
        )
