"""What a picture shows, as plain data. `draw_html` and `draw_png` draw it, each in its own way."""

from __future__ import annotations

from dataclasses import dataclass

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can tell apart, in print and on screen."""

TRACK = "#e9edf0"
"""Colour of the part of a bar that is not filled."""


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Attributes:
        title: what it shows.
        unit: unit of the values, empty if they have none.
        log: whether the scale is logarithmic.
        from_zero: whether a linear scale starts at zero rather than below the smallest value.
    """

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
        name: text in the legend.
        marker: plotly's name of a symbol, empty for none.
        line: plotly's name of a dash style, empty if no line joins the points.
        color: CSS colour; empty for the colour of the panel.
        group: name of the series that it is shown and hidden with; empty if it is shown and hidden alone.
        in_legend: whether the legend has an entry for it.
        faint: whether its markers are small and translucent, because there are many.
        labelled: whether the points' names are printed next to them in a PNG file, which has no hover text.
        shared: whether it is the same in several panels and belongs to none of them.
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
        """Lengths of the bars below and above the points, None if the points have no intervals."""
        ends = [(point.y, *point.interval) for point in self.points if point.interval is not None]
        # A bootstrap interval need not contain the value itself, and matplotlib refuses negative lengths.
        below = [max(0.0, y - low) for y, low, _ in ends]
        above = [max(0.0, high - y) for y, _, high in ends]
        return (below, above) if ends else None


@dataclass(frozen=True)
class Panel:
    """Series that are shown together; the only panel of a chart may have no title."""

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
    """One module of one layer.

    Attributes:
        layer: number of the layer; layer 1 is at the input.
        left: left end, as a fraction of the strip's width.
        length: length of the filled part for the channels that run, as a fraction of the strip's width.
        full_length: length of the whole bar, as a fraction of the strip's width.
        color: CSS colour of the filled part.
        hover: text that the page shows.
    """

    layer: int
    left: float
    length: float
    full_length: float
    color: str
    hover: str


@dataclass(frozen=True)
class Strip:
    """The architecture of one subnet.

    Attributes:
        name: id of the subnet.
        lines: lines of text below the strip.
        bars: a bar for every module; dropped layers have none.
    """

    name: str
    lines: tuple[str, ...]
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Drawing:
    """Strips that share one file, whose name ends in ``name``.

    Attributes:
        name: end of the file's name.
        title: heading on the page and in the file.
        note: text below the heading on the page.
        layers: number of layers of the max subnet.
        strips: the strips from left to right.
    """

    name: str
    title: str
    note: str
    layers: int
    strips: tuple[Strip, ...]


@dataclass(frozen=True)
class HeatMap:
    """Shares of a small table as shades.

    Attributes:
        name: id of the subnet.
        lines: lines of text below the map.
        columns: headings of the columns.
        cells: shares from 0 to 1, row by row, the row at the bottom first; None = there is nothing to be shared.
    """

    name: str
    lines: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class HeatMapRow:
    """Maps side by side, with a title."""

    title: str
    maps: tuple[HeatMap, ...]


@dataclass(frozen=True)
class HeatMaps:
    """Rows of maps that share one file, whose name ends in ``name``.

    Attributes:
        name: end of the file's name.
        title: heading on the page and in the file.
        note: text below the heading on the page.
        rows: the rows from the top.
    """

    name: str
    title: str
    note: str
    rows: tuple[HeatMapRow, ...]


def shade(share: float | None) -> str:
    """Return the CSS colour of a share: from the colour of an unfilled bar to the first of `COLORS`; white for None."""
    if share is None:
        return "#ffffff"
    ends = [[int(color[place : place + 2], 16) for place in (1, 3, 5)] for color in (TRACK, COLORS[0])]
    mixed = [round(low + share * (high - low)) for low, high in zip(*ends, strict=True)]
    return "#" + "".join(f"{part:02x}" for part in mixed)


def is_dark(share: float | None) -> bool:
    """Return whether text on the shade of a share has to be light."""
    return share is not None and share > 0.5


def numbered(name: str, number: int) -> str:
    """Return the name of a picture in a file's name: ``models``, ``models-2``, and so on."""
    return f"{name}-{number + 1}" if number else name
