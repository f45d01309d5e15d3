"""The tables of paper 5 in small: languages as columns and their unweighted mean; what models store and need."""

from __future__ import annotations

from collections.abc import Sequence

from slimasr.claims.pathways.costs import stored, trained
from slimasr.claims.pathways.models import (
    DENSE,
    DYNAMIC,
    FIXED_PATHWAYS,
    IMP,
    LAP,
    LTH,
    SMALL,
    UNPRUNED,
    pathway_families,
)
from slimasr.claims.pathways.systems import (
    System,
    joint_languages,
    languages_of,
    mean_wer,
    systems_in,
    wer_in,
)
from slimasr.report.comparison.families import Family
from slimasr.report.comparison.languages import on_tests
from slimasr.report.records import Study
from slimasr.report.tables.table import ABSENT, Table
from slimasr.supernet.cost import COST_UNITS

_NOTE = (
    "WER over the test sets of a language in %, and the unweighted mean over languages. Sparsity: share of the "
    "prunable weights that a pathway leaves out. Training: on each language alone, or on all of them together."
)


def tables(study: Study) -> list[Table]:
    """Make the paper's three tables and the table of costs, for every family."""
    found = []
    for family in pathway_families(study.runs):
        systems = systems_in(family.runs)
        every = languages_of(systems)
        found.append(_table(study, family, "table 1", _in_table_1(systems, every), every))
        # Those of two languages before those of all of them.
        for languages in reversed(joint_languages(systems)):
            joint = [system for system in systems if _is_stage_3(system) and set(system.languages) == set(languages)]
            name = "table 3" if set(languages) == set(every) else f"table 2, {' and '.join(languages)}"
            found.append(_table(study, family, name, joint, languages))
        found.append(_costs(study, family, systems))
    return found


def _in_table_1(systems: Sequence[System], languages: Sequence[str]) -> list[System]:
    """Everything for all languages but the proposed multilingual models, in the paper's order."""
    served = [system for system in systems if set(system.languages) == set(languages)]
    shown = [system for system in served if not system.model.base.startswith(DYNAMIC)]
    order = (SMALL, DENSE, UNPRUNED, LAP, IMP, LTH, FIXED_PATHWAYS)

    def place(system: System) -> tuple[bool, int]:
        kinds = [number for number, kind in enumerate(order) if system.model.base.startswith(kind)]
        return system.model.is_adaptive, min(kinds, default=len(order))

    return sorted(shown, key=place)


def _is_stage_3(system: System) -> bool:
    return system.model.base.startswith((FIXED_PATHWAYS, DYNAMIC))


def _table(study: Study, family: Family, name: str, systems: Sequence[System], languages: Sequence[str]) -> Table:
    """WER of each system by language."""
    rows = []
    for system in systems:
        cells = [_wer(study, system, language) for language in languages]
        rows.append((system.name, _changes(system), _sparsity(system), _training(system), *cells, _mean(study, system)))
    columns = ("model", "mask changes", "sparsity %", "training", *languages, "mean")
    return Table(f"Paper 5, {name}{f', {family.name}' if family.name else ''}", columns, tuple(rows), _NOTE)


def _changes(system: System) -> str:
    if system.model.base in (DENSE, SMALL):
        return ABSENT
    return "yes" if system.model.is_adaptive else "no"


def _sparsity(system: System) -> str:
    shares = [share for run in system.trained if run.masks is not None for share in run.masks.sparsity.values()]
    return f"{100 * sum(shares) / len(shares):.0f}" if shares else "0"


def _training(system: System) -> str:
    return "all" if system.is_joint and len(system.languages) > 1 else "each"


def _wer(study: Study, system: System, language: str) -> str:
    """The WER in one language: with its interval if there is one set and one seed."""
    role, subnet = system.part(language)
    runs = study.with_role(role)
    record = runs[0].subnet(subnet)
    rates = {} if record is None else on_tests(record, language)
    if len(rates) == 1 and len(runs) == 1:
        return str(next(iter(rates.values())))
    wer = wer_in(study, system, language)
    return ABSENT if wer is None else f"{wer:.2f}"


def _mean(study: Study, system: System) -> str:
    mean = mean_wer(study, system, system.languages)
    return ABSENT if mean is None else f"{mean:.2f}"


def _costs(study: Study, family: Family, systems: Sequence[System]) -> Table:
    """What a system stores and what its training took, beside its mean WER."""
    rows = []
    for system in systems:
        size, taken = stored(system), trained(study, system)
        packed = [None, None] if size is None else [size.float_bytes, size.int8_bytes]
        rows.append(
            (
                system.name,
                "+".join(system.languages),
                _mean(study, system),
                *(ABSENT if value is None else COST_UNITS["int8_bytes"].figure(value) for value in packed),
                f"{taken.steps:,}",
                f"{taken.mask_steps:,}",
                f"{taken.all_steps:,}",
                *map(_minutes, (taken.minutes, taken.mask_minutes, taken.all_minutes)),
                ", ".join(taken.start) or ABSENT,
            )
        )
    columns = (
        "model",
        "languages",
        "mean WER %",
        "stored MB",
        "stored MB, int8",
        "steps",
        "steps for masks",
        "all steps",
        "minutes",
        "minutes for masks",
        "all minutes",
        "starts from",
    )
    note = (
        "For all languages of a row together. Stored: kept values, one bit per block and pathway, and what is not "
        "prunable. Steps for masks: of the runs that found the masks at the start, of every language, until they had "
        "found them; their minutes in proportion. The run that a model starts from is not included. "
        "Minutes are wall time."
    )
    title = f"Paper 5, what models store and need{f', {family.name}' if family.name else ''}"
    return Table(title, columns, tuple(rows), note)


def _minutes(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.1f}"
