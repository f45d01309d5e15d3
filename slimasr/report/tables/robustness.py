"""The table of perturbed test sets: what noise, rooms, telephones and other levels cost every subnet."""

from __future__ import annotations

from dataclasses import astuple

from slimasr.report.records import Run, Study, SubnetRecord
from slimasr.report.tables.common import wer_cell
from slimasr.report.tables.table import Table
from slimasr.results.perturbed import perturbed_name, read_perturbation, split_name

NOTE = (
    "WER in percent with 95 % bootstrap interval on test sets as recorded, and changed by `slimasr-decode --perturb`: "
    "gain in dB; noise (pink) and babble by their signal-to-noise ratio in dB; reverb by its decay time in seconds."
)


def robustness_table(study: Study) -> Table:
    """Make the table of all subnets that were decoded on a perturbed set; without any, it has no rows."""
    names = {name for run in study.runs for record in run.subnets for name in record.perturbed}
    sets = dict.fromkeys(sorted(split_name(name)[0] for name in names))
    asked = sorted({split_name(name)[1] for name in names}, key=_order)
    rows = []
    for run in study.runs:
        for record in run.subnets:
            rows += [_row(run, record, name, asked) for name in sets if _has(record, name)]
    return Table("Robustness", ("experiment", "subnet", "set", "as recorded", *asked), tuple(rows), NOTE)


def _row(run: Run, record: SubnetRecord, set_name: str, asked: list[str]) -> tuple[str, ...]:
    cells = [wer_cell(record.perturbed, perturbed_name(set_name, read_perturbation(text))) for text in asked]
    return (run.name, run.label(record), set_name, wer_cell(record.wer, set_name), *cells)


def _has(record: SubnetRecord, set_name: str) -> bool:
    return any(split_name(name)[0] == set_name for name in record.perturbed)


def _order(text: str) -> list[tuple[bool, float]]:
    """Single changes of one kind stand together, from little to much: levels and ratios fall."""
    return [
        (value is not None and value is not False, -float(value or 0)) for value in astuple(read_perturbation(text))
    ]
