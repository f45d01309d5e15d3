"""Branches of a tree in reports: every layer of a branch is drawn, whatever its id is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slimasr.report.architecture import architecture_of, depth
from slimasr.report.collect import collect
from slimasr.supernet.subnet import Subnet
from tests.report.made_up import study_of, write_experiment

# Seven layers: a deepest path of four, then the own layers of two branches that share the first one.
LAYERS = [{"ffn": 10 * (index + 1)} for index in range(7)]


@pytest.mark.parametrize(
    ("path", "sizes"),
    [
        (None, [10, 20, 30, 40]),
        ((0, 1, 2, 3), [10, 20, 30, 40]),
        ((0, 1), [10, 20, None, None]),
        ((0, 2, 3), [10, None, 30, 40]),
        ((0, 4, 5), [10, 50, 60, None]),
        ((0, 6), [10, 70, None, None]),
    ],
)
def test_a_branch_has_its_layers_in_running_order(path: tuple[int, ...] | None, sizes: list[int | None]) -> None:
    architecture = architecture_of(Subnet(1.0, path), LAYERS, 4)
    assert [layer and layer["ffn"] for layer in architecture] == sizes
    assert depth(architecture) == sum(size is not None for size in sizes)


def test_choices_of_units_are_those_of_the_layer_s_id() -> None:
    architecture = architecture_of(Subnet(1.0, (0, 6), (("6.ffn", 5),)), LAYERS, 4)
    assert architecture == ({"ffn": 10}, {"ffn": 5}, None, None)


def test_a_report_reads_the_tree_from_the_configuration(tmp_path: Path) -> None:
    sizes = {"kind": "emformer", "d_model": 8, "num_heads": 2, "ffn_dim": 16, "num_layers": 4}
    tree = {"shared": 1, "depths": [4, 3, 2]}
    plain = write_experiment(tmp_path / "plain", {1.0: 0.1}, encoder=sizes)
    folder = write_experiment(tmp_path / "tree", {1.0: 0.1}, encoder={**sizes, "tree": tree})
    results = json.loads((folder / "results.json").read_text())
    (entry,) = results["subnets"].values()
    for params, path in [(20, (0, 4, 5)), (10, (0, 6))]:
        subnet = Subnet(1.0, path)
        costs = {**entry["costs"], "params": params}
        results["subnets"][subnet.id] = {**entry, "subnet": subnet.to_dict(), "costs": costs}
    (folder / "results.json").write_text(json.dumps(results))
    collected = collect([folder], "made_up", tmp_path)
    shapes = {record.id: record.architecture for record in collected.study.runs[0].subnets}
    assert [depth(shape) for shape in shapes.values()] == [4, 3, 2]
    assert all(layer == {"ffn": 16} for shape in shapes.values() for layer in shape if layer)
    # The file says the same without the folders.
    data = json.loads(json.dumps(collected.report.to_dict()))
    assert data["experiments"]["tree"]["depth"] == 4
    again = study_of(data).runs[0].subnets
    assert {record.id: record.architecture for record in again} == shapes
    without = collect([plain], "made_up", tmp_path)
    assert "depth" not in without.report.to_dict()["experiments"]["plain"]
