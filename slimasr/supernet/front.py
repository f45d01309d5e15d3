"""Pareto fronts and limits: which measured subnets are worth deploying, and which one fits a device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from slimasr.errors import UserError
from slimasr.supernet.cost import COST_UNITS
from slimasr.supernet.subnet import Subnet

MEGABYTE = 1e6


@dataclass(frozen=True)
class Measurement:
    """One subnet as the search knows it.

    Attributes:
        subnet: what was measured.
        wer: dev WER in percent.
        dev_loss: transducer loss per reference token on dev; None where the WER was too high for it to matter.
        costs: cost name -> value; lower is better for all of them.
    """

    subnet: Subnet
    wer: float
    dev_loss: float | None
    costs: Mapping[str, float]

    @property
    def fitness(self) -> tuple[float, float]:
        """WER, then loss: the best subnet has the smallest pair. A missing or non-finite figure never wins."""
        return finite_or_inf(self.wer), finite_or_inf(self.dev_loss)

    def cost(self, name: str) -> float:
        """One cost.

        Raises:
            UserError: it has not been measured.
        """
        if name not in self.costs:
            raise _not_measured(self.subnet, name)
        return self.costs[name]


def finite_or_inf(value: float | None) -> float:
    """The value, or infinity where there is none or it is not finite: such a figure must lose every comparison."""
    return value if value is not None and math.isfinite(value) else math.inf


def find_front(measurements: Iterable[Measurement], cost: str) -> list[Measurement]:
    """The non-dominated subnets, cheapest first.

    A subnet is dominated when another one is no worse in dev WER and cost and better in at least one of the
    two; subnets equal in both stay together.
    """
    front: list[Measurement] = []
    known = (m for m in measurements if math.isfinite(finite_or_inf(m.wer)))
    for item in sorted(known, key=lambda m: (m.cost(cost), *m.fitness)):
        better = not front or item.wer < front[-1].wer
        if better or (item.wer, item.cost(cost)) == (front[-1].wer, front[-1].cost(cost)):
            front.append(item)
    return front


@dataclass(frozen=True)
class Limits:
    """Upper bounds of a device; None = no bound. Each has the unit of the cost of the same name."""

    params: float | None = None
    int8_bytes: float | None = None
    macs: float | None = None
    rtf: float | None = None

    @classmethod
    def from_options(
        cls,
        max_params: float | None,
        max_int8_mb: float | None,
        max_macs: float | None,
        max_rtf: float | None,
    ) -> Limits:
        """The limits that the command-line options name (a megabyte is 1e6 bytes)."""
        return cls(max_params, None if max_int8_mb is None else max_int8_mb * MEGABYTE, max_macs, max_rtf)

    @property
    def given(self) -> dict[str, float]:
        """Cost name -> bound, for the bounds that are set."""
        bounds = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: bound for name, bound in bounds.items() if bound is not None}

    def tightened(self, other: Limits) -> Limits:
        """Where both have a bound, the lower one."""
        bounds = self.given
        for name, bound in other.given.items():
            bounds[name] = min(bounds.get(name, bound), bound)
        return Limits(**bounds)

    def excess(self, costs: Mapping[str, float]) -> float:
        """The largest ratio of cost to bound: at most 1 when all limits hold.

        Args:
            costs: cost name -> value; every limited cost is among them.
        """
        return max((_ratio(costs[name], bound) for name, bound in self.given.items()), default=0.0)

    def allow(self, costs: Mapping[str, float]) -> bool:
        """Whether all limits hold; ``costs`` as in `excess`."""
        return self.excess(costs) <= 1.0


def best_under(measurements: Sequence[Measurement], limits: Limits) -> Measurement:
    """The subnet of lowest dev WER among those within the limits; dev loss, then size, break ties.

    Subnets that lack a limited cost are skipped: a search measures time for the Pareto front alone.

    Raises:
        UserError: no subnet meets the limits; names the one that misses them least.
    """
    if not measurements:
        raise UserError("no subnet has been measured yet: run stage 5 (slimasr-search) first")
    judged = [m for m in measurements if limits.given.keys() <= m.costs.keys()]
    if not judged:
        first = measurements[0]
        raise _not_measured(first.subnet, next(name for name in limits.given if name not in first.costs))
    fitting = [m for m in judged if limits.allow(m.costs)]
    if not fitting:
        raise no_subnet_meets(limits, {m.subnet: m.costs for m in judged})
    return min(fitting, key=lambda m: (*m.fitness, m.cost("params")))


def no_subnet_meets(limits: Limits, costs: Mapping[Subnet, Mapping[str, float]]) -> UserError:
    """The error that says so; it names the subnet that misses the limits least.

    Args:
        costs: the costs of every subnet that was looked at, ``params`` and the limited ones among them.
    """
    nearest = min(costs, key=lambda subnet: (limits.excess(costs[subnet]), costs[subnet]["params"]))
    has = costs[nearest]
    asked = ", ".join(f"{name} <= {_figure(bound)}" for name, bound in limits.given.items())
    above = [name for name, bound in limits.given.items() if has[name] > bound]
    found = ", ".join(f"{_figure(has[name])} {COST_UNITS[name].raw}" for name in above)
    return UserError(f"no subnet meets {asked}: the nearest is {nearest.id} with {found}")


def _not_measured(subnet: Subnet, cost: str) -> UserError:
    return UserError(f"subnet {subnet.id} has no measured {cost}: run stage 5 (slimasr-search)")


def _ratio(cost: float, bound: float) -> float:
    if bound <= 0:
        return 1.0 if cost <= bound else float("inf")
    return cost / bound


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
