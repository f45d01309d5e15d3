"""All pictures of a study, as descriptions: WER against cost, searches, energy, training, architectures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle

from slimasr.report.deployment import energy_of_deployments
from slimasr.report.families import Family, families, line_name
from slimasr.report.picture import COLORS, Axis, Bar, Chart, Drawing, Panel, Picture, Point, Series, Strip
from slimasr.report.records import Run, Study, SubnetRecord
from slimasr.results.report import CandidateLists
from slimasr.supernet.cost import COST_UNITS, CostUnit

COSTS = tuple(COST_UNITS[name] for name in ("params", "int8_bytes", "macs", "rtf", "peak_memory"))
"""Costs that hover text names."""

SIZE = COSTS[0]
SEARCHED = COSTS[:2]
"""Costs that the candidates of a search are plotted against."""

PLOTTED = COSTS[:4]
"""Costs that the measured subnets are plotted against."""

DEPLOYMENTS = 30
MODULE_COLORS = ("#0072b2", "#56b4e9")
MODULE_GAP = 0.025
"""Space between two modules of a layer, as a fraction of the strip's width."""

MOST_STRIPS = 12


def result_pictures(study: Study, set_name: str) -> list[Picture]:
    """Pictures of everything but the training; WERs are on ``set_name``, those of a search on its dev set."""
    return [*_searches(study), *_costs(study, set_name), *_models(study, set_name), *_energy(study)]


def _costs(study: Study, set_name: str) -> list[Picture]:
    """WER against every cost that was measured; of searched supernets only the main one of each family."""
    main = [family.main for family in families(study.runs)]
    shown = [run for run in study.runs if run.candidates is None or run in main]
    note = "Bars: 95 % bootstrap intervals of the WER. Lines join the subnets of one training run."
    pictures = []
    for cost in PLOTTED:
        series = _cost_series(shown, set_name, cost, bars=True)
        if series:
            pictures.append(_cost_picture(f"wer-{cost.cost}", "", note, set_name, cost, series))
    return pictures


def _models(study: Study, set_name: str) -> list[Picture]:
    """The Pareto fronts of all searched supernets, for each family that has several."""
    note = "Lines join the subnets that the search put on the Pareto front by dev WER; intervals are left out."
    pictures: list[Picture] = []
    for family in families(study.runs):
        series = _cost_series(family.runs, set_name, SIZE, bars=False)
        if series and len({run.role for run in family.runs if run.candidates is not None}) > 1:
            name = _numbered("models", len(pictures))
            title = f"All models, {family.name}: " if family.name else "All models: "
            pictures.append(_cost_picture(name, title, note, set_name, SIZE, series))
    return pictures


def _cost_picture(name: str, title: str, note: str, set_name: str, cost: CostUnit, series: Sequence[Series]) -> Picture:
    y = Axis(f"WER on {set_name}", "%", from_zero=True)
    return Picture(name, (_chart(f"{title}{y.title} against {cost.title}", note, _axis(cost), y, series),))


def _cost_series(runs: Sequence[Run], set_name: str, cost: CostUnit, bars: bool) -> list[Series]:
    """A line per role and seed; separate models of one seed are points without a line."""
    series: list[Series] = []
    styles = _line_styles()
    for name in dict.fromkeys(line_name(run, runs) for run in runs):
        mates = [run for run in runs if line_name(run, runs) == name]
        on_line, off_front = _cost_points(mates, set_name, cost, bars)
        if not on_line:
            continue
        color, dash = next(styles)
        if mates[0].is_separate:
            series.append(Series(name, on_line, "circle-open", color=color))
        else:
            # Only one line gets labels, and no searched one: ids of their subnets are too long to be printed.
            labelled = mates[0].candidates is None and not any(other.labelled for other in series)
            series.append(Series(name, on_line, "circle", dash, color, labelled=labelled))
        if off_front:
            off_name = f"{name}, not on the Pareto front"
            series.append(Series(off_name, off_front, "diamond-open", color=color, group=name, in_legend=bars))
    return series


def _cost_points(
    runs: Sequence[Run], set_name: str, cost: CostUnit, bars: bool
) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """The measured subnets, cheapest first; apart from them, those of a search that are not on its Pareto front."""
    on_line: list[Point] = []
    off_front: list[Point] = []
    for run in runs:
        for record in run.subnets:
            wer = record.wer.get(set_name)
            if wer is None or cost.cost not in record.costs:
                continue
            interval = (wer.low, wer.high) if bars else None
            hover = (
                f"<b>{run.name}: {run.label(record)}</b>",
                f"WER on {set_name}: {wer} %, {wer.errors} errors in {wer.words} words",
                *(f"{c.title}: {_value(record, c):.3g} {c.unit}" for c in COSTS if c.cost in record.costs),
            )
            point = Point(_value(record, cost), wer.wer, run.label(record), interval, hover)
            is_off = run.candidates is not None and run.front and record.id not in run.front
            (off_front if is_off else on_line).append(point)
    return _by_x(on_line), _by_x(off_front)


def _searches(study: Study) -> list[Picture]:
    """Every candidate of every search, the Pareto fronts, and the separate models of the same family."""
    note = "Dots: all candidates; triangles: stopped early, their WER is at least this. Line: the Pareto front."
    pictures = []
    for cost in SEARCHED:
        panels = []
        y = None
        for family in families(study.runs):
            for run in sorted(family.runs, key=lambda run: run is not family.main):
                seen = run.candidates
                if seen is not None and cost.cost in seen.costs:
                    rounded = ", weights rounded to int8" if run.int8_search else ""
                    y = y or Axis(f"WER on {seen.set_name}{rounded}", "%", from_zero=True)
                    series = _search_series(run, seen, family, cost)
                    panels.append(Panel(line_name(run, study.runs), series))
        if y is not None:
            click = " Click a name to show or hide a search." if len(panels) > 1 else ""
            title = f"Search: {y.title} against {cost.title}"
            chart = Chart(title, note + click, _axis(cost), y, tuple(panels))
            pictures.append(Picture(f"search-{cost.cost}", (chart,)))
    return pictures


def _search_series(run: Run, seen: CandidateLists, family: Family, cost: CostUnit) -> tuple[Series, ...]:
    finished: list[Point] = []
    stopped: list[Point] = []
    for name, wer, value, is_stopped in zip(seen.ids, seen.wer, seen.costs[cost.cost], seen.stopped, strict=True):
        (stopped if is_stopped else finished).append(Point(value / cost.divisor, wer, name))
    separate = []
    for mate in family.dedicated:
        for record in mate.subnets:
            known = record.searched_wer
            if known is None and seen.set_name in record.wer:
                known = record.wer[seen.set_name].wer
            if known is not None and cost.cost in record.costs:
                separate.append(Point(_value(record, cost), known, mate.name))
    front = _by_x([point for point in finished if point.name in run.front])
    series = (
        Series("candidates", tuple(finished), "circle", faint=True),
        Series("stopped early, WER is at least this", tuple(stopped), "triangle-up", faint=True),
        Series("Pareto front", front, "circle", "solid"),
        Series("separate models", tuple(separate), "x-thin", color="#000000", shared=True),
    )
    return tuple(one for one in series if one.points or one.line)


def _energy(study: Study) -> list[Picture]:
    """What 1 to 30 deployed models take, where all runs of a family were metered, or timed on one kind of device."""
    note = "A separate model of any size is assumed to cost the mean of those trained here."
    pictures: list[Picture] = []
    for family in families(study.runs):
        run = family.main
        alone = [mate.energy["train"] for mate in family.dedicated if "train" in mate.energy]
        if run is None or not alone or not {"train", "search"} <= run.energy.keys():
            continue
        train = run.energy["train"]
        search = run.energy["search"]
        compared = energy_of_deployments(train, search, alone, DEPLOYMENTS)
        if compared is None:
            continue
        unit, rows = compared
        metered = unit == "kWh"
        name = line_name(run, study.runs)
        separate = tuple(Point(row.models, row.separate) for row in rows)
        supernet = tuple(Point(row.models, row.supernet) for row in rows)
        series = [
            Series("a separate training for each", separate, line="solid", color=COLORS[1]),
            Series(f"one supernet and its search ({name})", supernet, line="solid", color=COLORS[0]),
        ]
        title = f"{'Energy' if metered else unit} for deployed models: {name}"
        y = Axis("energy" if metered else "time, energy not metered", unit, from_zero=True)
        chart = _chart(title, note, Axis("deployed models"), y, series)
        pictures.append(Picture(_numbered("energy", len(pictures)), (chart,)))
    return pictures


def training_pictures(study: Study) -> list[Picture]:
    """Dev WER and dev loss over epochs: by role, and for max and min of all searched supernets of a family."""
    charts: list[Chart] = []
    for role in dict.fromkeys(run.role for run in study.runs if run.candidates is None):
        runs = study.with_role(role)
        several = len({run.seed for run in runs}) > 1
        lines = []
        for run in runs:
            seed = f", seed {run.seed}" if several else ""
            lines += [(run.label(record) + seed, run, record) for record in run.subnets]
        charts += _curves(role, lines)
    for family in families(study.runs):
        runs = [run for run in family.runs if run.candidates is not None and run.subnets]
        title = f"searched supernets, {family.name}" if family.name else "searched supernets"
        charts += _curves(f"{title}, max subnet", [(line_name(run, runs), run, run.largest) for run in runs])
        charts += _curves(f"{title}, min subnet", [(line_name(run, runs), run, run.smallest) for run in runs])
    return [Picture("training", tuple(charts))] if charts else []


def _curves(title: str, lines: Sequence[tuple[str, Run, SubnetRecord]]) -> list[Chart]:
    """A chart of WER and one of loss with a line for each (name, run, subnet); none where nothing was logged."""
    charts = []
    axes = {"wer": Axis("dev WER", "%", log=True), "transducer": Axis("dev loss", "nats per token", log=True)}
    for key, y in axes.items():
        series = []
        for (name, run, record), (color, dash) in zip(lines, _line_styles(), strict=False):
            logged = f"{record.id}/{key}"
            points = tuple(Point(p.epoch, p.values[logged]) for p in run.curve if logged in p.values)
            if points:
                series.append(Series(name, points, line=dash, color=color))
        charts.append(_chart(f"{title}: {y.title}", "", Axis("epoch"), y, series))
    return charts if any(chart.panels[0].series for chart in charts) else []


def architecture_drawings(study: Study, set_name: str) -> list[Drawing]:
    """The Pareto fronts of the families' main supernets, evenly thinned out to at most `MOST_STRIPS` subnets each."""
    drawings: list[Drawing] = []
    for family in families(study.runs):
        run = family.main
        front = [] if run is None else [record for record in run.front_records if record.architecture]
        if run is None or not front:
            continue
        layers = [layer for record in run.subnets for layer in record.architecture if layer]
        modules = tuple(layers[0])
        widest = max(size for layer in layers for size in layer.values())
        shown = _thinned(front)
        sides = f", {modules[0]} on the left and {modules[1]} on the right" if len(modules) > 1 else ""
        thinned = f" {len(shown)} of {len(front)} subnets are shown." if len(shown) < len(front) else ""
        note = (
            f"A bar per layer, the input's at the bottom{sides}; a full bar is a feed-forward module of {widest} "
            f"channels. Dropped layers are empty. Below: parameters in millions (M), WER on {set_name}.{thinned}"
        )
        title = f"Architectures on the Pareto front of {line_name(run, study.runs)}"
        name = _numbered("architectures", len(drawings))
        strips = tuple(_strip(run, record, set_name, len(modules), widest) for record in shown)
        drawings.append(Drawing(name, title, note, len(shown[0].architecture), strips))
    return drawings


def _strip(run: Run, record: SubnetRecord, set_name: str, modules: int, widest: int) -> Strip:
    part = 1.0 / modules
    full = part - (MODULE_GAP if modules > 1 else 0.0)
    bars = []
    for number, layer in enumerate(record.architecture, start=1):
        for place, (module, channels) in enumerate((layer or {}).items()):
            hover = f"layer {number}, {module}: {channels} channels"
            bars.append(Bar(number, place * part, full * channels / widest, full, MODULE_COLORS[place % 2], hover))
    ends = {run.smallest.id: " (min)", run.largest.id: " (max)"}
    lines = [f"{record.params / 1e6:.2f} M{ends.get(record.id, '')}"]
    if set_name in record.wer:
        lines.append(f"WER {record.wer[set_name].wer:.1f} %")
    return Strip(record.id, tuple(lines), tuple(bars))


def _thinned(records: Sequence[SubnetRecord]) -> Sequence[SubnetRecord]:
    if len(records) <= MOST_STRIPS:
        return records
    step = (len(records) - 1) / (MOST_STRIPS - 1)
    return [records[round(step * number)] for number in range(MOST_STRIPS)]


def _value(record: SubnetRecord, cost: CostUnit) -> float:
    return record.costs[cost.cost] / cost.divisor


def _axis(cost: CostUnit) -> Axis:
    return Axis(cost.title, cost.unit)


def _by_x(points: Sequence[Point]) -> tuple[Point, ...]:
    return tuple(sorted(points, key=lambda point: point.x))


def _line_styles() -> Iterator[tuple[str, str]]:
    """Colours and dashes of the lines of a chart: solid ones in all colours, then dashed ones, and so on."""
    return cycle((color, dash) for dash in ("solid", "dash", "dot") for color in COLORS)


def _chart(title: str, note: str, x: Axis, y: Axis, series: Sequence[Series]) -> Chart:
    """A chart of one panel."""
    return Chart(title, note, x, y, (Panel("", tuple(series)),))


def _numbered(name: str, number: int) -> str:
    return f"{name}-{number + 1}" if number else name
