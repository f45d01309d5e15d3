"""Build the search space of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from slimasr.supernet.list_space import ListSpace
from slimasr.supernet.space import LayerSpace, SearchSpace, WidthSpace
from slimasr.supernet.subnet import Subnet

if TYPE_CHECKING:
    from slimasr.config.schema import Config


def build_space(config: Config) -> SearchSpace:
    """Build the search space of a recipe, whose branches are those of its encoder."""
    space = config.space
    if space.kind == "widths":
        return WidthSpace(tuple(space.widths))
    if space.kind == "branches":
        return branch_space(config.model.encoder.paths)
    units = tuple((module, tuple(sizes)) for module, sizes in space.units.items())
    return LayerSpace(tuple(space.depths), units, tuple(space.widths))


def branch_space(paths: Sequence[tuple[int, ...]]) -> ListSpace:
    """Return the space of the branches of a tree, which are called ``l14`` and so on by their depths.

    Args:
        paths: ids of the layers of every branch; the first is the path of the max subnet.
    """
    # The max subnet has no path, as in every other space.
    subnets = (Subnet(), *(Subnet(1.0, path) for path in paths[1:]))
    return ListSpace(subnets, tuple(f"l{len(path)}" for path in paths), gene="branch")
