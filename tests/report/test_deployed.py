"""The table of deployed models in reports."""

from __future__ import annotations

from dataclasses import replace

from slimasr.report.results_md import all_tables
from slimasr.report.tables.deployed import deployed_table
from slimasr.results.deployed import DeployedModel, DeployedRate
from tests.claims.test_slimmable import run, study, subnet


def test_models_stand_with_their_figures() -> None:
    rate = DeployedRate(utterances=130, identical=128, tokens=2500, changed_tokens=3, wer=28.94, torch_wer=28.9)
    test = rate.model_copy(update={"wer": 30.04})
    floats = DeployedModel(
        bytes=4_350_000,
        runtime="sherpa-onnx 2.0.1",
        sets={"test": rate},
        load_ms=61.4,
        load_ms_threads=75.0,
        rtf=0.00191,
        rtf_threads=0.0015,
        threads=2,
        peak_mb=58.3,
        hardware="2 x a processor",
    )
    int8 = floats.model_copy(update={"emulated": {"haswell": {"test": test}}, "bytes": 1_100_000})
    first, second = subnet("w1", 9.0), subnet("w0.5", 9.0)
    # The second subnet was not deployed.
    subnets = replace(first, deployed={"float": floats, "int8": int8}), second
    table = deployed_table(study([run(subnets=subnets)]))
    assert len(table.rows) == 2
    assert all(len(row) == len(table.columns) for row in table.rows)
    one, two = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert (one["precision"], one["MB"], two["precision"], two["MB"]) == ("float", "4.35", "int8", "1.10")
    assert one["test WER %"] == "28.94" and one["test WER % haswell"] == "–" and two["test WER % haswell"] == "30.04"
    assert one["test identical"] == "128 of 130" and one["test changed"] == "3 of 2500"
    assert (one["RTF"], one["load ms"], one["load all ms"], one["peak MB"]) == ("0.0019", "61", "75", "58")
    assert "dev WER %" not in table.columns
    assert "sherpa-onnx 2.0.1, 2 x a processor" in table.note
    assert table.note.endswith("haswell: the encoder on this processor, which qemu emulates.")
    assert table in all_tables(study([run(subnets=subnets)]))


def test_dev_sets_come_first() -> None:
    rate = DeployedRate(utterances=1, identical=1, tokens=9, changed_tokens=0, wer=9.0, torch_wer=9.0)
    one = DeployedModel(bytes=1, runtime="a runtime", sets={"test": rate}, hardware="a processor")
    both = one.model_copy(update={"sets": {"test": rate, "dev": rate}})
    subnets = (replace(subnet("w1", 9.0), deployed={"float": one, "int8": both}),)
    table = deployed_table(study([run(subnets=subnets)]))
    columns = table.columns
    assert "emulates" not in table.note
    assert columns.index("dev WER %") < columns.index("test WER %")


def test_without_models_there_is_no_table() -> None:
    assert not deployed_table(study([run()])).rows
