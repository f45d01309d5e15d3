"""Charts of pathways over the training: WER in every language, sparsity, and what adaptations change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

from slimasr.report.comparison.families import Family, families, line_name
from slimasr.report.comparison.languages import languages_of
from slimasr.report.pictures.picture import COLORS, Axis, Chart, Panel, Picture, Point, Series, numbered
from slimasr.report.records import Run, Study
from slimasr.results.masks import MasksEntry
from slimasr.supernet.subnet import ANY_LANGUAGE

LINES = ("solid", "dash", "dot")

STEPS = Axis("step")

Lines = Mapping[str, tuple[Point, ...]]
"""Text in the legend -> points."""


def mask_pictures(study: Study) -> list[Picture]:
    """Describe three pictures for each family with pathways: dev WER by language, sparsity, and adaptations."""
    pictures: list[Picture] = []
    for number, family in enumerate(each for each in families(study.runs) if each.masked):
        found = {
            "languages": _wer_charts(family),
            "sparsity": _sparsity_charts(family),
            "adaptations": _change_charts(family),
        }
        pictures += [Picture(numbered(name, number), charts) for name, charts in found.items() if charts]
    return pictures


def _pathways(run: Run) -> Sequence[str]:
    return [] if run.masks is None else list(run.masks.sparsity)


def _wer_charts(family: Family) -> tuple[Chart, ...]:
    """A chart for each language that has a pathway, with the dev WER of all runs that have one."""
    ordered = sorted(family.masked, key=lambda run: -len(_pathways(run)))
    languages = dict.fromkeys(name for run in ordered for name in _pathways(run) if name != ANY_LANGUAGE)
    found = {language: _wer_lines(family, language) for language in languages}
    # A run has the same style in all charts, of which a file has one legend.
    styles = _styles(dict.fromkeys(name for lines in found.values() for name in lines))
    note = "Validated with the weights of the epoch; a pathway on its own language."
    y = Axis("dev WER", "%", log=True)
    charts = []
    for language, lines in found.items():
        if lines:
            charts.append(Chart(f"{language}: dev WER over the training", note, STEPS, y, _panels(lines, styles)))
    return tuple(charts)


def _wer_lines(family: Family, language: str) -> Lines:
    lines = {}
    for run in family.runs:
        points = tuple(_wers(run, language))
        if points:
            # Runs for one language alone have the same name in all charts.
            words = line_name(run, family.runs).split(", ")
            lines[", ".join(word for word in words if word != language)] = points
    return lines


def _wers(run: Run, language: str) -> Iterator[Point]:
    """The WERs of the subnet that serves a language: of its part of dev if the log has one."""
    record = run.serving(language)
    if record is None:
        return
    # All of dev is in the language if the subnet is its pathway, or if the run has no other.
    is_whole = record.pathway == language or languages_of(list(record.wer)) == (language,)
    names = [f"{record.name}/{language}/wer", *([f"{record.name}/wer"] if is_whole else [])]
    for point in run.curve:
        known = [point.values[name] for name in names if name in point.values]
        if known:
            yield Point(point.step, known[0])


def _sparsity_charts(family: Family) -> tuple[Chart, ...]:
    """The sparsity of every run, which is that of all its pathways."""
    # Runs that prune at the same steps have one line.
    names: dict[tuple[Point, ...], list[str]] = {}
    for run in family.masked:
        if run.masks is not None:
            names.setdefault(_stairs(run.masks, run.steps), []).append(line_name(run, family.runs))
    lines = {}
    for points, same in names.items():
        others = f" and {len(same) - 1} more" if len(same) > 1 else ""
        lines[f"{same[0]}{others}"] = points
    if not lines:
        return ()
    note = "Share of the prunable weights that a pathway leaves out."
    y = Axis("sparsity", "%", from_zero=True)
    return (Chart("Sparsity over the training", note, STEPS, y, _panels(lines, _styles(lines))),)


def _stairs(masks: MasksEntry, steps: int) -> tuple[Point, ...]:
    """Return the corners of the line of the sparsity, in percent, from the masks at the start to the last step."""
    sparsity = next((source.level for source in masks.sources.values()), 0.0)
    corners = [Point(0, 100 * sparsity)]
    for pruning in masks.levels:
        corners.append(Point(pruning.step, 100 * sparsity))
        sparsity = pruning.sparsity
        corners.append(Point(pruning.step, 100 * sparsity))
    return (*corners, Point(steps, 100 * sparsity))


def _change_charts(family: Family) -> tuple[Chart, ...]:
    """What every adaptation of every pathway has changed."""
    lines = {}
    for run in family.masked:
        for name, found in ({} if run.masks is None else run.masks.adaptations).items():
            pairs = zip(found.steps, found.changed, strict=True)
            points = tuple(Point(step, 100 * share) for step, share in pairs)
            if points:
                # A run for one language has it in its name.
                label = line_name(run, family.runs)
                lines[label if len(_pathways(run)) == 1 else f"{label}: {name}"] = points
    if not lines:
        return ()
    note = "Share of the kept blocks that other blocks replaced when a mask adapted between prunings."
    y = Axis("blocks changed", "%", from_zero=True)
    return (Chart("Blocks changed at each adaptation", note, STEPS, y, _panels(lines, _styles(lines))),)


Styles = Mapping[str, tuple[str, str]]
"""Text in the legend -> colour and line."""


def _styles(names: Mapping[str, object]) -> Styles:
    """Solid lines in all colours, then dashed ones, and so on."""
    return dict(zip(names, cycle((color, line) for line in LINES for color in COLORS), strict=False))


def _panels(lines: Lines, styles: Styles) -> tuple[Panel, ...]:
    series = []
    for name, points in lines.items():
        color, line = styles[name]
        series.append(Series(name, points, line=line, color=color))
    return (Panel("", tuple(series)),)
