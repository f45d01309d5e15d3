"""What a picture shows, as plain data: `draw_html` and `draw_png` draw it, each in its own way."""

from __future__ import annotations

from dataclasses import dataclass

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can tell apart, in print and on screen."""

TRACK = "#e9edf0"
"""Colour of the part of a bar that is not filled."""


@dataclass(frozen=True)
class Axis:
    """One axis of a chart; a linear scale may be made to start at zero."""

    title: str
    unit: str = ""
    log: bool = False
    from_zero: bool = False

    @property
    def label(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True)
class Point:
    """One point of a series.

    Attributes:
        name: what the point stands for, e.g. the id of a subnet.
        interval: ends of the error bar.
        hover: lines of text that the page shows; without them it shows the name and both values.
    """

    x: float
    y: float
    name: str = ""
    interval: tuple[float, float] | None = None
    hover: tuple[str, ...] = ()


@dataclass(frozen=True)
class Series:
    """Points that are drawn alike.

    Attributes:
        name: in the legend.
        marker: plotly's name of a symbol, empty for none.
        line: plotly's name of a dash style, empty where no line joins the points.
        color: empty for the colour of the panel.
        group: name of the series that it is shown and hidden with, empty for its own.
        faint: whether its markers are small and translucent, because there are many.
        labelled: whether names stand next to the points in a file, where there is no hover text.
        shared: whether it is the same in several panels and belongs to none.
    """

    name: str
    points: tuple[Point, ...]
    marker: str = ""
    line: str = ""
    color: str = ""
    group: str = ""
    in_legend: bool = True
    faint: bool = False
    labelled: bool = False
    shared: bool = False

    @property
    def error_bars(self) -> tuple[list[float], list[float]] | None:
        """Lengths of the bars below and above the points, None where they have no intervals."""
        ends = [(point.y, *point.interval) for point in self.points if point.interval is not None]
        below = [max(0.0, y - low) for y, low, _ in ends]
        above = [max(0.0, high - y) for y, _, high in ends]
        return (below, above) if ends else None


@dataclass(frozen=True)
class Panel:
    """Series that are seen together; the only panel of a chart may have no title."""

    title: str
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Chart:
    """One pair of axes. Its panels lie over each other on the page and stand side by side in a file."""

    title: str
    note: str
    x: Axis
    y: Axis
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Picture:
    """Charts that share one file, whose name ends in ``name``; on the page, each is a plot of its own."""

    name: str
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class Bar:
    """One module of one layer. Layer 1 is at the input; ``left`` and lengths are fractions of the strip's width."""

    layer: int
    left: float
    length: float
    full_length: float
    color: str
    hover: str


@dataclass(frozen=True)
class Strip:
    """The architecture of one subnet: its name, lines of text about it, a bar per module; dropped layers have none."""

    name: str
    lines: tuple[str, ...]
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Drawing:
    """Strips that share one file, whose name ends in ``name``. ``layers`` counts those of the max subnet."""

    name: str
    title: str
    note: str
    layers: int
    strips: tuple[Strip, ...]
