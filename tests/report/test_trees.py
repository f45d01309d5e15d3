"""Branches of a tree in reports: every layer of a branch is drawn, whatever its id is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from slimasr.report.architecture import Layer, architecture_of, depth
from slimasr.report.collect import collect
from slimasr.report.comparison.pairs import matches
from slimasr.report.records import Run, SubnetRecord
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
    assert all(layer == {"heads": 2, "ffn": 16} for shape in shapes.values() for layer in shape if layer)
    # The file says the same without the folders.
    data = json.loads(json.dumps(collected.report.to_dict()))
    assert data["experiments"]["tree"]["depth"] == 4
    again = study_of(data).runs[0].subnets
    assert {record.id: record.architecture for record in again} == shapes
    without = collect([plain], "made_up", tmp_path)
    assert "depth" not in without.report.to_dict()["experiments"]["plain"]


def record(subnet: Subnet, params: float, layers: Sequence[Layer] = LAYERS, max_depth: int = 4) -> SubnetRecord:
    shape = architecture_of(subnet, layers, max_depth)
    return SubnetRecord(subnet.id, 1.0, {"params": params}, {}, None, architecture=shape)


def run(role: str, separate_of: str | None, *records: SubnetRecord) -> Run:
    return Run(role, role, separate_of, 1, 1, 1, None, "", "", "", records, (), ())


def test_equal_branches_of_two_trees_are_compared_whatever_their_ids_are() -> None:
    """The separate model stands for a branch of a larger tree, whose layers have other ids."""
    ours, theirs = Subnet(1.0, (0, 4, 5)), Subnet(1.0, (0, 8, 9))
    layers = [{"ffn": 10}] * 7
    supernet = run(
        "tree",
        None,
        record(Subnet(), 400.0, layers),
        record(ours, 300.0, layers),
        record(Subnet(1.0, (0, 6)), 200.0, layers),
    )
    alone = run("separate", theirs.id, record(Subnet(), 300.0, layers[:3], 3))
    assert theirs.id != ours.id
    (match,) = matches(supernet, [alone])
    assert (match.subnet.id, match.chosen) == (ours.id, False)
    # Equal in size by chance alone: nothing is decoded that could be nearest.
    other = run("separate", theirs.id, record(Subnet(), 300.0, [{"ffn": 15}] * 2, 2))
    assert matches(supernet, [other]) == []
