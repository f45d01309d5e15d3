"""The table of latency in reports."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slimasr.report.records import current_latency
from slimasr.report.results_md import all_tables
from slimasr.report.tables.latency import latency_table
from slimasr.results.latency import DelayEntry, LatencyEntry
from slimasr.results.schema import SubnetEntry, WerEntry
from slimasr.supernet.subnet import Subnet
from tests.claims.test_slimmable import run, study, subnet


def test_latency_stands_beside_the_wer() -> None:
    delay = DelayEntry(words=7, p50=212.0, p90=340.4, last_word=None, first_partial=-5.25)
    found = LatencyEntry(
        algorithmic=120.0, worst=200.0, chunk=160.0, chunk_p50=5.13, chunk_p95=7.0, rtf=0.0321, delays={"test": delay}
    )
    # The third subnet was not measured.
    first, second, third = (subnet(name, 9.0) for name in ("w1", "w0.5", "w0.25"))
    late = replace(first, latency=found), replace(second, latency=LatencyEntry(chunk_p50=3.0)), third
    table = latency_table(study([run(subnets=late)]))
    assert len(table.rows) == 2
    assert all(len(row) == len(table.columns) for row in table.rows)
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    assert cells["latency ms"] == "120" and cells["worst ms"] == "200" and cells["computing p50 ms"] == "5.1"
    assert cells["RTF"] == "0.0321" and cells["test WER %"].startswith("9.0")
    assert cells["test delay p50 ms"] == "212" and cells["test delay p90 ms"] == "340"
    assert cells["test last word ms"] == "–" and cells["test first token ms"] == "-5.2"
    assert "test delay p90 ms" not in table.rows[1]
    assert table in all_tables(study([run(subnets=late)]))


def test_without_latency_there_is_no_table() -> None:
    assert not latency_table(study([run()])).rows


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, True),
        ({"decoding": "greedy"}, True),
        ({"decoding": "modified_beam, streaming"}, False),
        ({"checkpoint": "epoch-003"}, False),
        ({"data": "other"}, False),
    ],
)
def test_delays_of_another_wer_are_left_out(changes: dict[str, str], shown: bool) -> None:
    made_by = {"checkpoint": "final", "data": "digest", "decoding": "greedy, streaming"}
    delay = DelayEntry(words=7, p50=212.0, p90=340.4, last_word=0.0, first_partial=1.0, **(made_by | changes))
    wer = WerEntry.model_validate(
        {"wer": 9.0, "errors": 9, "words": 100, "ins": 0, "del": 0, "sub": 9, "ser": 9.0, "sentences": 9}
        | {"ci95": [8.0, 10.0]}
        | made_by
    )
    entry = SubnetEntry(subnet=Subnet(), wer={"test": wer}, latency=LatencyEntry(chunk=160.0, delays={"test": delay}))
    found = current_latency(entry)
    assert found is not None and found.chunk == 160.0
    assert ("test" in found.delays) == shown
    alone = current_latency(entry.model_copy(update={"wer": {}}))
    assert alone is not None and "test" in alone.delays
