"""Pictures of paper 5: mean WER over languages against stored bytes, and against the training that a model needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle

from slimasr.claims.pathways.costs import stored, trained
from slimasr.claims.pathways.models import DYNAMIC, FIXED_PATHWAYS, pathway_families
from slimasr.claims.pathways.systems import System, joint_languages, languages_of, mean_wer, systems_in
from slimasr.report.pictures.picture import COLORS, Axis, Chart, Panel, Picture, Point, Series, numbered
from slimasr.report.records import Study
from slimasr.supernet.cost import COST_UNITS

Cost = Callable[[Study, System], float | None]

_MEGABYTE = COST_UNITS["int8_bytes"].divisor


def _stored(_: Study, system: System) -> float | None:
    found = stored(system)
    return None if found is None else found.float_bytes / _MEGABYTE


def _steps(study: Study, system: System) -> float | None:
    return trained(study, system).all_steps


def _minutes(study: Study, system: System) -> float | None:
    return trained(study, system).all_minutes


_COSTS: Mapping[str, tuple[Axis, Cost]] = {
    "stored": (Axis("stored bytes, packed", "MB"), _stored),
    "steps": (Axis("all training steps"), _steps),
    "minutes": (Axis("all minutes of training", "min"), _minutes),
}

_MEAN = Axis("mean WER over languages", "%", from_zero=True)

_NOTES = {
    "stored": "All languages together: kept values, one bit per block and pathway, and what is not prunable.",
    "steps": "Includes the steps of the runs that found the masks of all languages, but not of the dense start.",
    "minutes": "Includes the minutes of the runs that found the masks of all languages, but not of the dense start.",
}


def pictures(study: Study) -> list[Picture]:
    """Describe three charts for all languages, and for every other set of them that one model has pathways for."""
    found: list[Picture] = []
    for family in pathway_families(study.runs):
        systems = systems_in(family.runs)
        every = languages_of(systems)
        others = [languages for languages in joint_languages(systems) if set(languages) != set(every)]
        for languages in (every, *others):
            trained = [part for part in (system.trained_on(languages) for system in systems) if part is not None]
            charts = _charts(study, trained, languages)
            if charts:
                found.append(Picture(numbered("pathways", len(found)), tuple(charts)))
    return found


def _charts(study: Study, systems: Sequence[System], languages: Sequence[str]) -> list[Chart]:
    # Ablations differ too little from each other. A system has the same style in all charts.
    shown = sorted((system for system in systems if not system.model.rest), key=lambda each: _KINDS.index(_kind(each)))
    charts = []
    for name, (x, cost) in _COSTS.items():
        series = tuple(_series(study, shown, languages, cost))
        if series:
            title = f"{'+'.join(languages)}: mean WER against {x.title}"
            charts.append(Chart(title, _NOTES[name], x, _MEAN, (Panel("", series),)))
    return charts


def _series(study: Study, systems: Sequence[System], languages: Sequence[str], cost: Cost) -> Iterator[Series]:
    """A point for each system: the kind of the system has a marker, and each one of a kind a colour."""
    colors: dict[str, Iterator[str]] = {}
    for system in systems:
        kind = _kind(system)
        color = next(colors.setdefault(kind, cycle(COLORS)))
        wer, value = mean_wer(study, system, languages), cost(study, system)
        if wer is not None and value is not None:
            hover = (f"<b>{system.name}</b>", f"mean WER {wer:.2f} %")
            point = Point(value, wer, system.model.base, hover=hover)
            yield Series(system.model.base, (point,), _MARKERS[kind], color=color)


_JOINT, _EACH, _EACH_ADAPTIVE = "one model", "one model for each language", "one adaptive model for each language"
_MARKERS = {
    _JOINT: "circle-open",
    _EACH: "circle",
    _EACH_ADAPTIVE: "x-thin",
    FIXED_PATHWAYS: "diamond-open",
    DYNAMIC: "triangle-up",
}
_KINDS = tuple(_MARKERS)


def _kind(system: System) -> str:
    for kind in (FIXED_PATHWAYS, DYNAMIC):
        if system.model.base.startswith(kind):
            return kind
    if system.is_joint and len(system.languages) > 1:
        return _JOINT
    return _EACH_ADAPTIVE if system.model.is_adaptive else _EACH
