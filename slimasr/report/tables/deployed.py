"""Tables of subnets as models that devices load."""

from __future__ import annotations

from collections.abc import Sequence

from slimasr.report.records import Study
from slimasr.report.tables.common import dev_first
from slimasr.report.tables.table import ABSENT, Table
from slimasr.results.deployed import CheckFile, DeployedModel, DeployedRate

_NOTE = (
    "WER: greedy search, one utterance at a time. Identical: utterances whose tokens are those of the search in torch, "
    "in every search and batch; changed: tokens of greedy search that differ from it. Where a graph is searched, words "
    "are compared and counted in place of tokens. MB: all files that the runtime opens, among them that of the "
    "weights, which all sizes of a bundle share. RTF and load time with 1 and with all {threads} threads; memory of "
    "the whole process with 1 thread. {runtime}, {hardware}."
)


def checked_table(record: CheckFile) -> Table:
    """Make the table of a bundle's sizes."""
    rows = [
        ((name,), precision, model) for name, size in record.sizes.items() for precision, model in size.models.items()
    ]
    return deployed_rows(f"Deployed models, {record.experiment}", ("size",), rows)


def deployed_table(study: Study) -> Table:
    """Make the table of all subnets that were run as models of devices; without any, it has no rows."""
    models = [
        ((run.name, run.label(record)), precision, model)
        for run in study.runs
        for record in run.subnets
        for precision, model in record.deployed.items()
    ]
    return deployed_rows("Deployed models", ("experiment", "subnet"), models)


def deployed_rows(
    title: str, columns: Sequence[str], models: Sequence[tuple[Sequence[str], str, DeployedModel]]
) -> Table:
    """Make a table of models.

    Args:
        title: its heading.
        columns: headings of the columns that name a model.
        models: names, precision and figures of each.
    """
    names = dev_first(dict.fromkeys(name for *_, model in models for name in model.sets))
    emulated = list(dict.fromkeys(name for *_, model in models for name in model.emulated))
    headings = ("WER %", *(f"WER % {name}" for name in emulated), "identical", "changed")
    of_sets = [f"{name} {heading}" for name in names for heading in headings]
    rest = ("RTF", "RTF all", "load ms", "load all ms", "peak MB")
    rows = tuple((*label, precision, *_cells(model, names, emulated)) for label, precision, model in models)
    note = ""
    if models:
        last = models[-1][-1]
        note = _NOTE.format(threads=last.threads, runtime=last.runtime, hardware=last.hardware)
    if emulated:
        note += f" {', '.join(emulated)}: the encoder on this processor, which qemu emulates."
    return Table(title, (*columns, "precision", "MB", *of_sets, *rest), rows, note)


def _cells(model: DeployedModel, names: Sequence[str], emulated: Sequence[str]) -> list[str]:
    """Return the cells of a model behind its names."""
    of_sets: list[str] = []
    for name in names:
        wer, *rest = _rate_cells(model.sets.get(name))
        elsewhere = [_rate_cells(model.emulated.get(processor, {}).get(name))[0] for processor in emulated]
        of_sets += [wer, *elsewhere, *rest]
    return [
        f"{model.bytes / 1e6:.2f}",
        *of_sets,
        _figure(model.rtf, 4),
        _figure(model.rtf_threads, 4),
        _figure(model.load_ms, 0),
        _figure(model.load_ms_threads, 0),
        _figure(model.peak_mb, 0),
    ]


def _rate_cells(rate: DeployedRate | None) -> tuple[str, str, str]:
    if rate is None:
        return ABSENT, ABSENT, ABSENT
    return _figure(rate.wer, 2), f"{rate.identical} of {rate.utterances}", f"{rate.changed_tokens} of {rate.tokens}"


def _figure(value: float | None, digits: int) -> str:
    return ABSENT if value is None else f"{value:.{digits}f}"
