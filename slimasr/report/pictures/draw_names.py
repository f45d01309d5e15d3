"""Place the names of points in a plot so that they can be read (matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

_Place = tuple[tuple[int, int], Literal["left", "right"], Literal["bottom", "top"]]

# Where a name may stand, best first: offset from its point, and which of its edges are there.
_PLACES: tuple[_Place, ...] = (
    ((6, 6), "left", "bottom"),
    ((6, -6), "left", "top"),
    ((-6, 6), "right", "bottom"),
    ((-6, -6), "right", "top"),
    ((6, 18), "left", "bottom"),
    ((6, -18), "left", "top"),
    ((-6, 18), "right", "bottom"),
    ((-6, -18), "right", "top"),
)
_POINT = 4.0
"""Half the side of the square that a marker covers, in printer's points."""


def move_apart(figure: Figure) -> None:
    """Move the names of points to where they overlap neither each other nor any marker, if such a place exists.

    Names are placed one by one from left to right, each at the first place around its point where it is readable and
    inside the plot. A name without such a place stands where it overlaps least.
    """
    # The layout has to be known, since names have a size in points but stand at places in data coordinates.
    figure.draw_without_rendering()
    for axes in figure.axes:
        names = [text for text in axes.texts if isinstance(text, Annotation)]
        if names:
            _move_apart(axes, _from_the_left(axes, names), _POINT * figure.dpi / 72)


def _from_the_left(axes: Axes, names: Sequence[Annotation]) -> list[Annotation]:
    return sorted(names, key=lambda name: axes.transData.transform(name.xy)[0])


def _move_apart(axes: Axes, names: Sequence[Annotation], half: float) -> None:
    taken = []
    # Points, also those without a name, and the ends of error bars.
    for line in axes.lines:
        for x, y in axes.transData.transform(np.asarray(line.get_xydata())):
            taken.append(Bbox.from_extents(x - half, y - half, x + half, y + half))
    for name in names:
        covered = [_put(name, place, axes.bbox, taken) for place in range(len(_PLACES))]
        _put(name, covered.index(min(covered)), axes.bbox, taken)
        taken.append(name.get_window_extent())


def _put(name: Annotation, place: int, inside: Bbox, taken: Sequence[Bbox]) -> float:
    """Put a name at one of its places, and return how many square pixels of it cannot be read there."""
    offset, horizontal, vertical = _PLACES[place]
    name.set_position(offset)
    name.set_horizontalalignment(horizontal)
    name.set_verticalalignment(vertical)
    box = name.get_window_extent()
    return box.width * box.height - _common(box, inside) + sum(_common(box, other) for other in taken)


def _common(one: Bbox, other: Bbox) -> float:
    """Return the area that two boxes have in common."""
    both = Bbox.intersection(one, other)
    return 0.0 if both is None else float(both.width * both.height)
