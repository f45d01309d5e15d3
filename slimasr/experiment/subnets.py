"""Find subnets by name: a width, an id, ``front``, ``all``.

The files of a search are read only for some names; `slimasr.experiment.archive`, which imports the layouts of all
result files, is therefore imported where it is used.
"""

from __future__ import annotations

from collections.abc import Iterable

from slimasr.errors import UserError
from slimasr.experiment.folder import Experiment
from slimasr.supernet.space import SearchSpace
from slimasr.supernet.subnet import Subnet

MOST_LISTED = 100
"""In larger spaces, ``all`` means the Pareto front, max and min."""


def find_subnet(experiment: Experiment, text: str) -> Subnet:
    """Find the subnet with this width, id or JSON, or ``max`` or ``min``.

    Ids are looked up in the space if it can be listed, and among the subnets that a search has evaluated.

    Raises:
        UserError: there is no such subnet.
    """
    try:
        return experiment.space.parse(text)
    except UserError as error:
        from slimasr.experiment.archive import measured_subnets, read_candidates

        # Reading the files of the search is slow, so this comes only after the space itself.
        evaluated = [*measured_subnets(experiment), *(m.subnet for m in read_candidates(experiment))]
        ids = {subnet.id: subnet for subnet in evaluated}
        found = ids.get(text.strip())
        if found is not None and found in experiment.space:
            return found
        advice = "" if experiment.space.count() <= MOST_LISTED else ", or the id of one that the search has evaluated"
        raise UserError(f"{error}{advice}") from None


def chosen_subnet(experiment: Experiment, name: str | None = None, language: str | None = None) -> Subnet:
    """Find the one subnet that recognises speech: by its name, or by the language of its pathway, or max.

    Raises:
        UserError: there is no such subnet, or none is named although each language has a pathway of its own.
    """
    if name is not None and language is not None:
        raise UserError(f"name either the subnet ({name}) or the language ({language}) of its pathway, not both")
    if name is not None:
        return find_subnet(experiment, name)
    if language is not None:
        return _subnet_of_language(experiment, language)
    pathways = experiment.space.pathways
    if len(pathways) > 1:
        raise UserError(f"{experiment.dir}: has a pathway for each language; name one of {', '.join(pathways)}")
    return experiment.space.max


def _subnet_of_language(experiment: Experiment, language: str) -> Subnet:
    """Return the subnet whose pathway is that of a language, else the one whose pathway serves any."""
    pathways = experiment.space.pathways
    if not pathways:
        raise UserError(f"language {language}: {experiment.dir} has no pathways, so it needs no language; leave it out")
    # A space of pathways lists few subnets.
    serving = [subnet for subnet in experiment.space if subnet.pathway and subnet.serves(language)]
    if not serving:
        raise UserError(
            f"language {language}: {experiment.dir} has no such pathway; choose one of {', '.join(pathways)}"
        )
    return next((subnet for subnet in serving if subnet.pathway == language), serving[0])


def find_subnets(experiment: Experiment, texts: Iterable[str]) -> list[Subnet]:
    """Find the subnets with these names, each once.

    ``front`` is the Pareto front. ``all`` is every subnet; in a large space, the Pareto front, max and min.

    Raises:
        UserError: a name is unknown, or no search has been run.
    """
    found: dict[Subnet, None] = {}
    for text in texts:
        if text == "front":
            from slimasr.experiment.archive import read_front

            found |= dict.fromkeys(read_front(experiment))
        elif text == "all":
            found |= dict.fromkeys(all_subnets(experiment))
        else:
            found[find_subnet(experiment, text)] = None
    return list(found)


def all_subnets(experiment: Experiment) -> list[Subnet]:
    """List all subnets; of a large space max, the Pareto front from its most expensive subnet down, and min.

    Raises:
        UserError: the space is large, and no search has been run.
    """
    from slimasr.experiment.archive import read_front

    return listed(experiment.space) or _ends(experiment.space, reversed(read_front(experiment)))


def profiled_subnets(space: SearchSpace, experiment: Experiment | None) -> list[Subnet]:
    """List the subnets as `all_subnets` does; of a large space that has not been searched, max and min only.

    Args:
        space: the search space.
        experiment: the experiment with this space, None if it is not trained.
    """
    from slimasr.experiment.archive import recorded_front

    front = [] if experiment is None else recorded_front(experiment)
    return listed(space) or _ends(space, reversed(front))


def listed(space: SearchSpace) -> list[Subnet]:
    """List all subnets of a small space, largest first; an empty list for a large one."""
    return list(space) if space.count() <= MOST_LISTED else []


def _ends(space: SearchSpace, between: Iterable[Subnet]) -> list[Subnet]:
    """Put max first and min last, each subnet once."""
    inner = [subnet for subnet in between if subnet not in (space.max, space.min)]
    # In a space of one subnet, max and min are the same.
    return list(dict.fromkeys([space.max, *inner, space.min]))
