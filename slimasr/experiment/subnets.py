"""The subnets that a name stands for: a width, an id, ``front``, ``all``."""

from __future__ import annotations

from collections.abc import Iterable

from slimasr.errors import UserError
from slimasr.experiment.archive import measured_subnets, read_candidates, read_front, recorded_front
from slimasr.experiment.folder import Experiment
from slimasr.supernet.space import SearchSpace
from slimasr.supernet.subnet import Subnet

MOST_LISTED = 100
"""Larger spaces are never listed: ``all`` then means the Pareto front, max and min."""


def find_subnet(experiment: Experiment, text: str) -> Subnet:
    """The subnet meant by a width, ``max``, ``min``, JSON, or the id of one that the search has evaluated.

    Raises:
        UserError: none is.
    """
    try:
        return experiment.space.parse(text)
    except UserError as error:
        evaluated = [*measured_subnets(experiment), *(m.subnet for m in read_candidates(experiment))]
        ids = {subnet.id: subnet for subnet in evaluated}
        if text.strip() in ids and ids[text.strip()] in experiment.space:
            return ids[text.strip()]
        advice = "" if experiment.space.count() <= MOST_LISTED else ", or the id of one that the search has evaluated"
        raise UserError(f"{error}{advice}") from None


def find_subnets(experiment: Experiment, texts: Iterable[str]) -> list[Subnet]:
    """The subnets meant by several names, each once: also ``front``, and ``all``, which is front, max and min where
    the space is too large to be gone through.

    Raises:
        UserError: a name means none, or no search has been run.
    """
    found: dict[Subnet, None] = {}
    for text in texts:
        if text == "front":
            found |= dict.fromkeys(read_front(experiment))
        elif text == "all":
            found |= dict.fromkeys(all_subnets(experiment))
        else:
            found[find_subnet(experiment, text)] = None
    return list(found)


def all_subnets(experiment: Experiment) -> list[Subnet]:
    """All subnets, or where those are too many: max, the front from the most expensive one down, and min.

    Raises:
        UserError: there are too many, and no search has been run.
    """
    return listed(experiment.space) or _ends(experiment.space, reversed(read_front(experiment)))


def profiled_subnets(space: SearchSpace, experiment: Experiment | None) -> list[Subnet]:
    """The same; before a search, max and min alone.

    Args:
        space: the search space.
        experiment: the experiment with this space, None where it is not trained.
    """
    front = [] if experiment is None else recorded_front(experiment)
    return listed(space) or _ends(space, reversed(front))


def listed(space: SearchSpace) -> list[Subnet]:
    """All subnets of a small space, largest first; none of a large one."""
    return list(space) if space.count() <= MOST_LISTED else []


def _ends(space: SearchSpace, between: Iterable[Subnet]) -> list[Subnet]:
    return list(dict.fromkeys([space.max, *(s for s in between if s != space.min), space.min]))
