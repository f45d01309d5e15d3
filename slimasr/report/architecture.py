"""The shape of a subnet, layer by layer: how deep it is and how wide its feed-forward modules are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slimasr.supernet.subnet import Subnet, Units, unit_count

Layer = Mapping[str, int]
"""Feed-forward module -> channels; a Conformer layer has ``ffn1`` and ``ffn2``, an MH-SSM layer ``ffn``."""

Architecture = tuple[Layer | None, ...]
"""One entry per layer of the max subnet, the one at the input first; None = dropped. A branch of a tree has its layers
in running order, and behind them what it lacks of the deepest one."""


def feed_forward(units: Layer) -> dict[str, int]:
    """The feed-forward modules of a layer, from the units of all its modules."""
    return {module: size for module, size in units.items() if module.startswith("ffn")}


def architecture_of(subnet: Subnet, layers: Sequence[Layer], max_depth: int | None = None) -> Architecture:
    """The layers of a subnet.

    Args:
        subnet: which layers run.
        layers: all layers, in the order of their ids.
        max_depth: number of layers of the max subnet, which are the first ones; None = all.
    """
    number = len(layers) if max_depth is None else max_depth
    # A subnet without a path is the max subnet.
    path = tuple(range(number)) if subnet.path is None else subnet.path
    # Dropped layers of the max subnet keep their place, so that layer k is always entry k.
    places = path if all(layer < number for layer in path) else range(len(path))
    by_place = dict(zip(places, path, strict=True))
    # Reports of older versions know no layers, so that the result is empty whatever the path is.
    return tuple(
        _layer(subnet, by_place[place], layers[by_place[place]]) if place in by_place else None
        for place in range(number)
    )


def _layer(subnet: Subnet, number: int, full: Layer) -> Layer:
    channels = {}
    for module, size in full.items():
        channels[module] = _channels(subnet.units_of(number, module), size, subnet.width)
    return channels


def running(architecture: Architecture) -> list[Layer]:
    """The layers that run, in order."""
    return [layer for layer in architecture if layer is not None]


def depth(architecture: Architecture) -> int:
    """How many layers run."""
    return len(running(architecture))


def mean_ffn(architecture: Architecture) -> float:
    """Mean width of the feed-forward modules in the layers that run, 0 without any."""
    sizes = [size for layer in running(architecture) for size in layer.values()]
    return sum(sizes) / len(sizes) if sizes else 0.0


def name_of(architecture: Architecture) -> str:
    """A readable name, such as ``6 layers, FFN 192``: the depth, and the mean width of the feed-forward modules."""
    layers = depth(architecture)
    plural = "" if layers == 1 else "s"
    return f"{layers} layer{plural}, FFN {mean_ffn(architecture):.0f}"


def _channels(units: Units | None, full: int, width: float) -> int:
    # Without units of its own a module has the subnet's width.
    return round(width * full) if units is None else unit_count(units)
