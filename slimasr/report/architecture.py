"""The shape of a subnet, layer by layer: how deep it is and how wide its feed-forward modules are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slimasr.supernet.subnet import Subnet, Units

Layer = Mapping[str, int]
"""Feed-forward module -> channels; a Conformer layer has ``ffn1`` and ``ffn2``, an MH-SSM layer ``ffn``."""

Architecture = tuple[Layer | None, ...]
"""One entry per layer of the max subnet, the one at the input first; None = dropped."""


def architecture_of(subnet: Subnet, layers: Sequence[Layer]) -> Architecture:
    """The layers of a subnet.

    Args:
        subnet: which part of the max subnet runs.
        layers: those of the max subnet.
    """
    running = range(len(layers)) if subnet.path is None else subnet.path
    return tuple(_layer(subnet, number, layer) if number in running else None for number, layer in enumerate(layers))


def _layer(subnet: Subnet, number: int, full: Layer) -> Layer:
    return {name: _channels(subnet.units_of(number, name), size, subnet.width) for name, size in full.items()}


def depth(architecture: Architecture) -> int:
    """How many layers run."""
    return sum(layer is not None for layer in architecture)


def mean_ffn(architecture: Architecture) -> float:
    """Mean width of the feed-forward modules in the layers that run, 0 without any."""
    sizes = [size for layer in architecture if layer is not None for size in layer.values()]
    return sum(sizes) / len(sizes) if sizes else 0.0


def name_of(architecture: Architecture) -> str:
    """A readable name, such as ``6 layers, FFN 192``: the depth, and the mean width of the feed-forward modules."""
    layers = depth(architecture)
    return f"{layers} layer{'' if layers == 1 else 's'}, FFN {mean_ffn(architecture):.0f}"


def _channels(units: Units | None, full: int, width: float) -> int:
    if units is None:
        return round(width * full)
    return units if isinstance(units, int) else len(units)
