"""Tables of the latency of streaming models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slimasr.report.records import Study, SubnetRecord
from slimasr.report.tables.common import set_names, wer_cell
from slimasr.report.tables.table import ABSENT, Table
from slimasr.results.latency import DelayEntry, LatencyEntry
from slimasr.supernet.subnet import Subnet

_TITLE = "Latency of streams"
_TIMES: Mapping[str, str] = {
    "algorithmic": "latency ms",
    "worst": "worst ms",
    "chunk": "chunk ms",
    "chunk_p50": "computing p50 ms",
    "chunk_p95": "computing p95 ms",
}
"""Attributes of `LatencyEntry` and the headings of their columns."""

_DELAYS: Mapping[str, str] = {
    "p50": "delay p50 ms",
    "p90": "delay p90 ms",
    "last_word": "last word ms",
    "first_partial": "first token ms",
}
"""Attributes of `DelayEntry` and the ends of the headings of their columns."""

_NOTE = (
    "Latency: half a segment and the look-ahead, at worst the whole segment and the look-ahead. Computing of a chunk "
    "on one thread: features, encoder and search."
)
_NOTE_ON_DELAYS = (
    " Delay: from the end of a word to when it could be known, without computing; first token: from the start of the "
    "utterance."
)


def profiled_latency(found: Mapping[Subnet, LatencyEntry], name: str) -> Table:
    """Make the table of the latency of a model's subnets."""
    columns = ("subnet", *_TIMES.values(), "RTF")
    rows = tuple((subnet.id, *_times(entry)) for subnet, entry in found.items())
    return Table(f"{_TITLE}, {name}", columns, rows, _NOTE)


def latency_table(study: Study) -> Table:
    """Make the table of all subnets whose latency was measured, beside their WER; without any, it has no rows."""
    names = set_names(study)
    records = [(run, record) for run in study.runs for record in run.subnets if record.latency is not None]
    delayed = [name for name in names if any(_delays_of(record, name) for _, record in records)]
    columns = (
        "experiment",
        "subnet",
        *(f"{name} WER %" for name in names),
        *_TIMES.values(),
        "RTF",
        *(f"{name} {heading}" for name in delayed for heading in _DELAYS.values()),
    )
    rows = []
    for run, record in records:
        wers = [wer_cell(record.wer, name) for name in names]
        delays = [cell for name in delayed for cell in _delay_cells(record, name)]
        assert record.latency is not None
        rows.append((run.name, run.label(record), *wers, *_times(record.latency), *delays))
    return Table(_TITLE, columns, tuple(rows), _NOTE + (_NOTE_ON_DELAYS if delayed else ""))


def _delays_of(record: SubnetRecord, set_name: str) -> DelayEntry | None:
    return None if record.latency is None else record.latency.delays.get(set_name)


def _times(entry: LatencyEntry) -> Sequence[str]:
    rtf = ABSENT if entry.rtf is None else f"{entry.rtf:.4f}"
    return [*(_milliseconds(getattr(entry, name)) for name in _TIMES), rtf]


def _delay_cells(record: SubnetRecord, set_name: str) -> Sequence[str]:
    found = _delays_of(record, set_name)
    return [_milliseconds(None if found is None else getattr(found, name)) for name in _DELAYS]


def _milliseconds(value: float | None) -> str:
    if value is None:
        return ABSENT
    # Computing takes few milliseconds, delays take hundreds.
    return f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"
