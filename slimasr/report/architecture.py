"""The shape of a subnet, layer by layer: how deep it is, and how much of the modules of each layer runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from slimasr.supernet.subnet import Subnet, Units, unit_count

Layer = Mapping[str, int]
"""Module -> units that run, 0 = the module is left out. A Conformer layer has the channels of ``ffn1``, the heads of
``heads``, the channels of ``conv`` and of ``ffn2``, an MH-SSM layer those of ``ffn``."""

Architecture = tuple[Layer | None, ...]
"""One entry per layer of the max subnet, the one at the input first; None = dropped. A branch of a tree has its layers
in running order, and behind them what it lacks of the deepest one."""

FEED_FORWARD = "ffn"
"""The kind of all feed-forward modules."""


def kind_of(module: str) -> str:
    """Return the kind of a module: ``ffn`` for each feed-forward module of a layer, else its name."""
    return FEED_FORWARD if module.startswith(FEED_FORWARD) else module


def feed_forward(units: Layer) -> dict[str, int]:
    """The feed-forward modules of a layer, from the units of all its modules."""
    return {module: size for module, size in units.items() if kind_of(module) == FEED_FORWARD}


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
    return {module: _units(subnet.units_of(number, module), size, subnet.width) for module, size in full.items()}


def running(architecture: Architecture) -> list[Layer]:
    """The layers that run, in order."""
    return [layer for layer in architecture if layer is not None]


def depth(architecture: Architecture) -> int:
    """How many layers run."""
    return len(running(architecture))


def is_same(one: Architecture, other: Architecture) -> bool:
    """Whether the same layers run, as far as both are known: results of older versions know feed-forward modules alone.

    Shapes that are not known are not the same.
    """
    layers = [[feed_forward(layer) for layer in running(each)] for each in (one, other)]
    return bool(layers[0]) and layers[0] == layers[1]


def varying_modules(architectures: Iterable[Architecture]) -> tuple[str, ...]:
    """Return the modules whose sizes differ between any layers that run, and all feed-forward modules, in order."""
    sizes: dict[str, set[int]] = {}
    for architecture in architectures:
        for layer in running(architecture):
            for module, size in layer.items():
                sizes.setdefault(module, set()).add(size)
    return tuple(module for module, found in sizes.items() if kind_of(module) == FEED_FORWARD or len(found) > 1)


def largest_sizes(architectures: Iterable[Architecture]) -> dict[str, int]:
    """Return the units of a full module, by the kind of the module."""
    largest: dict[str, int] = {}
    for architecture in architectures:
        for layer in running(architecture):
            for module, size in layer.items():
                largest[kind_of(module)] = max(size, largest.get(kind_of(module), 0))
    return largest


def mean_ffn(architecture: Architecture) -> float:
    """Mean width of the feed-forward modules in the layers that run, 0 without any."""
    return _mean([size for layer in running(architecture) for size in feed_forward(layer).values()])


def name_of(architecture: Architecture, modules: Sequence[str] = ()) -> str:
    """A readable name, such as ``6 layers, FFN 192, heads 2.5, conv in 5``.

    Args:
        architecture: the layers.
        modules: modules to name besides the feed-forward ones, with the mean of their units over the layers that run,
            or with the number of layers that have them if all of these are equal. Those that this kind of encoder does
            not have are left out.
    """
    layers = depth(architecture)
    plural = "" if layers == 1 else "s"
    parts = [f"{layers} layer{plural}", f"FFN {mean_ffn(architecture):.0f}"]
    for module in modules:
        known = any(module in layer for layer in running(architecture))
        if known and kind_of(module) != FEED_FORWARD:
            parts.append(f"{module} {_size_in_words([layer.get(module, 0) for layer in running(architecture)])}")
    return ", ".join(parts)


def _size_in_words(sizes: Sequence[int]) -> str:
    present = [size for size in sizes if size]
    if len(present) < len(sizes) and len(set(present)) <= 1:
        return f"in {len(present)}"
    mean = _mean(sizes)
    # Heads are few, channels many.
    return f"{mean:.1f}" if mean < 10 else f"{mean:.0f}"


def _mean(sizes: Sequence[int]) -> float:
    return sum(sizes) / len(sizes) if sizes else 0.0


def _units(units: Units | None, full: int, width: float) -> int:
    # Without units of its own a module has the subnet's width.
    return round(width * full) if units is None else unit_count(units)
