"""Pareto fronts and limits, which choose among measured subnets the ones to deploy and the one for a device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from slimasr.errors import UserError
from slimasr.supernet.cost import COST_UNITS
from slimasr.supernet.subnet import Subnet

MEGABYTE = 1e6
"""Bytes."""


@dataclass(frozen=True)
class Measurement:
    """One subnet as the search knows it.

    Attributes:
        subnet: the subnet that was measured.
        wer: dev WER in percent.
        dev_loss: transducer loss per reference token on dev; None if the WER was too high for the loss to matter.
        costs: cost name -> value; lower is better for all of them.
    """

    subnet: Subnet
    wer: float
    dev_loss: float | None
    costs: Mapping[str, float]

    @property
    def fitness(self) -> tuple[float, float]:
        """WER, then loss: the best subnet has the smallest pair. A missing or non-finite value never wins."""
        return finite_or_inf(self.wer), finite_or_inf(self.dev_loss)

    def cost(self, name: str) -> float:
        """Return one cost.

        Raises:
            UserError: this cost of the subnet has not been measured.
        """
        if name not in self.costs:
            raise _not_measured(self.subnet, name)
        return self.costs[name]


def finite_or_inf(value: float | None) -> float:
    """Return the value, or infinity if it is missing or not finite: such a value must lose every comparison."""
    return value if value is not None and math.isfinite(value) else math.inf


def find_front(measurements: Iterable[Measurement], cost: str) -> list[Measurement]:
    """Find the Pareto front of WER and one cost, cheapest subnet first.

    A subnet is dominated when another one is no worse in dev WER and cost and better in at least one of the
    two; subnets equal in both stay together. Pathways of different languages recognise different speech: each language
    has a front of its own, and these follow one another in the order in which the languages come first.
    """
    groups: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        groups.setdefault(measurement.subnet.pathway, []).append(measurement)
    return [found for group in groups.values() for found in _front_of(group, cost)]


def _front_of(measurements: Iterable[Measurement], cost: str) -> list[Measurement]:
    """Find the front of subnets that recognise the same speech."""
    front: list[Measurement] = []
    known = (m for m in measurements if math.isfinite(finite_or_inf(m.wer)))
    # By rising cost, and by WER among equal costs: all that could dominate a subnet comes before it, and the last one
    # on the front has the lowest WER so far.
    for candidate in sorted(known, key=lambda m: (m.cost(cost), *m.fitness)):
        if not front:
            front.append(candidate)
            continue
        last = front[-1]
        equal = (candidate.wer, candidate.cost(cost)) == (last.wer, last.cost(cost))
        if candidate.wer < last.wer or equal:
            front.append(candidate)
    return front


@dataclass(frozen=True)
class Limits:
    """Upper bounds of a device; None = no bound. Each has the unit of the cost of the same name."""

    params: float | None = None
    int8_bytes: float | None = None
    macs: float | None = None
    rtf: float | None = None
    latency: float | None = None

    @classmethod
    def from_options(
        cls,
        max_params: float | None,
        max_int8_mb: float | None,
        max_macs: float | None,
        max_rtf: float | None,
        max_latency_ms: float | None = None,
    ) -> Limits:
        """Create the limits from the values of command-line options (a megabyte is 1e6 bytes)."""
        max_int8_bytes = None if max_int8_mb is None else max_int8_mb * MEGABYTE
        return cls(max_params, max_int8_bytes, max_macs, max_rtf, max_latency_ms)

    @property
    def given(self) -> dict[str, float]:
        """Cost name -> bound, for the bounds that are set."""
        bounds = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: bound for name, bound in bounds.items() if bound is not None}

    def tightened(self, other: Limits) -> Limits:
        """Combine two sets of limits: each bound is the lower of the two."""
        bounds = self.given
        for name, bound in other.given.items():
            bounds[name] = min(bounds.get(name, bound), bound)
        return Limits(**bounds)

    def excess(self, costs: Mapping[str, float]) -> float:
        """Return the largest ratio of cost to bound: at most 1 if all limits hold.

        Args:
            costs: cost name -> value; every limited cost is among them.
        """
        return max((_ratio(costs[name], bound) for name, bound in self.given.items()), default=0.0)

    def allow(self, costs: Mapping[str, float]) -> bool:
        """Return whether all limits hold. For ``costs`` see `excess`."""
        return self.excess(costs) <= 1.0


def best_under(measurements: Sequence[Measurement], limits: Limits, language: str = "") -> Measurement:
    """Choose the subnet with the lowest dev WER within the limits; dev loss, then parameters, break ties.

    Subnets that lack a limited cost are skipped: a search measures time only for the Pareto front.

    Args:
        measurements: all subnets that were measured.
        limits: upper bounds on costs.
        language: only subnets that serve it can be chosen. Pathways of several languages cannot be compared with each
            other, as they recognise different speech, so it is needed for them.

    Raises:
        UserError: no subnet meets the limits (the message names the one that misses them least), or the language is not
            known.
    """
    if not measurements:
        raise UserError("no subnet has been measured yet: run stage 5 (slimasr-search) first")
    languages = list(dict.fromkeys(m.subnet.pathway for m in measurements if not m.subnet.serves("")))
    if len(languages) > 1 and not language:
        raise UserError(f"limits choose within a language: name one of {', '.join(languages)}")
    if language:
        measurements = [m for m in measurements if m.subnet.serves(language)]
    if not measurements:
        known = ", ".join(languages)
        raise UserError(f"language {language}: none of its subnets has been measured within the limits; known: {known}")
    comparable = [m for m in measurements if limits.given.keys() <= m.costs.keys()]
    if not comparable:
        # No subnet has all limited costs, so the first one lacks at least one.
        first = measurements[0]
        missing = next(name for name in limits.given if name not in first.costs)
        raise _not_measured(first.subnet, missing)
    fitting = [m for m in comparable if limits.allow(m.costs)]
    if not fitting:
        raise no_subnet_meets(limits, {m.subnet: m.costs for m in comparable})
    return min(fitting, key=lambda m: (*m.fitness, m.cost("params")))


def no_subnet_meets(limits: Limits, costs: Mapping[Subnet, Mapping[str, float]]) -> UserError:
    """Create the error for limits that no subnet meets; it names the subnet that misses them least.

    Args:
        costs: the costs of every subnet that was considered, including ``params`` and all limited costs.
    """
    nearest = min(costs, key=lambda subnet: (limits.excess(costs[subnet]), costs[subnet]["params"]))
    nearest_costs = costs[nearest]
    bounds = ", ".join(f"{name} <= {_figure(bound)}" for name, bound in limits.given.items())
    exceeded = [name for name, bound in limits.given.items() if nearest_costs[name] > bound]
    excess = ", ".join(f"{_figure(nearest_costs[name])} {COST_UNITS[name].raw}" for name in exceeded)
    return UserError(f"no subnet meets {bounds}: the nearest is {nearest.id} with {excess}")


def _not_measured(subnet: Subnet, cost: str) -> UserError:
    # Latency is known only where a search was given the profile of a device.
    advice = " with --latency PROFILE" if cost == "latency" else ""
    return UserError(f"subnet {subnet.id} has no measured {cost}: run stage 5 (slimasr-search){advice}")


def _ratio(cost: float, bound: float) -> float:
    # A bound of 0 is met only by a cost of 0, and missed infinitely by every other.
    if bound <= 0:
        return 1.0 if cost <= bound else float("inf")
    return cost / bound


def _figure(value: float) -> str:
    """Format a cost for a message: whole numbers for counts, three digits for factors."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
