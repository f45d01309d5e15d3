"""Verdicts of paper 3 on figures whose verdict is evident, and names of its models from their configurations."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slimasr.claims import PAPERS, claims_of
from slimasr.claims.asked import Asked
from slimasr.claims.collaborative import judge, role, tables
from slimasr.claims.collaborative.models import Model, collaborative_families, model_of
from slimasr.claims.collaborative.pairs import family_pairs
from slimasr.claims.todm import role as role_of_paper_2
from slimasr.config.load import save_config
from slimasr.config.schema import Config
from slimasr.report.collect import collect
from slimasr.report.comparison.rates import Comparison, Rate
from slimasr.report.findings import Verdict
from slimasr.report.records import Run, Study, SubnetRecord
from slimasr.report.roles import separate_words
from slimasr.report.tables.table import ABSENT
from slimasr.supernet.build import build_space
from slimasr.supernet.subnet import Subnet
from tests.report.made_up import measured
from tests.report.made_up_configs import config, described, separate

HELD, NOT_HELD, OPEN, UNTESTED = Verdict.HELD, Verdict.NOT_HELD, Verdict.NOT_RESOLVED, Verdict.NOT_TESTED
EMFORMER = {"kind": "emformer", "d_model": 8, "num_heads": 2, "ffn_dim": 16, "num_layers": 10}
FRAMES: dict[str, Any] = {"layers": [], "output": True, "aux_weight": 0.1}


def recipe(shared: int, depths: list[int], auxiliary: dict[str, Any] | None = None, **encoder: Any) -> Config:
    tree = {"shared": shared, "depths": depths}
    loss = {"transducer": "restricted", "alignments": "a", "auxiliary": auxiliary}
    return config({**EMFORMER, **encoder, "tree": tree}, {"kind": "branches"}, "collaborative", loss)


FOUR, TWO = [10, 9, 7, 5], [10, 7]
NAMED = {
    "10/9/7/5 PJ": recipe(0, FOUR),
    "10/9/7/5 PJ+LF": recipe(3, FOUR),
    "10/9/7/5 PJ+CE": recipe(0, FOUR, {**FRAMES, "kl_weight": 0}),
    "10/9/7/5 PJ+CE+KL": recipe(0, FOUR, FRAMES),
    "10/9/7/5 PJ+LF+CE": recipe(3, FOUR, {**FRAMES, "kl_weight": 0}),
    "10/9/7/5 PJ+LF+CE+KL": recipe(3, FOUR, FRAMES),
    "10/7 PJ+LF+CE+KL": recipe(3, TWO, FRAMES),
    "10/7 PJ+LF+CE+KL, lambda 0.05": recipe(3, TWO, {**FRAMES, "aux_weight": 0.05}),
    "10/7 PJ+LF+CE+KL, KL weight 0.3": recipe(3, TWO, {**FRAMES, "kl_weight": 0.3}),
    "10/7 PJ+LF+CE+KL, relative positions": recipe(3, TWO, FRAMES, position="relative"),
    "10/7 PJ+LF+CE+KL, segment 8": recipe(3, TWO, FRAMES, segment=8),
}


def test_models_are_named_by_their_branches_and_factors() -> None:
    supernets = list(NAMED.values())
    for expected, made in NAMED.items():
        name = role(described(made), supernets)
        assert name is not None and name.model == expected and name.words == (f"collaborative {expected}",)
        assert name.is_main == (expected.partition(" ")[2] == "PJ+LF+CE+KL")
        assert role_of_paper_2(described(made), supernets) is None
    assert role(described(config()), [config()]) is None


def test_names_tell_runs_apart_that_share_their_factors() -> None:
    main = recipe(3, FOUR, FRAMES)
    other = main.model_copy(update={"loss": main.loss.model_copy(update={"right_buffer": 30, "per": "utterance"})})
    for made, words in ((recipe(2, FOUR, FRAMES), "2 shared layers"), (other, "right_buffer 30, per utterance")):
        name = role(described(made), [main, made])
        assert name is not None and name.model == f"10/9/7/5 PJ+LF+CE+KL, {words}"
    without = described(separate({**EMFORMER, "position": "relative"}), "w1")
    assert separate_words(without, [main]) == ("separate", "position relative")
    assert separate_words(described(separate(EMFORMER), "w1"), [main]) == ("separate",)


def test_separate_models_with_frame_targets_at_the_output_are_those_of_paper_3() -> None:
    plain = separate(EMFORMER)
    with_ce = separate(EMFORMER, {"alignments": "a", "auxiliary": {**FRAMES, "aux_weight": 0.6}})
    name = role(described(with_ce, "w1"), [])
    assert name is not None and name.words == ("separate", "CE 0.6")
    assert role_of_paper_2(described(with_ce, "w1"), []) is None
    assert role(described(plain, "w1"), []) is None


@pytest.mark.parametrize(
    ("name", "model", "weight"),
    [
        ("10/9/7/5 PJ+LF", Model(4, "PJ+LF"), 0.1),
        ("10/7 PJ+LF+CE+KL, lambda 0.05", Model(2, "PJ+LF+CE+KL", "lambda 0.05"), 0.05),
        ("10/7 PJ, lambda 0.05, no positions", Model(2, "PJ", "lambda 0.05, no positions"), None),
    ],
)
def test_short_names_are_read_back(name: str, model: Model, weight: float | None) -> None:
    found = model_of(run(name, 10, 7))
    assert found == model and found.weight == weight


def record(layers: int, subnet_id: str) -> SubnetRecord:
    wer = {name: Rate(10.0, (9.0, 11.0), 10, 100) for name in ("dev", "test")}
    shape = ({"ffn": 16},) * layers + (None,) * (10 - layers)
    return SubnetRecord(subnet_id, 1.0, {"params": 100.0 * layers}, wer, None, architecture=shape)


def run(model: str, *depths: int, **changes: Any) -> Run:
    """A collaborative run, each of whose branches has an id that no other run has."""
    made = Run(
        name=model,
        role=f"collaborative {model}",
        separate_of=None,
        seed=1,
        epochs=60,
        steps=3000,
        train_minutes=50.0,
        hardware="abacus",
        revision="",
        command="",
        subnets=tuple(record(layers, f"{model} {layers}") for layers in depths),
        slices=(),
        curve=(),
        model=model,
    )
    return replace(made, **changes)


def alone(layers: int, **changes: Any) -> Run:
    made = run("A1", layers, role="separate", separate_of=f"alone {layers}", name=f"alone {layers}")
    return replace(made, **changes)


def alone_ce(layers: int) -> Run:
    return alone(layers, role="separate, CE 0.6", model="separate + CE", name=f"ce {layers}")


PLAIN = [alone(layers) for layers in (10, 7, 5, 4)]
Rule = Callable[[Asked], tuple[float, float] | None]


def verdicts(runs: list[Run], interval: Rule) -> dict[str, Verdict]:
    """Verdicts where each comparison that is asked for comes out as ``interval`` says."""
    comparisons = []
    for family in collaborative_families(runs):
        for pair in family_pairs(family):
            ends = interval(pair)
            if ends is not None:
                systems = (pair.a, pair.b)
                comparisons.append(Comparison(*systems, ("dev", "test"), (1,), 100, 10.0, 10.0, sum(ends) / 2, *ends))
    return {finding.claim: finding.verdict for finding in judge(Study("made up", tuple(runs), tuple(comparisons)))}


def always(low: float, high: float) -> Rule:
    return lambda pair: (low, high)


BETTER, EQUAL, WORSE = always(-4.0, -2.0), always(-0.5, 0.5), always(2.0, 4.0)
FULL = run("10/9/7/5 PJ+LF+CE+KL", 10, 9, 7, 5)


def test_a_lone_supernet_tests_nothing() -> None:
    found = verdicts([FULL], BETTER)
    assert list(found) == [f"C3.{number}" for number in range(1, 8)] and set(found.values()) == {UNTESTED}


def test_branches_meet_separate_models_of_their_depth_whatever_the_ids_are() -> None:
    asked = [pair for family in collaborative_families([FULL, *PLAIN]) for pair in family_pairs(family)]
    found = [(pair.a[1], pair.b[1]) for pair in asked if pair.claim == "C3.1"]
    # There is no separate model of nine layers, and no branch of four.
    assert found == [(f"{FULL.model} {layers}", f"alone {layers}") for layers in (10, 7, 5)]
    assert [(pair.a[1], pair.b[1]) for pair in asked if pair.claim == "C3.2"] == [(f"{FULL.model} 10", "alone 10")]


def test_every_depth_must_beat_its_separate_model() -> None:
    runs = [FULL, *PLAIN]
    for rule, expected in ((BETTER, HELD), (EQUAL, OPEN), (WORSE, NOT_HELD)):
        found = verdicts(runs, rule)
        assert found["C3.1"] is expected and found["C3.2"] is expected
    at_five = verdicts(runs, lambda pair: (2.0, 4.0) if pair.what.startswith("5 ") else (-4.0, -2.0))
    assert at_five["C3.1"] is NOT_HELD and at_five["C3.2"] is HELD
    assert verdicts([replace(FULL, epochs=30), *PLAIN], BETTER)["C3.1"] is OPEN


def test_factors_add_up_but_for_kl() -> None:
    runs = [FULL, *PLAIN, *(run(f"10/9/7/5 {factors}", 10, 9, 7, 5) for factors in ("PJ", "PJ+LF", "PJ+LF+CE"))]
    as_claimed = verdicts(runs, lambda pair: (-0.5, 0.5) if "KL equal" in pair.what else (-4.0, -2.0))
    assert as_claimed["C3.3"] is HELD
    assert verdicts(runs, BETTER)["C3.3"] is NOT_HELD
    assert verdicts(runs, EQUAL)["C3.3"] is OPEN
    asked = [pair for family in collaborative_families(runs) for pair in family_pairs(family) if pair.claim == "C3.3"]
    # PJ against three separate models, then three steps at four depths each.
    assert len(asked) == 3 + 3 * 4
    assert asked[0].a == ("separate", "alone 10") and asked[0].b == ("collaborative 10/9/7/5 PJ", "10/9/7/5 PJ 10")


def test_a_very_small_branch_is_hurt_by_sharing_which_saves_time() -> None:
    shared, unshared = run("10/7/4 PJ+LF+CE+KL", 10, 7, 4), run("10/7/4 PJ+CE+KL", 10, 7, 4, train_minutes=70.0)
    assert verdicts([shared, unshared, *PLAIN], BETTER)["C3.4"] is HELD
    assert verdicts([shared, unshared, *PLAIN], WORSE)["C3.4"] is NOT_HELD
    assert verdicts([shared, replace(unshared, train_minutes=51.0), *PLAIN], BETTER)["C3.4"] is OPEN
    assert verdicts([shared, replace(unshared, train_minutes=30.0), *PLAIN], BETTER)["C3.4"] is NOT_HELD


def test_ce_alone_is_inconsistent_if_it_helps_here_and_hurts_there() -> None:
    runs = [FULL, *PLAIN, *(alone_ce(layers) for layers in (10, 7, 4))]
    mixed = verdicts(runs, lambda pair: (-4.0, -2.0) if pair.what.startswith("10 ") else (2.0, 4.0))
    assert mixed["C3.5"] is HELD
    assert verdicts(runs, BETTER)["C3.5"] is NOT_HELD and verdicts(runs, WORSE)["C3.5"] is NOT_HELD
    assert verdicts(runs, EQUAL)["C3.5"] is OPEN
    # One of three differs by chance: -2 +- 1.99 is no longer below 0 at 98.3 %.
    assert verdicts(runs, always(-3.99, -0.01))["C3.5"] is OPEN


def test_two_branches_save_a_quarter_of_the_layers() -> None:
    runs = [run("10/7 PJ+LF+CE+KL", 10, 7), *PLAIN]
    assert verdicts(runs, always(-0.5, 0.9))["C3.6"] is HELD
    assert verdicts(runs, WORSE)["C3.6"] is NOT_HELD
    (asked,) = [p for family in collaborative_families(runs) for p in family_pairs(family) if p.claim == "C3.6"]
    assert (asked.a[1], asked.b[1]) == ("10/7 PJ+LF+CE+KL 7", "alone 10")


def test_no_lambda_is_best_if_each_is_beaten_somewhere() -> None:
    weights = ["", ", lambda 0.05", ", lambda 0.3"]
    runs = [run(f"10/7/4 PJ+LF+CE+KL{weight}", 10, 7, 4) for weight in weights]
    assert verdicts(runs, EQUAL)["C3.7"] is OPEN
    # The smaller weight is better everywhere, so that 0.05 is the best at all depths.
    assert verdicts(runs, BETTER)["C3.7"] is NOT_HELD
    turned = verdicts(runs, lambda pair: (-4.0, -2.0) if pair.what.startswith("10 ") else (2.0, 4.0))
    assert turned["C3.7"] is HELD
    assert verdicts(runs[:1], BETTER)["C3.7"] is UNTESTED


def test_the_table_has_a_column_for_every_depth() -> None:
    study = Study("made up", (FULL, *PLAIN), ())
    (table,) = tables(study)
    assert table.columns[2:] == ("10 layers", "9 layers", "7 layers", "5 layers", "4 layers")
    assert [row[:2] for row in table.rows] == [(s, r) for s in ("dev", "test") for r in ("separate", FULL.role)]
    assert [cell == ABSENT for cell in table.rows[0][2:]] == [False, True, False, False, False]


def write_run(folder: Path, made: Config, subnets: dict[Subnet, int], rate: float, separate_of: str | None) -> Path:
    """Write the folder of a run whose subnets have these numbers of layers."""
    folder.mkdir(parents=True)
    entries = {}
    for subnet, layers in subnets.items():
        entry = measured(1.0, rate, folder, subnet.id, seed=1)
        entries[subnet.id] = {**entry, "subnet": subnet.to_dict(), "costs": {"params": 1000 * layers}}
    facts = {"name": folder.name, "method": made.method.kind, "separate_of": separate_of, "seed": 1, "epochs": 60}
    record = {**facts, "steps": 100, "hardware": "abacus", "command": "", "train_minutes": 10.0, "subnets": entries}
    (folder / "results.json").write_text(json.dumps(record), encoding="utf-8")
    save_config(made, folder / "config.yaml")
    return folder


def test_folders_of_different_trees_are_joined_by_depth(tmp_path: Path) -> None:
    """No two of these runs have the same id for a branch of seven layers."""
    folders = []
    for name, depths, rate in (("four", FOUR, 0.05), ("two", TWO, 0.1)):
        made = recipe(3, depths, FRAMES)
        subnets = {subnet: len(path) for subnet, path in zip(build_space(made), made.model.encoder.paths, strict=True)}
        folders.append(write_run(tmp_path / name, made, subnets, rate, None))
    larger = recipe(3, [10, 9, 7, 5, 4])
    for subnet, path in zip(build_space(larger), larger.model.encoder.paths, strict=True):
        small = separate({**EMFORMER, "num_layers": len(path)}, {"transducer": "full"})
        folder = tmp_path / f"alone_{len(path)}"
        folders.append(write_run(folder, small, {Subnet(): len(path)}, 0.3, subnet.id))
    report, study = collect(folders, "made up", tmp_path, PAPERS)
    assert {run.role for run in study.runs} == {
        "collaborative 10/9/7/5 PJ+LF+CE+KL",
        "collaborative 10/7 PJ+LF+CE+KL",
        "separate",
    }
    found = {finding.claim: finding for finding in claims_of(study).findings}
    assert found["C3.1"].verdict is HELD and len(found["C3.1"].evidence) == 4
    assert found["C3.2"].verdict is HELD and len(found["C3.2"].evidence) == 2
    assert found["C3.6"].verdict is HELD
    assert all("dev + test" in line and "unpaired" not in line for line in found["C3.1"].evidence)
    # Every branch is also in the table of supernets against separate models.
    assert len([entry for entry in report.comparisons if entry.b.role == "separate"]) == 4 + 2 + 1
    (table,) = tables(study)
    assert [row[1] for row in table.rows] == [*("separate", study.runs[0].role, study.runs[1].role)] * 2
