"""Describe all charts of a study: WER against cost, searches, energy, training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle

from slimasr.report.comparison.families import Family, families, line_name
from slimasr.report.comparison.rates import Rate
from slimasr.report.pictures.deployment import energy_of_deployments
from slimasr.report.pictures.device_latency import devices_of
from slimasr.report.pictures.picture import COLORS, Axis, Chart, Panel, Picture, Point, Series, numbered
from slimasr.report.records import Run, Study, SubnetRecord
from slimasr.results.report import CandidateLists
from slimasr.supernet.cost import COST_UNITS, CostUnit

COSTS = tuple(COST_UNITS[name] for name in ("params", "int8_bytes", "macs", "rtf", "peak_memory", "latency"))
"""Costs that hover text names."""

SIZE = COSTS[0]
"""The cost that pictures of several models are plotted against."""

SEARCHED = COSTS[:2]
"""Costs that the candidates of a search are plotted against."""

PLOTTED = COSTS[:4]
"""Costs that the measured subnets are plotted against."""

DEPLOYMENTS = 30
"""Largest number of deployed models in the picture of energy."""

RATES = ("wer", "per")
"""Ends of the names of error rates in logs."""

MAIN_LOSSES = ("transducer", "ctc")
"""Ends of the names of main losses in logs. A transducer may have an auxiliary CTC loss, so its own comes first."""


def result_pictures(study: Study, set_name: str) -> list[Picture]:
    """Describe everything but the training. WERs are on ``set_name``, those of a search on its dev set."""
    return [*_searches(study), *_costs(study, set_name), *_models(study, set_name), *_energy(study)]


def _costs(study: Study, set_name: str) -> list[Picture]:
    """WER against every cost that was measured; of searched supernets only the main one of each family."""
    # Fronts of all searched supernets would hide each other. `_models` has a picture of its own for them.
    main = [family.main for family in families(study.runs)]
    shown = [run for run in _without_pathways(study) if run.candidates is None or run in main]
    note = "Bars: 95 % bootstrap intervals of the WER. Lines join the subnets of one training run."
    pictures = []
    for cost in PLOTTED:
        series = _cost_series(shown, set_name, cost, bars=True)
        if series:
            pictures.append(_cost_picture(f"wer-{cost.cost}", "", note, set_name, cost, series))
    for device in devices_of(shown):
        series = _cost_series(device.runs, set_name, device.cost, bars=True)
        if series:
            remark = f"{note} {device.note}"
            pictures.append(_cost_picture(f"wer-{device.name}", "", remark, set_name, device.cost, series))
    return pictures


def _models(study: Study, set_name: str) -> list[Picture]:
    """The Pareto fronts of all searched supernets, for each family that has several."""
    note = "Lines join the subnets that the search put on the Pareto front by dev WER; intervals are left out."
    pictures: list[Picture] = []
    for family in families(study.runs):
        series = _cost_series(family.runs, set_name, SIZE, bars=False)
        if series and len({run.role for run in family.runs if run.candidates is not None}) > 1:
            name = numbered("models", len(pictures))
            # The first family of a report has no name.
            title = f"All models, {family.name}: " if family.name else "All models: "
            pictures.append(_cost_picture(name, title, note, set_name, SIZE, series))
    return pictures


def _cost_picture(name: str, title: str, note: str, set_name: str, cost: CostUnit, series: Sequence[Series]) -> Picture:
    """A picture of one chart; ``title`` is what its title begins with."""
    y = Axis(f"WER on {set_name}", "%", from_zero=True)
    chart = _chart(f"{title}{y.title} against {cost.title}", note, _axis(cost), y, series)
    return Picture(name, (chart,))


def _cost_series(runs: Sequence[Run], set_name: str, cost: CostUnit, bars: bool) -> list[Series]:
    """A line per role and seed; separate models of one seed are points without a line."""
    series: list[Series] = []
    styles = _line_styles()
    # A supernet has a name of its own here, whereas all separate models of a role and seed share one.
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        by_name.setdefault(line_name(run, runs), []).append(run)
    for name, mates in by_name.items():
        on_line, off_front = _cost_points(mates, set_name, cost, bars)
        if not on_line:
            continue
        # Taken only for lines that are drawn, so that no colour is left out.
        color, dash = next(styles)
        if mates[0].is_separate:
            series.append(Series(name, on_line, "circle-open", color=color))
        else:
            # Only one line gets labels, and no searched one: ids of their subnets are too long to be printed.
            labelled = mates[0].candidates is None and not any(other.labelled for other in series)
            series.append(Series(name, on_line, "circle", dash, color, labelled=labelled))
        if off_front:
            off_name = f"{name}, not on the Pareto front"
            # Pictures without bars have many lines, whose legend would get too long.
            series.append(Series(off_name, off_front, "diamond-open", color=color, group=name, in_legend=bars))
    return series


def _cost_points(
    runs: Sequence[Run], set_name: str, cost: CostUnit, bars: bool
) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """The measured subnets, cheapest first; in a list of their own, those of a search that are not on its front."""
    on_line: list[Point] = []
    off_front: list[Point] = []
    for run in runs:
        for record in run.subnets:
            wer = record.wer.get(set_name)
            if wer is None or cost.cost not in record.costs:
                continue
            interval = (wer.low, wer.high) if bars else None
            hover = _hover(run, record, set_name, wer)
            point = Point(_value(record, cost), wer.rate, run.label(record), interval, hover)
            # The max and min subnets of a search are measured even if they are not on its front. Files of older
            # versions have no front; then all subnets are on the line.
            if run.candidates is not None and run.front and record.id not in run.front:
                off_front.append(point)
            else:
                on_line.append(point)
    return _by_x(on_line), _by_x(off_front)


def _hover(run: Run, record: SubnetRecord, set_name: str, wer: Rate) -> tuple[str, ...]:
    """Name, WER and all measured costs of a subnet, line by line."""
    lines = [
        f"<b>{run.name}: {run.label(record)}</b>",
        f"WER on {set_name}: {wer} %, {wer.errors} errors in {wer.units} words",
    ]
    for cost in COSTS:
        if cost.cost in record.costs:
            lines.append(f"{cost.title}: {_value(record, cost):.3g} {cost.unit}")
    return tuple(lines)


def _searches(study: Study) -> list[Picture]:
    """Every candidate of every search, the Pareto fronts, and the separate models of the same family."""
    pictures = [_search_picture(study, cost, f"search-{cost.cost}", study.runs) for cost in SEARCHED]
    # Candidates of other devices would not be comparable in one picture.
    for device in devices_of(study.runs):
        pictures.append(_search_picture(study, device.cost, f"search-{device.name}", device.runs))
    return [picture for picture in pictures if picture is not None]


def _search_picture(study: Study, cost: CostUnit, name: str, runs: Sequence[Run]) -> Picture | None:
    """A picture of the searches of some runs, None if they have none with this cost."""
    note = "Dots: all candidates; triangles: stopped early, their WER is at least this. Line: the Pareto front."
    panels = []
    y = None
    for family in families(study.runs):
        # The main supernet comes first (False before True), because the page shows the first panel.
        for run in sorted(family.runs, key=lambda run: run is not family.main):
            seen = run.candidates
            if seen is None or cost.cost not in seen.costs or run not in runs:
                continue
            # All panels share one pair of axes, which the first search names.
            rounded = ", weights rounded to int8" if run.int8_search else ""
            y = y or Axis(f"WER on {seen.set_name}{rounded}", "%", from_zero=True)
            series = _search_series(run, seen, family, cost)
            panels.append(Panel(line_name(run, study.runs), series))
    if y is None:
        return None
    click = " Click a name to show or hide a search." if len(panels) > 1 else ""
    title = f"Search: {y.title} against {cost.title}"
    return Picture(name, (Chart(title, note + click, _axis(cost), y, tuple(panels)),))


def _search_series(run: Run, seen: CandidateLists, family: Family, cost: CostUnit) -> tuple[Series, ...]:
    """The series of one search. Empty ones are left out, except for the Pareto front."""
    finished: list[Point] = []
    stopped: list[Point] = []
    for name, wer, value, is_stopped in zip(seen.ids, seen.wer, seen.costs[cost.cost], seen.stopped, strict=True):
        point = Point(value / cost.divisor, wer, name)
        if is_stopped:
            stopped.append(point)
        else:
            finished.append(point)
    separate = []
    for mate in family.dedicated:
        for record in mate.subnets:
            # The WER of stage 5, decoded as the candidates were, is to be preferred to that of stage 6.
            known = record.searched_wer
            if known is None and seen.set_name in record.wer:
                known = record.wer[seen.set_name].rate
            if known is not None and cost.cost in record.costs:
                separate.append(Point(_value(record, cost), known, mate.name))
    front = _by_x([point for point in finished if point.name in run.front])
    series = (
        Series("candidates", tuple(finished), "circle", faint=True),
        Series("stopped early, WER is at least this", tuple(stopped), "triangle-up", faint=True),
        Series("Pareto front", front, "circle", "solid"),
        Series("separate models", tuple(separate), "x-thin", color="#000000", shared=True),
    )
    return tuple(each for each in series if each.points or each.line)


def _energy(study: Study) -> list[Picture]:
    """What 1 to 30 deployed models take, for families whose runs were all metered, or timed on one kind of device."""
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
        # Some runs held GPUs and others did not.
        if compared is None:
            continue
        unit, rows = compared
        metered = unit == "kWh"
        quantity = "Energy" if metered else unit
        name = line_name(run, study.runs)
        separate = tuple(Point(row.models, row.separate) for row in rows)
        supernet = tuple(Point(row.models, row.supernet) for row in rows)
        series = [
            Series("a separate training for each", separate, line="solid", color=COLORS[1]),
            Series(f"one supernet and its search ({name})", supernet, line="solid", color=COLORS[0]),
        ]
        title = f"{quantity} for deployed models: {name}"
        y = Axis("energy" if metered else "time, energy not metered", unit, from_zero=True)
        chart = _chart(title, note, Axis("deployed models"), y, series)
        pictures.append(Picture(numbered("energy", len(pictures)), (chart,)))
    return pictures


def training_pictures(study: Study) -> list[Picture]:
    """Describe dev WER and dev loss over epochs: by role, and for max and min of a family's searched supernets."""
    charts: list[Chart] = []
    # A supernet without a search has few subnets, so that its chart shows all of them.
    shown = [run for run in _without_pathways(study) if run.candidates is None]
    for role in dict.fromkeys(run.role for run in shown):
        runs = study.with_role(role)
        several = len({run.seed for run in runs}) > 1
        lines = []
        for run in runs:
            seed = f", seed {run.seed}" if several else ""
            lines += [(run.label(record) + seed, run, record) for record in run.subnets]
        charts += _curves(role, lines)
    # Searched supernets are compared with each other: a line each, in one chart for max and one for min.
    for family in families(study.runs):
        runs = [run for run in family.runs if run.candidates is not None and run.subnets]
        title = f"searched supernets, {family.name}" if family.name else "searched supernets"
        largest = [(line_name(run, runs), run, run.largest) for run in runs]
        smallest = [(line_name(run, runs), run, run.smallest) for run in runs]
        charts += _curves(f"{title}, max subnet", largest)
        charts += _curves(f"{title}, min subnet", smallest)
    return [Picture("training", tuple(charts))] if charts else []


def _without_pathways(study: Study) -> list[Run]:
    """The runs of families without pathways; in the others, a set shows only some runs, in one language."""
    masked = {family.name for family in families(study.runs) if family.masked}
    return [run for run in study.runs if run.family not in masked]


def _curves(title: str, lines: Sequence[tuple[str, Run, SubnetRecord]]) -> list[Chart]:
    """A chart of WER or PER and one of loss with a line for each (name, run, subnet); none if nothing was logged."""
    charts = []
    # Models whose tokens are phonemes are validated in these.
    words = any(_logged(run, record.name, RATES).endswith("wer") for _, run, record in lines)
    rates = Axis("dev WER" if words else "dev PER", "%", log=True)
    axes = {RATES: rates, MAIN_LOSSES: Axis("dev loss", "nats per token", log=True)}
    for keys, y in axes.items():
        series = []
        # Styles never end. A subnet has the same style in both charts.
        for (name, run, record), (color, dash) in zip(lines, _line_styles(), strict=False):
            logged = _logged(run, record.name, keys)
            seen = [validation for validation in run.curve if logged in validation.values]
            points = tuple(Point(validation.epoch, validation.values[logged]) for validation in seen)
            if points:
                series.append(Series(name, points, line=dash, color=color))
        charts.append(_chart(f"{title}: {y.title}", "", Axis("epoch"), y, series))
    # Both charts or none, so that PNG files have them side by side.
    return charts if any(chart.panels[0].series for chart in charts) else []


def _logged(run: Run, subnet: str, keys: Sequence[str]) -> str:
    """Return the name in the training's log of the first of these figures of a subnet that was logged."""
    names = [f"{subnet}/{key}" for key in keys]
    seen = {name for validation in run.curve for name in validation.values}
    return next((name for name in names if name in seen), names[0])


def _value(record: SubnetRecord, cost: CostUnit) -> float:
    """A cost in the unit of its axis."""
    return record.costs[cost.cost] / cost.divisor


def _axis(cost: CostUnit) -> Axis:
    return Axis(cost.title, cost.unit)


def _by_x(points: Sequence[Point]) -> tuple[Point, ...]:
    return tuple(sorted(points, key=lambda point: point.x))


def _line_styles() -> Iterator[tuple[str, str]]:
    """Yield colours and dashes for the lines of a chart: solid ones in all colours, then dashed ones, and so on."""
    return cycle((color, dash) for dash in ("solid", "dash", "dot") for color in COLORS)


def _chart(title: str, note: str, x: Axis, y: Axis, series: Sequence[Series]) -> Chart:
    """A chart of one panel."""
    return Chart(title, note, x, y, (Panel("", tuple(series)),))
