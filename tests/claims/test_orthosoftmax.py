"""Verdicts of paper 4 on figures whose verdict is evident, and names of its models from their configurations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from slimasr.claims.asked import Asked
from slimasr.claims.orthosoftmax import judge, role, tables
from slimasr.claims.orthosoftmax.models import mask_families, model_of
from slimasr.claims.orthosoftmax.pairs import MEDIUM, family_pairs
from slimasr.claims.todm import role as role_of_paper_2
from slimasr.report.comparison.rates import Comparison, Rate
from slimasr.report.findings import Finding, Verdict
from slimasr.report.records import Run, Study, SubnetRecord
from slimasr.results.learnt import LearntEntry
from slimasr.results.report import CurvePoint
from slimasr.supernet.subnet import Subnet
from tests.report.made_up_configs import described, with_exits
from tests.report.made_up_masks import mask_recipe, recipe

HELD, NOT_HELD, OPEN, UNTESTED = Verdict.HELD, Verdict.NOT_HELD, Verdict.NOT_RESOLVED, Verdict.NOT_TESTED
EXITS = recipe({"kind": "layers", "depths": [6, 4, 2]}, {"kind": "multi_exit"}, exits=[2, 4])
ALONE = recipe({"kind": "widths", "widths": [1.0]}, {"kind": "separate"})

NAMED = {
    "OrthoSoftmax macs component": mask_recipe(),
    "OrthoSoftmax macs layer": mask_recipe(granularity="layer"),
    "OrthoSoftmax params component": mask_recipe(criterion="params"),
    "OrthoSoftmax none layer": mask_recipe(criterion="none", granularity="layer"),
    "Top-k macs layer": mask_recipe(granularity="layer", learner={"kind": "top_k"}),
    "L0 params component": mask_recipe(criterion="params", learner={"kind": "l0"}, budgets=[{"blocks": 2}]),
    "OrthoSoftmax macs component, subnet_scale 0.1": mask_recipe(subnet_scale=0.1),
    "OrthoSoftmax macs component, orthogonality 1.5": mask_recipe(
        learner={"kind": "orthosoftmax", "orthogonality_start": 1.5, "orthogonality_end": 1.5}
    ),
    "OrthoSoftmax macs component, no annealing": mask_recipe(learner={"kind": "orthosoftmax", "temperature_min": 1.0}),
    "OrthoSoftmax macs component, no adaptive dropout": mask_recipe({"adaptive_dropout": False}),
    "OrthoSoftmax macs component, no layer dropout": mask_recipe(layer_dropout=0.0),
    "OrthoSoftmax macs component, rounding nearest": mask_recipe(
        learner={"kind": "orthosoftmax", "rounding": "nearest"}
    ),
    "OrthoSoftmax macs component, budgets 0.5/0.8": mask_recipe(budgets=[0.5, 0.8]),
    "Aux-Loss": EXITS,
}


def test_models_are_named_by_learner_criterion_granularity_and_ablation() -> None:
    supernets = list(NAMED.values())
    for expected, made in NAMED.items():
        name = role(described(made), supernets)
        assert name is not None and name.model == expected and name.words == (expected,)
        assert name.is_main == (expected == "OrthoSoftmax macs component")
        assert role_of_paper_2(described(made), supernets) is None


def test_budgets_are_usual_for_a_criterion() -> None:
    """As in the paper, where shares of parameters and of MACs that mean the same sizes differ."""
    by_macs = [mask_recipe(budgets=[0.52, 0.75], granularity=unit) for unit in ("component", "layer")]
    by_params = mask_recipe(budgets=[0.352, 0.67], criterion="params")
    names = [role(described(made), [*by_macs, by_params]) for made in (*by_macs, by_params)]
    found = [name and name.model for name in names]
    assert found == [f"OrthoSoftmax {name}" for name in ("macs component", "macs layer", "params component")]


def test_baselines_of_ctc_models_are_those_of_this_paper() -> None:
    name = role(described(ALONE, "w1"), [])
    assert name is not None and name.words == ("separate",)
    assert role_of_paper_2(described(ALONE, "w1"), []) is None
    transducer = with_exits()
    assert role(described(transducer), [transducer]) is None
    found = role_of_paper_2(described(transducer), [transducer])
    assert found is not None and found.model == "A3"


BLOCKS = {"max": 6, "4 blocks": 4, "2 blocks": 2}
FULL = {"ffn1": 8, "heads": 4, "conv": 6, "ffn2": 8}
Shape = tuple[dict[str, int] | None, ...]


def record(name: str, blocks: int, shape: Shape | None = None, learnt: bool = True, **changes: Any) -> SubnetRecord:
    wer = {each: Rate(10.0, (9.0, 11.0), 10, 100) for each in ("dev", "test")}
    entry = None
    if learnt and name != "max":
        facts = {"budget": 100.0 * blocks, "cost": 100.0 * blocks - 5, "largest_group": 10.0, "costs": {}}
        groups = tuple(f"{layer}.conv[0:6]" for layer in range(blocks))
        entry = LearntEntry(
            **{"name": name, "id": f"w1-{name}", "subnet": Subnet(), "groups": groups, **facts, **changes}
        )
    costs = {"params": 100.0 * blocks, "macs": 1000.0 * blocks}
    subnet_id = "w1" if name == "max" else f"w1-{name}"
    return SubnetRecord(subnet_id, 1.0, costs, wer, None, architecture=shape or (FULL,) * 6, learnt=entry)


def run(model: str, budgets: tuple[str, ...] = tuple(BLOCKS), **changes: Any) -> Run:
    """A mask-learning run; the ids of its subnets do not matter."""
    made = Run(
        name=model,
        role=model,
        separate_of=None,
        seed=1,
        epochs=48,
        steps=5000,
        train_minutes=25.0,
        hardware="abacus",
        revision="",
        command="",
        subnets=tuple(record(name, BLOCKS[name]) for name in budgets),
        slices=(),
        curve=(),
        model=model,
        criterion="macs",
    )
    return replace(made, **changes)


def alone(blocks: int, **changes: Any) -> Run:
    shape: Shape = (FULL,) * blocks
    subnet = record("max", blocks, shape)
    name = "w1" if blocks == 6 else f"w1-l{blocks}"
    made = run("separate", name=f"alone {blocks}", role="separate", separate_of=name, subnets=(subnet,))
    return replace(made, **changes)


def exits(*depths: int) -> Run:
    made = []
    for blocks in depths:
        shape: Shape = (FULL,) * blocks + (None,) * (6 - blocks)
        subnet = record("max" if blocks == 6 else f"l{blocks}-exit{blocks}", blocks, shape, learnt=False)
        made.append(replace(subnet, shape_id="w1" if blocks == 6 else f"w1-l{blocks}"))
    return run("Aux-Loss", subnets=tuple(made))


MAIN = run("OrthoSoftmax macs component")
PLAIN = [alone(blocks) for blocks in (6, 4, 2)]
Rule = Callable[[Asked], tuple[float, float] | None]


def asked_in(runs: list[Run]) -> list[Asked]:
    return [pair for family in mask_families(runs) for pair in family_pairs(family)]


def findings(runs: list[Run], interval: Rule) -> dict[str, Finding]:
    """Findings where each comparison that is asked for comes out as ``interval`` says."""
    comparisons = []
    for pair in asked_in(runs):
        ends = interval(pair)
        if ends is not None:
            systems = (pair.a, pair.b)
            comparisons.append(Comparison(*systems, ("dev", "test"), (1,), 100, 10.0, 10.0, sum(ends) / 2, *ends))
    return {finding.claim: finding for finding in judge(Study("made up", tuple(runs), tuple(comparisons)))}


def verdicts(runs: list[Run], interval: Rule) -> dict[str, Verdict]:
    return {claim: finding.verdict for claim, finding in findings(runs, interval).items()}


def always(low: float, high: float) -> Rule:
    return lambda pair: (low, high)


BETTER, EQUAL, WORSE = always(-4.0, -2.0), always(-0.5, 0.5), always(2.0, 4.0)


def test_a_supernet_alone_is_compared_with_nothing() -> None:
    found = verdicts([run("OrthoSoftmax macs component", ("max",))], BETTER)
    assert list(found) == [f"C4.{number}" for number in range(1, 9)] and set(found.values()) == {UNTESTED}


def test_subnets_meet_the_separate_models_of_their_budgets() -> None:
    asked = [pair for pair in asked_in([MAIN, *PLAIN]) if pair.claim == "C4.1"]
    assert [(pair.a[1], pair.b[1]) for pair in asked] == [("w1", "w1"), ("4 blocks", "w1-l4"), ("2 blocks", "w1-l2")]
    assert [pair.what.partition(" no ")[0] for pair in asked] == ["max", "4 blocks", "2 blocks (min)"]
    runs = [MAIN, *PLAIN]
    for rule, expected in ((BETTER, HELD), (EQUAL, HELD), (WORSE, NOT_HELD)):
        assert verdicts(runs, rule)["C4.1"] is expected
    assert verdicts([replace(MAIN, epochs=24), *PLAIN], BETTER)["C4.1"] is OPEN
    at_two = verdicts(runs, lambda pair: (2.0, 4.0) if pair.a[1] == "2 blocks" else (-4.0, -2.0))
    assert at_two["C4.1"] is NOT_HELD
    # The evidence states updates and minutes of both sides.
    line = findings(runs, EQUAL)["C4.1"].evidence[-1]
    assert "5,000 updates in 25.0 min; separate: 6 blocks" in line and line.endswith("(not part of the verdict)")


def test_other_budgets_are_judged_with_the_method_and_ablations_are_not() -> None:
    four = run("OrthoSoftmax macs component, budgets 2 blocks/4 blocks")
    ablation = run("OrthoSoftmax macs component, no annealing")
    roles = [pair.a[0] for pair in asked_in([MAIN, four, ablation, *PLAIN]) if pair.claim == "C4.1"]
    assert roles == [MAIN.role] * 3 + [four.role] * 3


def test_components_help_one_learner_and_hurt_the_others() -> None:
    names = ["OrthoSoftmax macs layer", "OrthoSoftmax params component", "OrthoSoftmax params layer"]
    names += ["Top-k macs component", "Top-k macs layer"]
    runs = [MAIN, *(run(name) for name in names)]
    runs += [run(f"L0 params {unit}", ("max", "2 blocks")) for unit in ("component", "layer")]
    asked = [pair for pair in asked_in(runs) if pair.claim == "C4.2"]
    assert [(pair.a, pair.b[0], pair.counts) for pair in asked] == [
        (("OrthoSoftmax macs component", "2 blocks"), "OrthoSoftmax macs layer", True),
        (("OrthoSoftmax params component", "2 blocks"), "OrthoSoftmax params layer", False),
        (("Top-k macs layer", "2 blocks"), "Top-k macs component", True),
        (("L0 params layer", "2 blocks"), "L0 params component", True),
    ]
    assert verdicts(runs, BETTER)["C4.2"] is HELD and verdicts(runs, EQUAL)["C4.2"] is OPEN
    # The paper's own figures do not carry the claim for parameters.
    by_params = verdicts(runs, lambda pair: (2.0, 4.0) if "params comp" in pair.a[0] else (-4.0, -2.0))
    assert by_params["C4.2"] is HELD
    top_k = verdicts(runs, lambda pair: (2.0, 4.0) if "Top-k" in pair.a[0] else (-4.0, -2.0))
    assert top_k["C4.2"] is NOT_HELD


def test_exits_degrade_by_more_at_min() -> None:
    runs = [MAIN, exits(6, 4, 2), *PLAIN]
    asked = {pair.claim: pair for pair in asked_in(runs) if pair.claim.startswith("C4.3")}
    assert (asked["C4.3"].a[1], asked["C4.3"].b[1]) == ("w1-l2", "w1-l2-exit2")
    assert (asked[MEDIUM].a[1], asked[MEDIUM].b[1]) == ("w1-l4", "w1-l4-exit4")

    def gaps(smallest: tuple[float, float], medium: tuple[float, float]) -> Rule:
        return lambda pair: medium if pair.claim == MEDIUM else smallest

    assert verdicts(runs, gaps((-12.0, -8.0), (-3.0, -1.0)))["C4.3"] is HELD
    # As large a gap at both sizes does not grow, and a smaller one at min shrinks.
    assert verdicts(runs, gaps((-3.0, -1.0), (-3.0, -1.0)))["C4.3"] is OPEN
    assert verdicts(runs, gaps((-3.0, -1.0), (-12.0, -8.0)))["C4.3"] is NOT_HELD
    assert verdicts(runs, gaps((1.0, 3.0), (-3.0, -1.0)))["C4.3"] is NOT_HELD
    # 10 - 2 = 8; half-widths of 2 and 1 add up as squares.
    line = findings(runs, gaps((-12.0, -8.0), (-3.0, -1.0)))["C4.3"].evidence[1]
    assert "growth +8.00 [+5.76, +10.24]" in line
    assert [pair.claim for pair in asked_in([exits(6, 2), *PLAIN]) if "C4.3" in pair.claim] == ["C4.3"]


def test_criteria_scales_and_orthogonality_are_compared_at_min() -> None:
    names = ["OrthoSoftmax params component", "OrthoSoftmax macs layer", "OrthoSoftmax params layer"]
    scales = ["0.1", "0.5", "1"]
    names += [f"{MAIN.model}, subnet_scale {value}" for value in scales]
    names += [f"{MAIN.model}, orthogonality {value}" for value in ("1.5", "0.5", "1")]
    runs = [MAIN, *(run(name) for name in names)]
    asked = asked_in(runs)
    assert [pair.b[0] for pair in asked if pair.claim == "C4.4"] == [names[0], names[2]]
    at_ends = {(pair.b[0], pair.a[1]) for pair in asked if pair.claim == "C4.5"}
    assert at_ends == {(f"{MAIN.model}, subnet_scale {value}", end) for value in scales for end in ("w1", "2 blocks")}
    rising = [(pair.b[0][-3:].strip(), pair.a[1], pair.counts) for pair in asked if pair.claim == "C4.6"]
    assert rising == [
        *(("0.5", "2 blocks", True), ("y 1", "2 blocks", True), ("1.5", "2 blocks", True)),
        *(("0.5", "w1", False), ("y 1", "w1", False), ("1.5", "w1", False)),
        ("1.5", "2 blocks", True),
    ]
    found = verdicts(runs, EQUAL)
    assert [found[claim] for claim in ("C4.4", "C4.5", "C4.6")] == [HELD, OPEN, OPEN]
    for rule, expected in ((BETTER, HELD), (WORSE, NOT_HELD)):
        found = verdicts(runs, rule)
        assert {found[claim] for claim in ("C4.4", "C4.5", "C4.6")} == {expected}


def kept(*blocks: tuple[int, int, int, int]) -> Shape:
    """The units of ffn1, heads, conv and ffn2 that a subnet keeps, block by block."""
    return tuple(dict(zip(FULL, sizes, strict=True)) for sizes in blocks)


AS_CLAIMED = kept((8, 2, 6, 8), (0, 1, 6, 2), (0, 0, 6, 2), (4, 1, 6, 4), (6, 0, 6, 4), (6, 0, 6, 8))
OTHERWISE = kept((0, 0, 0, 0), (8, 4, 0, 8), (8, 4, 6, 8), (2, 1, 0, 0), (0, 0, 0, 4), (0, 1, 0, 0))


def shaped(model: str, small: Shape, seed: int = 1) -> Run:
    records = (record("max", 6), record("4 blocks", 4, small), record("2 blocks", 2, small))
    return run(model, subnets=records, seed=seed)


def lines_of(runs: list[Run], claim: str) -> tuple[Verdict, tuple[str, ...]]:
    found = findings(runs, EQUAL)[claim]
    return found.verdict, found.evidence


def test_what_is_kept_is_counted_item_by_item() -> None:
    runs = [shaped(MAIN.model, AS_CLAIMED, seed) for seed in (1, 2, 3)]
    verdict, lines = lines_of(runs, "C4.7")
    assert verdict is HELD
    assert [line.rpartition(": ")[0].partition(" (")[0].rpartition(" ")[0] for line in lines] == [
        "convolutions are kept most: 6 of",
        "block 1 is kept more than the mean block: 6 of",
        "the lower half is kept less than the upper half: 6 of",
        "min has no heads in the top third: 3 of",
    ]
    # Of 12 feed-forward modules (8+0+0+4+6+6 + 8+2+2+4+4+8) / 8 units, of 6 blocks 4 / 4 heads.
    assert "conv 100 %, ffn 54 %, heads 17 %" in lines[0]
    mixed = [*runs[:1], shaped(MAIN.model, OTHERWISE, 2)]
    verdict, lines = lines_of(mixed, "C4.7")
    assert verdict is NOT_HELD and [line.split(": ")[1][:6] for line in lines] == ["2 of 4"] * 3 + ["1 of 2"]
    assert lines[-1].endswith("not resolved") and lines[0].endswith("not held")


def test_criteria_are_compared_by_what_they_keep_budget_by_budget() -> None:
    forward = kept(*((8, 0, 6, 8),) * 3, *((0, 0, 0, 0),) * 3)
    heads = kept(*((4, 4, 6, 4),) * 3, *((0, 0, 0, 0),) * 3)
    for params, macs, expected in ((forward, heads, HELD), (heads, forward, NOT_HELD)):
        runs = [shaped("OrthoSoftmax macs component", macs), shaped("OrthoSoftmax params component", params)]
        runs += [shaped("OrthoSoftmax macs layer", macs), shaped("OrthoSoftmax params layer", params)]
        line = lines_of(runs, "C4.7")[1][-1]
        assert line.startswith("parameters prefer") and line.endswith(
            f"{4 if expected is HELD else 0} of 4: {expected.value}"
        )


def logged(undecided: float = 1.0, off: float = 0.01, duplicates: float = 1.0) -> tuple[CurvePoint, ...]:
    """Two epochs of step 1, the first one with other figures, and one of step 2."""
    points = []
    for epoch, factor in ((1, 30.0), (2, 1.0)):
        figures = {"undecided": factor * undecided, "off_identity": factor * off, "duplicates": duplicates, "k": 20}
        method = {f"{name}/{key}": value for name in ("4 blocks", "2 blocks") for key, value in figures.items()}
        points.append(CurvePoint(epoch=epoch, step=10, values={}, method={**method, "temperature": 0.5}))
    points.append(CurvePoint(epoch=3, step=10, values={}, method={"4 blocks/cost": 0.6, "2 blocks/cost": 0.3}))
    return tuple(points)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        (logged(), HELD),
        (logged(undecided=1.1), NOT_HELD),
        (logged(off=0.11), NOT_HELD),
        (logged(duplicates=2.0), NOT_HELD),
    ],
)
def test_masks_are_judged_by_the_last_epoch_of_step_1(curve: tuple[CurvePoint, ...], expected: Verdict) -> None:
    verdict, lines = lines_of([replace(MAIN, curve=curve)], "C4.8")
    assert verdict is expected
    assert [line.rpartition(": ")[2] for line in lines] == [expected.value, "held", expected.value, "held", "held"]
    assert "after epoch 2" in lines[0] and "costs 98.75 % of its budget, 0.50 groups below" in lines[1]
    # An ablation is in the table alone.
    ablation = run(f"{MAIN.model}, no annealing", curve=curve)
    study = Study("made up", (ablation,), ())
    assert lines_of([ablation], "C4.8") == (UNTESTED, ())
    table = next(table for table in tables(study) if table.title == "Masks")
    off = f"{curve[1].method['2 blocks/off_identity']:.3f}"
    assert table.rows[1][:5] == (ablation.role, "2 blocks", "2", "20", f"{curve[1].method['2 blocks/undecided']:.0f}")
    assert table.rows[1][5] == off and table.rows[1][-1] == "97.50"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cost": 200.0}, "0.00 groups below: not held"),
        ({"cost": 190.0}, "1.00 groups below: not held"),
        ({"cost": 190.1}, "0.99 groups below: held"),
        ({"groups": ("5.conv[0:6]",)}, "not nested: not held"),
    ],
)
def test_budgets_are_met_within_one_group_by_nested_subnets(changes: dict[str, Any], says: str) -> None:
    records = (record("max", 6), record("4 blocks", 4), record("2 blocks", 2, **changes))
    verdict, lines = lines_of([run(MAIN.model, subnets=records)], "C4.8")
    assert [line for line in lines if line.endswith(says)]
    assert verdict is (HELD if says.endswith(": held") else NOT_HELD)


def test_models_stand_side_by_side_by_budget() -> None:
    one = run("L0 params component", ("max", "2 blocks"))
    study = Study("made up", (MAIN, one, exits(6, 4, 2), *PLAIN), ())
    table = tables(study)[0]
    assert table.columns[2:] == (
        *("max", "4 blocks", "4 blocks, params M", "4 blocks, MMACs/s"),
        *("2 blocks", "2 blocks, params M", "2 blocks, MMACs/s"),
    )
    cells = {row[1]: [cell != "–" for cell in row[2:]] for row in table.rows if row[0] == "test"}
    assert list(cells) == ["separate", MAIN.role, one.role, "Aux-Loss"]
    assert all(cells["separate"]) and all(cells[MAIN.role]) and all(cells["Aux-Loss"])
    assert cells[one.role] == [True, False, False, False, True, True, True]
    assert model_of(one).granularity == "component"
