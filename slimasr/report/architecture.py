"""The shape of a subnet, layer by layer: how deep it is and how wide its feed-forward modules are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Layer = Mapping[str, int]
"""Feed-forward module -> channels; a Conformer layer has ``ffn1`` and ``ffn2``, an MH-SSM layer ``ffn``."""

Architecture = tuple[Layer | None, ...]
"""One entry per layer of the max subnet, the one at the input first; None = dropped."""


def architecture_of(subnet: Mapping[str, Any], layers: Sequence[Layer]) -> Architecture:
    """The layers of a subnet.

    Args:
        subnet: plain data of a `slimasr.supernet.subnet.Subnet`.
        layers: those of the max subnet.
    """
    path, units = subnet.get("path"), subnet.get("units", {})
    width = float(subnet.get("width", 1.0))
    running = range(len(layers)) if path is None else path
    return tuple(
        {module: _channels(units.get(f"{number}.{module}"), full, width) for module, full in layer.items()}
        if number in running
        else None
        for number, layer in enumerate(layers)
    )


def depth(architecture: Architecture) -> int:
    """How many layers run."""
    return sum(layer is not None for layer in architecture)


def mean_ffn(architecture: Architecture) -> float:
    """Mean width of the feed-forward modules in the layers that run, 0 without any."""
    sizes = [size for layer in architecture if layer is not None for size in layer.values()]
    return sum(sizes) / len(sizes) if sizes else 0.0


def _channels(units: int | Sequence[int] | None, full: int, width: float) -> int:
    if units is None:
        return round(width * full)
    return units if isinstance(units, int) else len(units)
