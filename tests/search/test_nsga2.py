"""NSGA-II against optuna's own study: the same draws, from every trial of the study instead of from what is kept."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from slimasr.config.search import Nsga2SearchConfig
from slimasr.search.feasible import Feasible
from slimasr.search.history import Candidate, History
from slimasr.search.nsga2 import Nsga2, distributions
from slimasr.supernet.space import LayerSpace
from slimasr.supernet.subnet import Subnet
from tests.search.kit import PAPER, SPACE, count, count_paper, errors_of, feasible

ONE_CHOICE = LayerSpace((4, 3), (("ffn", (2, 4, 8)), ("conv", (7,))))
"""A gene without a choice is not drawn."""


class ByOptuna:
    """Asks a study of optuna, which holds all trials."""

    def __init__(self, allowed: Feasible, config: Nsga2SearchConfig, seed: int) -> None:
        self._feasible = allowed
        self._config = config
        self._seed = seed
        self._distributions = distributions(allowed.space)
        self._study = optuna.create_study(directions=["minimize", "minimize"])
        self._copied: set[Subnet] = set()
        self._asked = 0

    def propose(self, history: History) -> tuple[Subnet, dict[str, Any]] | None:
        """Return the subnet that the sampler draws next and its marks, None after 50 draws without success."""
        space = self._feasible.space
        for candidate in history.within(self._feasible.counted_limits).measured:
            if candidate.subnet not in self._copied:
                self._copied.add(candidate.subnet)
                params = {name: choices[0] for name, choices in space.genes.items()} | space.genes_of(candidate.subnet)
                values = [candidate.wer, candidate.costs["params"]]
                marks = dict(candidate.marks or {})
                trial = optuna.trial.create_trial(
                    values=values, params=params, distributions=self._distributions, system_attrs=marks
                )
                self._study.add_trial(trial)
        for _ in range(50):
            self._asked += 1
            seed = random.Random(f"{self._seed}/nsga2/{len(history)}/{self._asked}").randrange(2**31)
            self._study.sampler = optuna.samplers.NSGAIISampler(population_size=self._config.population, seed=seed)
            asked = self._study.ask(self._distributions)
            subnet = space.from_genes(asked.params)
            known = history.get(subnet)
            allowed = self._feasible.allows(subnet)
            if known is not None and known.state == "measured" and allowed:
                self._study.tell(asked, [known.wer, known.costs["params"]])
                continue
            failed = self._study.tell(asked, state=TrialState.FAIL)
            if known is None and allowed:
                return subnet, failed.system_attrs
        return None


def finished(subnet: Subnet, marks: object, space: LayerSpace) -> Candidate:
    """Return what an evaluation finds; a fifth of the subnets is stopped early."""
    costs = count_paper(subnet) if space is PAPER else count(subnet)
    errors = errors_of(subnet)
    candidate = Candidate(subnet, "measured", costs, None, errors, 1000, 1.0, marks)  # type: ignore[arg-type]
    return replace(candidate, state="stopped", dev_loss=None) if errors % 5 == 0 else candidate


@pytest.mark.parametrize(
    ("space", "limits", "candidates"),
    [(SPACE, {}, 60), (SPACE, {"params": 50.0}, 40), (PAPER, {}, 40), (ONE_CHOICE, {}, 40)],
)
def test_it_proposes_what_a_study_of_optuna_would(space: LayerSpace, limits: dict[str, float], candidates: int) -> None:
    config = Nsga2SearchConfig(candidates=candidates, population=6)
    ours = Nsga2(feasible(space, **limits), config, seed=3)
    theirs = ByOptuna(feasible(space, **limits), config, seed=3)
    allowed = feasible(space, **limits)
    found = [finished(subnet, None, space) for subnet in (space.max, space.min) if allowed.allows(subnet)]
    generations: set[int] = set()
    while (expected := theirs.propose(History(found))) is not None and len(found) < candidates:
        proposal = ours.propose(History(found))
        assert proposal is not None
        assert (proposal.subnet, dict(proposal.marks or {})) == expected
        generations.add(*expected[1].values())
        found.append(finished(proposal.subnet, proposal.marks, space))
    assert len(found) >= 25
    assert max(generations) >= 2


def test_a_worker_that_joins_later_proposes_what_a_study_of_optuna_would() -> None:
    """Everything arrives at once, and some of it was drawn for later generations by others."""
    config = Nsga2SearchConfig(candidates=100, population=8)
    first = Nsga2(feasible(), config, seed=3)
    found: list[Candidate] = []
    while len(found) < 45 and (proposal := first.propose(History(found))) is not None:
        found.append(finished(proposal.subnet, proposal.marks, SPACE))
    # Another seed is another worker.
    later = Nsga2(feasible(), config, seed=4).propose(History(found))
    assert later is not None
    assert (later.subnet, dict(later.marks or {})) == ByOptuna(feasible(), config, seed=4).propose(History(found))
