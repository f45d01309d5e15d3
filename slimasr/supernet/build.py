"""Build the search space of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from slimasr.supernet.list_space import ListSpace
from slimasr.supernet.space import LayerSpace, SearchSpace, WidthSpace
from slimasr.supernet.subnet import Subnet, with_exit

if TYPE_CHECKING:
    from slimasr.config.schema import Config


def build_space(config: Config) -> SearchSpace:
    """Build the search space of a recipe, whose branches are those of its encoder."""
    space = config.space
    if space.kind == "widths":
        return WidthSpace(tuple(space.widths))
    if space.kind == "branches":
        return branch_space(config.model.encoder.paths, config.model.exits)
    units = tuple((module, tuple(sizes)) for module, sizes in space.units.items())
    return LayerSpace(tuple(space.depths), units, tuple(space.widths), tuple(config.model.exits))


def branch_space(paths: Sequence[tuple[int, ...]], exits: Sequence[int] = ()) -> BranchSpace:
    """Return the space of the branches of a tree, which are called ``l14`` and so on by their depths.

    Args:
        paths: ids of the layers of every branch; the first is the path of the max subnet.
        exits: depths of this path with an output of their own, which a branch uses that is the beginning of it.
    """
    # The max subnet has no path, as in every other space.
    subnets = (Subnet(), *(with_exit(Subnet(1.0, path), exits) for path in paths[1:]))
    return BranchSpace(subnets, tuple(f"l{len(path)}" for path in paths))
