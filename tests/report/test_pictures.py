"""Pictures of the committed results: both renderings show the figures of results.json, and show them once."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from slimasr.claims import claims_of
from slimasr.report.pictures.describe import result_pictures, training_pictures
from slimasr.report.pictures.draw_html import plotly_figure, strips_html
from slimasr.report.pictures.draw_png import chart_figure, strips_figure
from slimasr.report.pictures.drawings import architecture_drawings
from slimasr.report.pictures.masks import mask_pictures
from slimasr.report.pictures.picture import Axis, Chart, Panel, Picture, Point, Series
from slimasr.report.write import shown_set, write_report
from tests.report.made_up import study_of
from tests.report.page import Page

EGS = Path(__file__).parents[2] / "egs"
COSTS = {"params": 1e6, "int8_bytes": 1e6, "macs": 1e6, "rtf": 1.0}
BY_COST = {f"wer-{cost}" for cost in COSTS}
SEARCHED = {"search-params", "search-int8_bytes", "architectures"}
FILES = {
    "an4/results.json": {*BY_COST, "training"},
    "an4/results_collaborative.json": {*BY_COST, "architectures", "training"},
    "an4/results_orthosoftmax.json": {*BY_COST, "architectures", "training"},
    "an4/results_robustness.json": {*BY_COST, "training"},
    "an4/results_todm.json": {*BY_COST, *SEARCHED, "models", "training"},
    "an4/results_todm_conformer.json": {*BY_COST, *SEARCHED, "models", "training"},
    "digits/results.json": {*BY_COST, "training"},
    "digits/results_fsdd.json": {*BY_COST, "training"},
    "digits/results_mh_ssm.json": {*BY_COST, "training"},
    "digits/results_robustness.json": {*BY_COST, "training"},
    "digits/results_todm.json": {*BY_COST, *SEARCHED, "energy", "training"},
    "librispeech/results.json": {*BY_COST, "training"},
    "multilingual/results_spoken_digits.json": {"pathways", "languages", "sparsity", "adaptations"},
    "multilingual/results.json": {"pathways", "pathways-2", "languages", "sparsity", "adaptations"},
    "own/results_finetune_an4.json": {*BY_COST, "training"},
    "own/results_finetune_fsdd.json": {*BY_COST, "training"},
}
"""Committed results -> the pictures that they make."""

Data = dict[str, Any]


Curve = list[tuple[float, float]]


class Drawn:
    """All pictures of one results.json, in both renderings."""

    def __init__(self, name: str) -> None:
        self.data: Data = json.loads((EGS / name).read_text(encoding="utf-8"))
        for run in self.data["experiments"].values():
            # A report that is written now marks model F, which is paper 2's method in full.
            run["main"] = run.get("model") == "F"
        study = study_of(self.data)
        self.set_name = shown_set(study)
        claims, results = claims_of(study).pictures, result_pictures(study, self.set_name)
        self.pictures = [*claims, *results, *mask_pictures(study), *training_pictures(study)]
        self.drawings = architecture_drawings(study, self.set_name)
        self.pages = {p.name: [plotly_json(chart) for chart in p.charts] for p in self.pictures}
        self.files = {p.name: chart_figure(p) for p in self.pictures}
        self.wanted = FILES[name]

    @property
    def searched(self) -> list[Data]:
        """The experiments with a search."""
        return [run for run in self.data["experiments"].values() if "candidates" in run]

    @property
    def shown(self) -> list[Data]:
        """The experiments in the plots of WER against cost: of the searched ones, only model F."""
        return [run for run in self.data["experiments"].values() if "candidates" not in run or run["model"] == "F"]


@pytest.fixture(scope="module", params=FILES)
def drawn(request: pytest.FixtureRequest) -> Drawn:
    return Drawn(request.param)


def plotly_json(chart: Chart) -> Data:
    """What the script of the page is given."""
    figure: Data = json.loads(plotly_figure(chart).to_json())
    return figure


def panels_of(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_visible()]


def drawn_series(axes: Axes) -> list[ErrorbarContainer]:
    return [container for container in axes.containers if isinstance(container, ErrorbarContainer)]


def curve(series: ErrorbarContainer) -> Curve:
    return [(float(x), float(y)) for x, y in series.lines[0].get_xydata()]


def traces(figure: Data) -> list[Curve]:
    """The points of every series of a plotly figure."""
    return [list(zip(trace["x"], trace["y"], strict=True)) for trace in figure["data"]]


def points(series: Series) -> Curve:
    return [(point.x, point.y) for point in series.points]


def test_all_committed_results_are_tested() -> None:
    assert {str(path.relative_to(EGS)) for path in EGS.glob("*/results*.json")} == FILES.keys()


def test_every_picture_is_made_once(drawn: Drawn) -> None:
    names = [one.name for one in (*drawn.pictures, *drawn.drawings)]
    assert set(names) == drawn.wanted
    assert len(names) == len(drawn.wanted)
    titles = [chart.title for picture in drawn.pictures for chart in picture.charts]
    assert len(set(titles)) == len(titles)


def test_both_renderings_show_every_series_of_the_description_once(drawn: Drawn) -> None:
    for picture in drawn.pictures:
        panels = [panel for chart in picture.charts for panel in chart.panels]
        for axes, panel in zip(panels_of(drawn.files[picture.name]), panels, strict=True):
            assert [curve(one) for one in drawn_series(axes)] == [points(series) for series in panel.series]
        for chart, figure in zip(picture.charts, drawn.pages[picture.name], strict=True):
            series = dict.fromkeys(one for panel in chart.panels for one in panel.series)
            assert traces(figure) == [points(one) for one in series]
            listed = [trace["name"] for trace in figure["data"] if trace["showlegend"]]
            assert len(set(listed)) == len(listed)


def test_both_renderings_show_the_measured_costs_and_wers(drawn: Drawn) -> None:
    for cost, divisor in COSTS.items() if drawn.wanted >= BY_COST else ():
        measured = [
            (subnet["costs"][cost] / divisor, subnet["wer"][drawn.set_name])
            for run in drawn.shown
            for subnet in run["subnets"].values()
            if cost in subnet["costs"] and drawn.set_name in subnet["wer"]
        ]
        wanted = sorted((value, wer["wer"]) for value, wer in measured)
        ends = sorted((value, *wer["ci95"]) for value, wer in measured)
        series = drawn_series(drawn.files[f"wer-{cost}"].axes[0])
        assert sorted(point for one in series for point in curve(one)) == wanted
        segments = [bar for one in series for bar in one.lines[2][0].get_segments()]
        assert sorted((x, low, high) for (x, low), (_, high) in segments) == [pytest.approx(end) for end in ends]
        page = drawn.pages[f"wer-{cost}"][0]
        assert sorted(point for trace in traces(page) for point in trace) == wanted
        bars = [
            (x, y - below, y + above)
            for trace in page["data"]
            for x, y, below, above in zip(
                trace["x"], trace["y"], trace["error_y"]["arrayminus"], trace["error_y"]["array"], strict=True
            )
        ]
        assert sorted(bars) == [pytest.approx(end) for end in ends]


def test_both_renderings_show_all_candidates(drawn: Drawn) -> None:
    for cost in ("params", "int8_bytes") if drawn.searched else ():
        wanted = []
        for run in drawn.searched:
            seen = run["candidates"]
            wanted.append(
                sorted((value / 1e6, wer) for value, wer in zip(seen["costs"][cost], seen["wer"], strict=True))
            )
        panels = []
        for axes in panels_of(drawn.files[f"search-{cost}"]):
            faint = [one for one in drawn_series(axes) if one.lines[0].get_alpha() is not None]
            panels.append(sorted(point for one in faint for point in curve(one)))
        assert sorted(panels) == sorted(wanted)
        groups: dict[str, Curve] = {}
        (page,) = drawn.pages[f"search-{cost}"]
        for trace, curve_points in zip(page["data"], traces(page), strict=True):
            if "opacity" in trace["marker"]:
                groups.setdefault(trace["legendgroup"], []).extend(curve_points)
        assert sorted(map(sorted, groups.values())) == sorted(wanted)


def test_only_the_first_search_is_shown_until_others_are_clicked(drawn: Drawn) -> None:
    for figure in (page for name, pages in drawn.pages.items() if name.startswith("search") for page in pages):
        groups: dict[str, set[Any]] = {}
        for trace in figure["data"]:
            groups.setdefault(trace["legendgroup"], set()).add(trace["visible"])
        assert groups.pop("separate models") == {True}
        assert list(groups.values()) == [{True}, *[{"legendonly"}] * (len(drawn.searched) - 1)]
        listed = [trace["name"] for trace in figure["data"] if trace["showlegend"]]
        assert set(listed) == {*groups, "separate models"}


def test_a_ctc_models_main_loss_is_drawn_as_a_transducers_is() -> None:
    data = json.loads((EGS / "digits/results.json").read_text(encoding="utf-8"))
    expected = training_pictures(study_of(data))
    # An auxiliary CTC loss of a transducer is not drawn.
    for run in data["experiments"].values():
        for validation in run["curve"]:
            dev = validation["dev"]
            dev |= {name.replace("/transducer", "/ctc"): 99.0 for name in dev if name.endswith("/transducer")}
    assert training_pictures(study_of(data)) == expected
    for run in data["experiments"].values():
        for validation in run["curve"]:
            dev = validation["dev"]
            dev |= {name.replace("/transducer", "/ctc"): dev.pop(name) for name in list(dev) if "/transducer" in name}
    assert training_pictures(study_of(data)) == expected


def shown_curves(run: Data) -> list[str]:
    """The names of the figures that are drawn: error rates, and the loss for which the model is trained."""
    names = list(run["curve"][-1]["dev"])
    is_transducer = any(name.endswith("/transducer") for name in names)
    return [name for name in names if name.endswith(("/wer", "/per", "/transducer" if is_transducer else "/ctc"))]


def language_curves(run: Data) -> list[str]:
    """The names of the WERs on one language each; a mean over languages is not drawn."""
    names = [name for name in run["curve"][-1]["dev"] if name.endswith("/wer")]
    return names if len(names) == 1 else [name for name in names if name not in ("w1/wer", "all/wer")]


def test_both_renderings_show_the_training(drawn: Drawn) -> None:
    # Models with pathways are drawn by language. Their runs have epochs of different lengths, so that x is the step.
    by_language = "languages" in drawn.wanted
    picture, x = ("languages", "step") if by_language else ("training", "epoch")
    logged = [
        tuple((point[x], point["dev"][name]) for point in run["curve"] if name in point["dev"])
        for run in drawn.data["experiments"].values()
        for name in (language_curves(run) if by_language else shown_curves(run))
    ]
    in_file = [tuple(curve(one)) for axes in panels_of(drawn.files[picture]) for one in drawn_series(axes)]
    on_page = [tuple(one) for figure in drawn.pages[picture] for one in traces(figure)]
    assert in_file == on_page
    # Each once, also where several models have the same curve, as those that have not learnt anything yet.
    assert sorted(in_file) == sorted(logged)


def test_axes_have_the_same_titles_in_both_renderings(drawn: Drawn) -> None:
    for picture in drawn.pictures:
        axes = panels_of(drawn.files[picture.name])
        titles = [(one.get_xlabel(), one.get_ylabel()) for one in axes]
        layouts = [figure["layout"] for figure in drawn.pages[picture.name]]
        wanted = {(one["xaxis"]["title"]["text"], one["yaxis"]["title"]["text"]) for one in layouts}
        assert {x for x, _ in titles} - {""} == {x for x, _ in wanted}
        assert {y for _, y in titles} - {""} == {y for _, y in wanted}


def test_every_point_says_its_name_or_its_series(drawn: Drawn) -> None:
    for trace in (t for pages in drawn.pages.values() for figure in pages for t in figure["data"]):
        if "customdata" in trace["hovertemplate"]:
            assert all(text.startswith("<b>") and "WER" in text for text in trace["customdata"])
            assert "pathways" in drawn.wanted or all("million" in text for text in trace["customdata"])
        else:
            name = trace["text"][0] if any(trace["text"]) else trace["name"]
            assert name
            assert trace["name"] in trace["hovertemplate"]


def test_strips_have_the_same_lengths_in_both_renderings(drawn: Drawn) -> None:
    for drawing in drawn.drawings:
        on_page = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" height="11" width="([\d.]+)"', strips_html(drawing))
        axes = strips_figure(drawing).axes
        in_file = [(patch.get_x(), patch.get_width()) for one in axes for patch in one.patches]
        assert len(on_page) > len(drawing.strips)
        assert [(float(x) - 22, float(width)) for x, width in on_page] == [
            (pytest.approx(84 * x, abs=0.01), pytest.approx(84 * width, abs=0.01)) for x, width in in_file
        ]


def test_a_report_writes_what_is_described(tmp_path: Path) -> None:
    found = Drawn("digits/results_todm.json")
    written = write_report(study_of(found.data), tmp_path / "report.html")
    assert {path.name for path in written} == {"report.html", *(f"report-{name}.png" for name in found.wanted)}
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert Page(text).figures == [figure for figures in found.pages.values() for figure in figures]
    for chart in (chart for picture in found.pictures for chart in picture.charts):
        assert text.count(f"<h3>{chart.title}</h3>") == 1
    for drawing in found.drawings:
        assert text.count(strips_html(drawing)) == 1


def simple(name: str, y: Sequence[float], **options: Any) -> Series:
    return Series(name, tuple(Point(float(x), value) for x, value in enumerate(y)), **options)


def test_panels_share_scales_that_hold_all_points() -> None:
    panels = tuple(
        Panel(f"search {top:g}", (simple("candidates", [5.0, top], marker="circle"),)) for top in (9.0, 90.0)
    )
    chart = Chart("", "", Axis("size", "MB"), Axis("WER", "%", from_zero=True), panels)
    axes = chart_figure(Picture("search", (chart,))).axes
    assert [one.get_ylim() for one in axes] == [axes[0].get_ylim()] * 2
    assert axes[0].get_ylim()[0] == 0
    assert axes[0].get_ylim()[1] > 90


def test_points_without_intervals_have_no_bars_and_log_scales_are_log() -> None:
    series = simple("w1", [1.0, 10.0], line="solid", color="#000000")
    chart = Chart("", "", Axis("epoch"), Axis("loss", log=True), (Panel("", (series,)),))
    axes = chart_figure(Picture("training", (chart,))).axes[0]
    (drawn_one,) = drawn_series(axes)
    assert not drawn_one.has_yerr
    assert axes.get_yscale() == "log"
    figure = plotly_json(chart)
    assert "error_y" not in figure["data"][0]
    assert figure["layout"]["yaxis"]["type"] == "log"


def test_a_long_legend_stands_beside_the_plot_and_a_short_one_inside() -> None:
    def picture(lines: int) -> Figure:
        series = tuple(simple(f"line {number}", [1.0, 2.0], line="solid") for number in range(lines))
        chart = Chart("", "", Axis("x"), Axis("y"), (Panel("", series),))
        return chart_figure(Picture("wer", (chart,)))

    short, long = picture(3), picture(8)
    assert [len(one.axes[0].get_legend().get_texts()) for one in (short, long)] == [3, 8]
    assert long.get_figwidth() > short.get_figwidth()
