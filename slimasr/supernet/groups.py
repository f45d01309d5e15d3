"""Groups of parameters that are kept or left out together, their costs, and budgets (paper 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from slimasr.config.learners import number_of
from slimasr.errors import UserError
from slimasr.supernet.cost import Cost
from slimasr.supernet.subnet import Subnet

Criterion = Literal["none", "params", "macs"]
"""What a budget limits: the number of groups, parameters, or MACs per second of audio."""


class Counted(Protocol):
    """A model as far as costs need it."""

    def count(self, subnet: Subnet | None = None, seconds: float = ...) -> Cost:
        """Count the cost of the stand-alone subnet; MACs are per second, counted on an utterance of this length."""


@dataclass(frozen=True, order=True)
class Group:
    """Units of one module of a layer that are kept or left out together.

    Attributes:
        layer: id of the layer.
        module: name of the module, as in `Subnet.units`.
        start: its first unit.
        stop: the unit behind its last one.
    """

    layer: int
    module: str
    start: int
    stop: int

    @property
    def key(self) -> str:
        """The layer and the module, as in `Subnet.units`."""
        return f"{self.layer}.{self.module}"


def groups_of(layer: int, module: str, units: int, number: int) -> list[Group]:
    """Cut a module's ``units`` into ``number`` groups of equally many.

    Raises:
        ValueError: the number does not divide the units.
    """
    if units % number:
        raise ValueError(f"{layer}.{module}: {units} units cannot be cut into {number} equal groups")
    size = units // number
    return [Group(layer, module, start, start + size) for start in range(0, units, size)]


def subnet_of(kept: Sequence[Group], groups: Sequence[Group], head: str | None = None) -> Subnet:
    """Return the subnet that keeps some of an encoder's groups.

    A module without a kept group is left out. A complete module has no entry, as in every subnet.

    Args:
        kept: the groups to keep, in any order.
        groups: all groups of the encoder.
        head: the output that the subnet uses.
    """
    sizes: dict[str, int] = {}
    for group in groups:
        sizes[group.key] = max(group.stop, sizes.get(group.key, 0))
    chosen: dict[str, list[tuple[int, int]]] = {key: [] for key in sizes}
    for group in kept:
        chosen[group.key].append((group.start, group.stop))
    subnet = Subnet(units=tuple((key, tuple(ranges)) for key, ranges in chosen.items()), head=head)
    # Joined by now: the number of units of a complete module.
    partly = tuple((key, units) for key, units in subnet.units if units != sizes[key])
    return replace(subnet, units=partly)


def group_costs(
    model: Counted, groups: Sequence[Group], criterion: Criterion, seconds: float
) -> tuple[float, list[float]]:
    """Return the cost of what belongs to no group, and that of every group.

    A group's cost is that of its module, its norm and shared biases included, divided by the module's number of groups.
    Both together add up to the cost of the whole.

    Args:
        model: counts the costs of its subnets.
        groups: all groups of its encoder.
        criterion: what costs; with ``none`` every group costs 1, and the rest nothing.
        seconds: length of the utterance on which MACs are counted.
    """
    if criterion == "none":
        return 0.0, [1.0] * len(groups)
    whole = true_cost(model, Subnet(), criterion, seconds)
    rest = true_cost(model, subnet_of((), groups), criterion, seconds)
    of_key: dict[str, float] = {}
    for key in dict.fromkeys(group.key for group in groups):
        without = [group for group in groups if group.key != key]
        number = len(groups) - len(without)
        cost = whole - true_cost(model, subnet_of(without, groups), criterion, seconds)
        of_key[key] = cost / number
    return rest, [of_key[group.key] for group in groups]


def true_cost(model: Counted, subnet: Subnet, criterion: Literal["params", "macs"], seconds: float) -> float:
    """Count what a subnet costs by a criterion."""
    cost = model.count(subnet, seconds)
    return float(cost.params if criterion == "params" else cost.macs)


def kept_cost(
    model: Counted, groups: Sequence[Group], criterion: Criterion, seconds: float, head: str | None = None
) -> Callable[[Iterable[int]], float]:
    """Return a function from the indices of kept groups to the true cost of their subnet.

    The true cost is that of the stand-alone model. A module of which some groups are kept has its norm and its shared
    biases whole, so that it costs more than the sum of `group_costs`.
    """
    if criterion == "none":
        return lambda kept: float(len(set(kept)))
    by = criterion
    return lambda kept: true_cost(model, subnet_of([groups[i] for i in kept], groups, head), by, seconds)


@dataclass(frozen=True)
class Budget:
    """A limit below which the cost of a learnt subnet has to stay.

    Attributes:
        kind: what ``amount`` is: a ``share`` of the whole, ``params``, ``macs`` (per second of audio), or the number of
            first ``blocks`` (layers) whose cost, with that of everything outside the layers, is the limit.
        amount: the number.
        name: the budget as the recipe wrote it: ``0.63``, ``2.5e8 macs``, ``4 blocks``. It names the subnet.
    """

    kind: Literal["share", "params", "macs", "blocks"]
    amount: float
    name: str

    @classmethod
    def parse(cls, value: object) -> Budget:
        """Read a budget from YAML: ``0.63``, ``{macs: 2.5e8}``, ``{params: 2e6}`` or ``{blocks: 4}``.

        Raises:
            ValueError: the value is no budget.
        """
        if isinstance(value, Mapping) and len(value) == 1:
            ((kind, written),) = value.items()
            amount = number_of(written)
            if kind == "blocks" and amount is not None and amount >= 1 and amount == int(amount):
                return cls("blocks", amount, f"{int(amount)} {'block' if amount == 1 else 'blocks'}")
            if kind in ("params", "macs") and amount is not None and 0 < amount < float("inf"):
                return cls(kind, amount, f"{_written(written)} {kind}")
        else:
            amount = number_of(value)
            if amount is not None and 0 < amount < 1:
                return cls("share", amount, _written(value))
        raise ValueError(
            "a budget is a share of the whole between 0 and 1 such as 0.63, {macs: 2.5e8}, {params: 2e6}, "
            f"or {{blocks: 4}}; got {value!r}"
        )

    def resolve(self, model: Counted, groups: Sequence[Group], criterion: Criterion, seconds: float) -> float:
        """Return the limit in the unit of the criterion.

        Args:
            model: counts the costs of its subnets.
            groups: all groups of its encoder.
            criterion: what the limit is a number of.
            seconds: length of the utterance on which MACs are counted.

        Raises:
            UserError: the budget does not fit the criterion, or there are fewer layers than ``blocks``.
        """
        if self.kind == "blocks":
            return self._of_blocks(model, groups, criterion, seconds)
        if self.kind == "share":
            whole = len(groups) if criterion == "none" else true_cost(model, Subnet(), criterion, seconds)
            return self.amount * whole
        if self.kind != criterion:
            raise UserError(
                f"method.budgets: {self.name} limits {self.kind}, but method.criterion is {criterion}; "
                "give a share or blocks, or another criterion"
            )
        return self.amount

    def _of_blocks(self, model: Counted, groups: Sequence[Group], criterion: Criterion, seconds: float) -> float:
        number = int(self.amount)
        layers = max(group.layer for group in groups) + 1
        if number >= layers:
            raise UserError(f"method.budgets: {self.name} is not below the whole encoder, which has {layers}")
        if criterion == "none":
            return float(sum(group.layer < number for group in groups))
        return true_cost(model, Subnet(path=tuple(range(number))), criterion, seconds)


def resolved_budgets(
    budgets: Sequence[Budget], model: Counted, groups: Sequence[Group], criterion: Criterion, seconds: float
) -> list[float]:
    """Return the limits of budgets in the unit of the criterion (see `Budget.resolve`), in the given order.

    Raises:
        UserError: a budget leaves no room for any group or is not below the whole, or two are equal.
    """
    rest, costs = group_costs(model, groups, criterion, seconds)
    whole = rest + sum(costs)
    unit = {"none": "groups", "params": "parameters", "macs": "MACs per second of audio"}[criterion]
    limits: dict[float, str] = {}
    for budget in budgets:
        limit = budget.resolve(model, groups, criterion, seconds)
        if limit <= rest:
            reason = f"what belongs to no group costs {rest:.6g} {unit} by itself"
            raise UserError(f"method.budgets: {budget.name} is {limit:.6g} {unit}, but {reason}; raise it")
        if limit >= whole:
            reason = f"the whole model has no more than {whole:.6g}"
            raise UserError(f"method.budgets: {budget.name} is {limit:.6g} {unit}, but {reason}; lower it")
        if limit in limits:
            raise UserError(f"method.budgets: {limits[limit]} and {budget.name} are equal; leave one out")
        limits[limit] = budget.name
    return list(limits)


@dataclass(frozen=True)
class Rounding:
    """The groups that a budget keeps.

    Attributes:
        kept: indices of the groups, ascending.
        duplicates: number of rows whose largest gate is that of a group which an earlier row has taken.
    """

    kept: tuple[int, ...]
    duplicates: int = 0


def round_rows(
    rows: Sequence[Sequence[float]],
    counts: Sequence[int],
    limits: Sequence[float],
    costs: Sequence[Callable[[Iterable[int]], float]],
) -> list[Rounding]:
    """Round rows of soft gates to kept groups, for several budgets at once (paper 4, end of step 1).

    Every row of a budget takes the group with its largest gate. What is left of the budget, after rows that share a
    group, goes to the groups with the largest remaining gates, summed over the rows of the budget, until no group fits.
    A larger budget starts from the groups of the next smaller one, so that the subnets are nested.

    Args:
        rows: (K, N) gates, the most important row first.
        counts: number of rows of each budget.
        limits: the budgets; the true cost of each result is below its own.
        costs: for each budget, the true cost of kept groups (`kept_cost`), which grows with every group.

    Returns:
        The kept groups of every budget, in the order of ``limits``.

    Raises:
        UserError: a gate is not a finite number.
    """
    _check_finite(gate for row in rows for gate in row)
    orders = []
    for count in counts:
        picks = [_largest(row) for row in rows[:count]]
        gates = [sum(column) for column in zip(*rows[:count], strict=True)] or [0.0] * (len(rows[0]) if rows else 0)
        orders.append(_Order(picks, descending(gates)))
    return _nested(orders, limits, costs)


def round_scores(
    scores: Sequence[float], limits: Sequence[float], costs: Sequence[Callable[[Iterable[int]], float]]
) -> list[Rounding]:
    """Keep for every budget the groups with the highest scores that fit; otherwise as `round_rows`.

    Args:
        scores: (N,) one score per group.
        limits: see `round_rows`.
        costs: see `round_rows`.

    Raises:
        UserError: a score is not a finite number.
    """
    _check_finite(scores)
    return _nested([_Order([], descending(scores))] * len(limits), limits, costs)


def descending(values: Sequence[float]) -> list[int]:
    """Return the indices of values from the largest to the smallest, the first of equal ones first."""
    return sorted(range(len(values)), key=lambda i: -values[i])


@dataclass(frozen=True)
class _Order:
    """The groups in the order in which one budget takes them: first the picks of its rows, then the others."""

    picks: list[int]
    others: list[int]


def _nested(
    orders: Sequence[_Order], limits: Sequence[float], costs: Sequence[Callable[[Iterable[int]], float]]
) -> list[Rounding]:
    """Fill the budgets from the smallest to the largest, each starting with the groups of the one before."""
    found: dict[int, Rounding] = {}
    kept: list[int] = []
    for number in sorted(range(len(limits)), key=lambda i: limits[i]):
        order = orders[number]
        for group in dict.fromkeys([*order.picks, *order.others]):
            if group not in kept and costs[number]([*kept, group]) < limits[number]:
                kept.append(group)
        duplicates = len(order.picks) - len(set(order.picks))
        found[number] = Rounding(tuple(sorted(kept)), duplicates)
    return [found[number] for number in range(len(limits))]


def _largest(row: Sequence[float]) -> int:
    """Return the index of the largest gate, the first of equal ones."""
    return max(range(len(row)), key=lambda i: row[i])


def _check_finite(values: Iterable[float]) -> None:
    if not all(map(math.isfinite, values)):
        raise UserError("the scores of the groups are not finite: the training diverged; lower training.optimizer.lr")


def _written(value: object) -> str:
    """Return a number as the recipe wrote it; of those that YAML has read, the shortest form is taken."""
    if isinstance(value, str):
        return value.strip()
    text = repr(value)
    return text.removesuffix(".0")
