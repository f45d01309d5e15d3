"""The shape of a subnet, layer by layer: how deep it is and how wide its feed-forward modules are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slimasr.supernet.subnet import Subnet, Units

Layer = Mapping[str, int]
"""Feed-forward module -> channels; a Conformer layer has ``ffn1`` and ``ffn2``, an MH-SSM layer ``ffn``."""

Architecture = tuple[Layer | None, ...]
"""One entry per layer of the max subnet, the one at the input first; None = dropped."""


def feed_forward(units: Layer) -> dict[str, int]:
    """The feed-forward modules of a layer, from the units of all its modules."""
    return {module: size for module, size in units.items() if module.startswith("ffn")}


def architecture_of(subnet: Subnet, layers: Sequence[Layer]) -> Architecture:
    """The layers of a subnet.

    Args:
        subnet: which part of the max subnet runs.
        layers: those of the max subnet.
    """
    # A subnet without a path runs all layers. Dropped layers keep their place, so that layer k is always entry k.
    running = range(len(layers)) if subnet.path is None else subnet.path
    architecture = []
    # Reports of older versions know no layers, so that the result is empty whatever the path is.
    for number, layer in enumerate(layers):
        architecture.append(_layer(subnet, number, layer) if number in running else None)
    return tuple(architecture)


def _layer(subnet: Subnet, number: int, full: Layer) -> Layer:
    channels = {}
    for module, size in full.items():
        channels[module] = _channels(subnet.units_of(number, module), size, subnet.width)
    return channels


def depth(architecture: Architecture) -> int:
    """How many layers run."""
    return sum(layer is not None for layer in architecture)


def mean_ffn(architecture: Architecture) -> float:
    """Mean width of the feed-forward modules in the layers that run, 0 without any."""
    running = [layer for layer in architecture if layer is not None]
    sizes = [size for layer in running for size in layer.values()]
    return sum(sizes) / len(sizes) if sizes else 0.0


def name_of(architecture: Architecture) -> str:
    """A readable name, such as ``6 layers, FFN 192``: the depth, and the mean width of the feed-forward modules."""
    layers = depth(architecture)
    plural = "" if layers == 1 else "s"
    return f"{layers} layer{plural}, FFN {mean_ffn(architecture):.0f}"


def _channels(units: Units | None, full: int, width: float) -> int:
    # Without units of its own a module has the subnet's width. Units are either a number, which stands for the first
    # so many channels, or the list of the channels that run.
    if units is None:
        return round(width * full)
    return units if isinstance(units, int) else len(units)
