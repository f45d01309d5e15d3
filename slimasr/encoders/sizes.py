"""Sizes of the modules of a layer at a subnet, for encoders whose layers have several modules with units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slimasr.supernet.subnet import Subnet, Units, scaled, unit_count


def layer_units(subnet: Subnet, layer: int, modules: Sequence[str]) -> dict[str, Units | None]:
    """Return module -> units that run in one layer; None = all that the width allows."""
    return {name: subnet.units_of(layer, name) for name in modules}


def shrunk_sizes(
    sizes: Mapping[str, int], width: float, units: Mapping[str, Units | None], *, by_count: bool
) -> dict[str, int]:
    """Return the sizes of one stand-alone layer.

    Args:
        sizes: module -> its units at width 1, of which ``heads`` are attention heads; 0 = the layer has none.
        width: fraction of channels that run.
        units: see `layer_units`.
        by_count: whether the width reduces the number of heads; otherwise it changes their size.
    """
    shrunk = {}
    for name, size in sizes.items():
        # Heads keep their number if the width changes their size instead.
        scales = size > 0 and (name != "heads" or by_count)
        limit = scaled(size, width) if scales else size
        chosen = units[name]
        number = limit if chosen is None else unit_count(chosen)
        # A module that the layer lacks stays absent, whatever is chosen for it.
        shrunk[name] = min(number, limit)
    return shrunk
