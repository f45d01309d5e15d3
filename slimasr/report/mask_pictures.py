"""Charts of pathways over the training: WER in every language, sparsity, and what adaptations change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle

from slimasr.report.families import Family, families, line_name
from slimasr.report.picture import COLORS, Axis, Chart, Panel, Picture, Point, Series, numbered
from slimasr.report.records import Run, Study, SubnetRecord

LINES = ("solid", "dash", "dot")

STEPS = Axis("step")


def mask_pictures(study: Study) -> list[Picture]:
    """Describe two pictures for each family with pathways: dev WER by language, and sparsity with adaptations."""
    pictures: list[Picture] = []
    for family in families(study.runs):
        masked = [run for run in family.runs if run.masks is not None]
        if not masked:
            continue
        charts = [_wer_chart(family, language) for language in languages_of(masked)]
        of_wer = Picture(numbered("languages", len(pictures)), tuple(chart for chart in charts if _is_drawn(chart)))
        found = [_sparsity_chart(masked), _change_chart(masked)]
        of_masks = Picture(numbered("masks", len(pictures)), tuple(chart for chart in found if _is_drawn(chart)))
        pictures += [picture for picture in (of_wer, of_masks) if picture.charts]
    return pictures


def languages_of(runs: Sequence[Run]) -> list[str]:
    """Return the languages that have a pathway of their own, in the order of the run that has most pathways."""
    ordered = sorted(runs, key=lambda run: -len(_pathways(run)))
    return list(dict.fromkeys(name for run in ordered for name in _pathways(run)))


def _pathways(run: Run) -> Sequence[str]:
    return [] if run.masks is None else list(run.masks.sparsity)


def _is_drawn(chart: Chart) -> bool:
    return any(panel.series for panel in chart.panels)


def _wer_chart(family: Family, language: str) -> Chart:
    """Dev WER in one language of all runs that have one, over the optimiser steps."""
    lines = []
    for run in family.runs:
        points = tuple(_wers(run, language))
        if points:
            lines.append((line_name(run, family.runs), points))
    note = "Validated with the weights of the epoch; a pathway on its own language."
    y = Axis("dev WER", "%", log=True)
    return Chart(f"{language}: dev WER over the training", note, STEPS, y, (Panel("", _series(lines)),))


def _wers(run: Run, language: str) -> Iterator[Point]:
    """The WERs of the subnet that serves a language: of its part of dev if the log has one."""
    record = _serving(run, language)
    if record is None:
        return
    for point in run.curve:
        # Of a pathway, all of its dev WER is in its language.
        own = f"{record.name}/wer" if record.pathway == language else ""
        for name in filter(None, (f"{record.name}/{language}/wer", own)):
            if name in point.values:
                yield Point(point.step, point.values[name])
                break


def _serving(run: Run, language: str) -> SubnetRecord | None:
    served = [record for record in run.subnets if record.serves(language)]
    return next((record for record in served if record.pathway == language), next(iter(served), None))


def _sparsity_chart(runs: Sequence[Run]) -> Chart:
    """Sparsity at the end of every epoch; all pathways of a run have the same, so that the first one is drawn."""
    lines = []
    for run in runs:
        key = next((f"{name}/sparsity" for name in _pathways(run)), "")
        points = tuple(Point(point.step, 100 * point.method[key]) for point in run.curve if key in point.method)
        if points:
            lines.append((line_name(run, runs), points))
    note = "Share of the prunable weights that a pathway leaves out, at the end of every epoch."
    y = Axis("sparsity", "%", from_zero=True)
    return Chart("Sparsity over the training", note, STEPS, y, (Panel("", _series(lines)),))


def _change_chart(runs: Sequence[Run]) -> Chart:
    """What every adaptation of every pathway has changed."""
    lines = []
    for run in runs:
        for name, found in ({} if run.masks is None else run.masks.adaptations).items():
            pairs = zip(found.steps, found.changed, strict=True)
            points = tuple(Point(step, 100 * share) for step, share in pairs)
            if points:
                # A run for one language has it in its name.
                label = line_name(run, runs)
                lines.append((label if len(_pathways(run)) == 1 else f"{label}: {name}", points))
    note = "Share of the kept blocks that other blocks replaced when a mask was chosen anew between prunings."
    y = Axis("blocks changed", "%", from_zero=True)
    return Chart("Blocks changed at each adaptation", note, STEPS, y, (Panel("", _series(lines)),))


def _series(lines: Sequence[tuple[str, tuple[Point, ...]]]) -> tuple[Series, ...]:
    """A line each: solid ones in all colours, then dashed ones, and so on."""
    styles = cycle((color, line) for line in LINES for color in COLORS)
    return tuple(
        Series(name, points, line=line, color=color)
        for (name, points), (color, line) in zip(lines, styles, strict=False)
    )
