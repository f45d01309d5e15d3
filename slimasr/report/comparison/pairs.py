"""Pair the systems that a report compares: every supernet with the separate models of its subnets.

A separate model is compared with the subnet that is the same network if the supernet's results have it. Otherwise it is
compared with the nearest size: the largest subnet of the Pareto front that is not larger than the model; branches of a
tree are compared with equal models alone, and subnets that the training chose by budgets with the models of these.
Pathways have no such partner.
If a search chose the subnet, the comparison is over the test sets alone, because the choice was made on dev. Max and
min subnets, those of an exhaustive search and those of budgets were not chosen so, and are compared over all sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from slimasr.report.architecture import depth, is_same
from slimasr.report.comparison.families import families, roles_in
from slimasr.report.records import Run, SubnetRecord

System = tuple[str, str]
"""Role, and name of the subnet: its id, or the budget of a learnt one."""

NEAR_BUDGET = 0.05
"""A learnt subnet and a separate model of one budget differ by at most this fraction of the model's cost."""


@dataclass(frozen=True)
class Part:
    """Two subnets to compare on the test sets of one language, or on the parts of test sets that are in it.

    Attributes:
        a: role and name of the first.
        b: role and name of the second.
        language: the language.
    """

    a: System
    b: System
    language: str


@dataclass(frozen=True)
class Pair:
    """Two systems to compare.

    Attributes:
        a: role and subnet id of the first.
        b: role and subnet id of the second.
        chosen: whether a search chose one of them by its dev WER.
        parts: what the systems consist of, if each of them is several subnets for different languages; ``a`` and ``b``
            are names of the whole then.
    """

    a: System
    b: System
    chosen: bool = False
    parts: tuple[Part, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class Match:
    """A separate model and the subnet of a supernet that it is compared with.

    Attributes:
        chosen: whether a search chose the subnet by its dev WER.
    """

    supernet: Run
    subnet: SubnetRecord
    model: Run
    chosen: bool

    @property
    def pair(self) -> Pair:
        """The two systems."""
        ours = (self.supernet.role, self.subnet.name)
        theirs = (self.model.role, self.model.separate_of or "")
        return Pair(ours, theirs, self.chosen)


def separate_pairs(runs: Sequence[Run]) -> Iterator[Pair]:
    """Pair every supernet with the separate models of its family, role by role and size by size."""
    for family in families(runs):
        for role in roles_in(family.supernets):
            # A system is a role and a subnet id, so the first seed stands for all: comparisons pool the seeds.
            supernet = next(run for run in family.supernets if run.role == role)
            for other in roles_in(family.separate):
                models = [run for run in family.separate if run.role == other]
                for match in matches(supernet, models):
                    yield match.pair


def matches(supernet: Run, models: Sequence[Run]) -> list[Match]:
    """Match a supernet with separate models of one role, the largest model first.

    Args:
        supernet: one seed of it.
        models: the separate models; one seed of each size is enough.

    Returns:
        The matches. A model is left out if the supernet has no subnet to compare it with.
    """
    # What masks leave is no smaller network, and a pathway serves one language.
    if not supernet.subnets or any(record.pathway for record in supernet.subnets):
        return []
    by_subnet = {model.separate_of: model for model in models if model.subnets}
    found = []
    for model in sorted(by_subnet.values(), key=lambda model: -model.largest.params):
        match = _match(supernet, model)
        if match is not None:
            found.append(match)
    return found


def _match(supernet: Run, model: Run) -> Match | None:
    same = _same(supernet, model)
    if same is None and supernet.is_learnt:
        same = _of_its_budget(supernet, model)
        return None if same is None else Match(supernet, same, model, chosen=False)
    # Measured whatever its WER is: the choice is not biased, and a comparison on dev is fair.
    if same is not None and (is_end(supernet, same) or not supernet.is_searched):
        return Match(supernet, same, model, chosen=False)
    # A search may have picked this very subnet; the test sets then need to be decoded.
    if same is not None and same.is_decoded:
        return Match(supernet, same, model, chosen=True)
    # Branches are few and far from each other in size: only equal ones are compared.
    nearest = None if supernet.is_tree else not_larger(supernet, model.largest.params)
    if nearest is None:
        return None
    return Match(supernet, nearest, model, chosen=not is_end(supernet, nearest))


def _same(supernet: Run, model: Run) -> SubnetRecord | None:
    """Find the subnet that is the model's network: of its id, or else of its layers and exactly its parameters.

    The id of a branch depends on the tree, so that equal branches of two trees have different ids. A subnet whose
    supernet has several outputs may use another one than the model, which has only one.
    """
    named = supernet.subnet(model.separate_of or "")
    if named is not None:
        return named
    shaped = [record for record in supernet.subnets if record.shape_id == model.separate_of]
    if shaped:
        return shaped[0]
    equal = [record for record in supernet.subnets if record.params == model.largest.params]
    return next((record for record in equal if is_same(record.architecture, model.largest.architecture)), None)


def _of_its_budget(supernet: Run, model: Run) -> SubnetRecord | None:
    """Find the learnt subnet whose budget is what a model costs.

    A budget in blocks is that of the model with as many layers. Of other budgets, the one counts whose subnet costs
    most nearly what the model costs, if the difference is small.
    """
    whole = model.largest
    in_blocks = {}
    for record in supernet.subnets:
        number, _, unit = record.name.partition(" ")
        if record.learnt is not None and unit.startswith("block"):
            in_blocks[int(number)] = record
    if depth(whole.architecture) in in_blocks:
        return in_blocks[depth(whole.architecture)]
    cost = supernet.criterion or "params"
    others = [record for record in supernet.subnets if record.learnt is not None and record not in in_blocks.values()]
    priced = [record for record in others if cost in record.costs and cost in whole.costs]
    nearest = min(priced, key=lambda record: abs(record.costs[cost] - whole.costs[cost]), default=None)
    if nearest is None or abs(nearest.costs[cost] - whole.costs[cost]) > NEAR_BUDGET * whole.costs[cost]:
        return None
    return nearest


def is_end(run: Run, record: SubnetRecord) -> bool:
    """Whether a subnet is the max or the min one of its supernet."""
    return record.id in (run.largest.id, run.smallest.id)


def not_larger(run: Run, params: float) -> SubnetRecord | None:
    """Find the largest decoded subnet with at most ``params`` parameters, on the Pareto front or max or min."""
    # By id, as max and min may be on the front as well.
    known = {record.id: record for record in (*run.front_records, run.largest, run.smallest)}
    fitting = [record for record in known.values() if record.params <= params and record.is_decoded]
    # Of two subnets of equal size, the one on the front has the lower WER on dev.
    return max(fitting, key=lambda record: (record.params, record.id in run.front), default=None)
