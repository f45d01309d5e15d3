"""Names of points in pictures: none covers another one, a point, or the edge of the plot."""

from __future__ import annotations

from itertools import combinations

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from slimasr.report.pictures.draw_png import chart_figure
from slimasr.report.pictures.picture import Axis, Chart, Panel, Picture, Point, Series

CROWDED = [
    # Side by side, as depths with nearly equal real-time factors are.
    [(4.37, 19.4), (7.0, 17.1), (7.19, 18.1), (7.66, 17.2)],
    # At the right edge, where a name to the right of its point would leave the plot.
    [(1.0, 5.0), (2.0, 9.0), (2.02, 9.0)],
    # One above the other.
    [(1.0, 5.0), (2.0, 9.0), (2.0, 9.3), (2.0, 8.7), (3.0, 4.0)],
]


def drawn(places: list[tuple[float, float]]) -> Figure:
    points = tuple(Point(x, y, name=f"w1-l{number}-a93c86a6") for number, (x, y) in enumerate(places))
    series = Series("the whole method", points, line="solid", marker="circle", labelled=True)
    chart = Chart("", "", Axis("RTF"), Axis("WER on test", "%", from_zero=True), (Panel("", (series,)),))
    return chart_figure(Picture("wer-rtf", (chart,)))


def names_of(axes: Axes) -> list[Annotation]:
    return [text for text in axes.texts if isinstance(text, Annotation)]


@pytest.mark.parametrize("places", CROWDED, ids=["row", "edge", "column"])
def test_names_are_readable_and_inside_the_plot(places: list[tuple[float, float]]) -> None:
    figure = drawn(places)
    (axes,) = figure.axes
    figure.draw_without_rendering()
    boxes = [name.get_window_extent() for name in names_of(axes)]
    assert len(boxes) == len(places)
    for one, other in combinations(boxes, 2):
        assert Bbox.intersection(one, other) is None
    for box in boxes:
        assert axes.bbox.x0 <= box.x0
        assert box.x1 <= axes.bbox.x1
        for place in places:
            assert not box.contains(*axes.transData.transform(place))
