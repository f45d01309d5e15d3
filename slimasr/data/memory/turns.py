"""How groups of utterances, such as those of one language, take turns in an epoch.

An epoch has as many batches as all its utterances make, each once. Sampling only decides how many of them each group
has: small groups repeat, and only a part of a large group occurs, a different one in each epoch.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Turns:
    """The turns of an epoch.

    Attributes:
        step_batches: batches of an optimiser step in one process, which belong to the same group.
        power: the share of a group is proportional to this power of its duration; None = each utterance occurs once.
        left: what is left of the epoch, with a ``power``. Otherwise the utterances say what is left.
        part: distinguishes what is drawn for the rest of an epoch from what was drawn before; empty at its beginning.
    """

    step_batches: int = 1
    power: float | None = None
    left: Fraction = Fraction(1)
    part: str = ""

    def counts(self, natural: Mapping[str, int], seconds: Mapping[str, float], order: str) -> dict[str, int]:
        """Return the number of batches of every group for one process, multiples of ``step_batches``.

        Args:
            natural: group -> the number of batches in which each of its utterances occurs once.
            seconds: group -> total duration of its utterances.
            order: seed of the order in which groups of equal claim get what remains.
        """
        if self.power is None:
            # The last step of a group is filled, because it would otherwise need batches of another group.
            return {key: self.whole_steps(count) for key, count in natural.items()}
        shares = shares_of(seconds, self.power)
        ties = sorted(natural)
        random.Random(order).shuffle(ties)
        given = apportion(self.steps(natural), {key: shares[key] for key in ties})
        return {key: given[key] * self.step_batches for key in natural}

    def total(self, natural: Mapping[str, int]) -> int:
        """Return the sum of `counts`, which does not depend on shares."""
        if self.power is None:
            return sum(map(self.whole_steps, natural.values()))
        return self.steps(natural) * self.step_batches

    def steps(self, natural: Mapping[str, int]) -> int:
        """Return the number of steps that are left with a ``power``; a whole epoch has at least one of every group."""
        whole = max(math.ceil(sum(natural.values()) / self.step_batches), len(natural))
        return math.ceil(whole * self.left)

    def whole_steps(self, count: int) -> int:
        """Return a number of batches, rounded up to whole steps."""
        return math.ceil(count / self.step_batches) * self.step_batches


def shares_of(seconds: Mapping[str, float], power: float) -> dict[str, float]:
    """Return the share of every group, proportional to a power of its duration; their sum is 1."""
    # Relative to the longest, so that no power overflows. A group without duration has a power of 0.
    longest = max(seconds.values())
    weights = {key: (value / longest) ** power if longest else 1.0 for key, value in seconds.items()}
    return {key: weight / sum(weights.values()) for key, weight in weights.items()}


def apportion(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Divide steps among groups by their shares (largest remainders), at least one each if there are enough.

    Of equal remainders, the first in the order of ``shares`` counts.
    """
    exact = {key: total * share for key, share in shares.items()}
    given = {key: math.floor(value) for key, value in exact.items()}
    # `sorted` keeps the order of equal remainders.
    by_remainder = sorted(exact, key=lambda key: given[key] - exact[key])
    for key in by_remainder[: total - sum(given.values())]:
        given[key] += 1
    for key in [key for key, count in given.items() if count == 0]:
        largest = max(given, key=lambda other: given[other])
        if given[largest] > 1:
            given[largest] -= 1
            given[key] += 1
    return given
