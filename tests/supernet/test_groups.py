"""Groups, their costs, budgets, and the rounding of gates, on a small Conformer."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
import torch

from slimasr.errors import UserError
from slimasr.models.transducer import Transducer
from slimasr.supernet.groups import (
    Budget,
    Criterion,
    Group,
    group_costs,
    groups_of,
    kept_cost,
    resolved_budgets,
    round_rows,
    round_scores,
    subnet_of,
)
from slimasr.supernet.subnet import Subnet
from tests.tiny import VOCAB_SIZE, model_config

MODEL = Transducer(model_config(num_layers=2), VOCAB_SIZE)
SECONDS = 0.28
CHUNKS = {"ffn1": (32, 4), "heads": (4, 4), "conv": (16, 1), "ffn2": (32, 4)}
"""Module -> its units, and into how many groups they are cut."""
GROUPS = [group for layer in (0, 1) for module, cut in CHUNKS.items() for group in groups_of(layer, module, *cut)]
CRITERIA: list[Criterion] = ["none", "params", "macs"]


def size_of_model(kept: Iterable[Group]) -> int:
    """Parameters of the extracted model, counted one tensor after the other."""
    return sum(parameter.numel() for parameter in MODEL.extract(subnet_of(list(kept), GROUPS)).parameters())


def test_kept_groups_are_index_sets() -> None:
    kept = [group for group in GROUPS if group.start % 16 == 0 or group.module == "heads"]
    subnet = subnet_of([*kept[::-1], kept[0]], GROUPS, head="0.5")
    ffn = ((0, 8), (16, 24))
    assert subnet == Subnet(
        units=tuple((f"{layer}.{name}", ffn) for layer in (0, 1) for name in ("ffn1", "ffn2")), head="0.5"
    )
    assert subnet_of(GROUPS, GROUPS) == Subnet()
    assert dict(subnet_of([], GROUPS).units) == {group.key: 0 for group in GROUPS}
    with pytest.raises(ValueError, match=r"3\.ffn: 10 units cannot be cut into 4"):
        groups_of(3, "ffn", 10, 4)


def test_a_subnet_of_the_papers_size_is_short() -> None:
    cuts = {"ffn1": (2048, 4), "conv": (512, 1), "heads": (8, 8), "ffn2": (2048, 4)}
    groups = [group for layer in range(12) for module, cut in cuts.items() for group in groups_of(layer, module, *cut)]
    assert len(groups) == 204
    # Every second group makes the most ranges.
    for kept in (groups[1::2], groups[::2], random.Random(0).sample(groups, 102)):
        text = subnet_of(kept, groups, "4 blocks").to_json()
        assert len(text) < 2048 and Subnet.from_json(text) == subnet_of(kept, groups, "4 blocks")


def test_groups_and_rest_cost_the_whole() -> None:
    rest, costs = group_costs(MODEL, GROUPS, "params", SECONDS)
    whole = size_of_model(GROUPS)
    assert rest == size_of_model([]) and rest + sum(costs) == pytest.approx(whole)
    for group, cost in zip(GROUPS, costs, strict=True):
        module = [other for other in GROUPS if other.key == group.key]
        others = [other for other in GROUPS if other.key != group.key]
        assert cost == pytest.approx((whole - size_of_model(others)) / len(module))


def test_macs_are_per_second_of_the_given_length() -> None:
    rest, costs = group_costs(MODEL, GROUPS, "macs", SECONDS)
    frames = MODEL.encoder.output_frames(28)
    heads = [cost for group, cost in zip(GROUPS, costs, strict=True) if group.module == "heads"]
    # d = 16, d_h = 4: three projections, one back, scores and sums; 2T positions are projected and scored.
    assert heads == [pytest.approx(frames * 4 * (4 * 16 + 2 * frames + 2 * 16 + 2 * frames) / SECONDS)] * 8
    assert rest + sum(costs) == pytest.approx(MODEL.count(None, SECONDS).macs)
    assert group_costs(MODEL, GROUPS, "macs", 10)[1][4] > heads[0]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_random_gates_meet_every_budget(criterion: Criterion) -> None:
    """True costs, counted from extracted models for parameters, are below the budgets by at most one group."""
    rng = random.Random(1)
    cost = kept_cost(MODEL, GROUPS, criterion, SECONDS)
    largest = max(cost([i]) - cost([]) for i in range(len(GROUPS)))
    for _ in range(12):
        shares = sorted(rng.uniform(0.4, 0.99) for _ in range(3))
        # Equal rows at times, so that there are duplicates to replace.
        rows = [rng.choices([0.0, 0.1, rng.random()], k=len(GROUPS)) for _ in range(len(GROUPS))]
        rng.shuffle(shares)
        limits = resolved_budgets(
            [Budget("share", share, str(share)) for share in shares], MODEL, GROUPS, criterion, SECONDS
        )
        counts = [rng.randint(0, len(rows)) for _ in shares]
        for found in (round_rows(rows, counts, limits, [cost] * 3), round_scores(rows[0], limits, [cost] * 3)):
            by_size = [set(result.kept) for _, result in sorted(zip(limits, found, strict=True))]
            assert by_size[0] <= by_size[1] <= by_size[2]
            for result, limit in zip(found, limits, strict=True):
                true = size_of_model([GROUPS[i] for i in result.kept]) if criterion == "params" else cost(result.kept)
                assert 0 < limit - true <= largest


def test_rows_come_first_then_the_best_gates() -> None:
    one_hot = torch.eye(5).tolist()
    shared = [0.0, 0.1, 0.6, 0.3, 0.0]
    # The second and the third row want the same group; of what is left, 3 has the largest sum.
    rows = [one_hot[4], shared, shared, one_hot[0]]
    found = round_rows(rows, [2, 4, 3], [2.5, 4.5, 3.5], [lambda kept: float(len(list(kept)))] * 3)
    assert [result.kept for result in found] == [(2, 4), (0, 2, 3, 4), (2, 3, 4)]
    assert [result.duplicates for result in found] == [0, 1, 1]
    # A group that does not fit makes room for a smaller one.
    sizes = [3.0, 1.0, 2.0]
    (only,) = round_scores([0.9, 0.1, 0.8], [3.5], [lambda kept: sum(sizes[i] for i in kept)])
    assert only.kept == (0,)
    (only,) = round_scores([0.9, 0.1, 0.8], [3.0], [lambda kept: sum(sizes[i] for i in kept)])
    assert only.kept == (2,)


def test_gates_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UserError, match="not finite"):
        round_scores([0.5, float("nan")], [1.5], [lambda kept: 1.0])
    with pytest.raises(UserError, match="not finite"):
        round_rows([[0.5, float("inf")]], [1], [1.5], [lambda kept: 1.0])


def test_budgets_are_read_as_the_recipe_writes_them() -> None:
    written = {0.63: "0.63", "4.5e-1": "4.5e-1"}
    assert {value: Budget.parse(value).name for value in written} == written
    assert (
        Budget.parse({"blocks": 4}) == Budget("blocks", 4, "4 blocks") and Budget.parse({"blocks": 1}).name == "1 block"
    )
    assert Budget.parse({"macs": "2.5e8"}) == Budget("macs", 2.5e8, "2.5e8 macs")
    assert Budget.parse({"params": 3000000.0}) == Budget("params", 3e6, "3000000 params")


@pytest.mark.parametrize(
    "value", [0, 1, 1.5, -0.5, True, "half", None, [0.5], {"blocks": 0}, {"blocks": 1.5}, {"macs": 0}, {"flops": 1}, {}]
)
def test_other_values_are_no_budgets(value: object) -> None:
    with pytest.raises(ValueError, match="a budget is a share"):
        Budget.parse(value)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_blocks_cost_what_the_separate_model_costs(criterion: Criterion) -> None:
    limit = Budget.parse({"blocks": 1}).resolve(MODEL, GROUPS, criterion, SECONDS)
    alone = Transducer(model_config(num_layers=1), VOCAB_SIZE)
    expected = {
        "none": 13,
        "params": sum(p.numel() for p in alone.parameters()),
        "macs": alone.count(None, SECONDS).macs,
    }
    assert limit == expected[criterion]


@pytest.mark.parametrize(
    ("values", "criterion", "message"),
    [
        ([0.01], "params", "0.01 is .* parameters, but what belongs to no group costs"),
        ([{"params": 1e9}], "params", "1000000000 params is .*, but the whole model has no more than"),
        ([{"macs": 1e9}], "params", "macs limits macs, but method.criterion is params"),
        ([{"blocks": 2}], "macs", "2 blocks is not below the whole encoder, which has 2"),
        ([0.5, {"blocks": 1}], "none", "0.5 and 1 block are equal"),
    ],
)
def test_budgets_that_cannot_be_met_are_named(values: list[object], criterion: Criterion, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolved_budgets([Budget.parse(value) for value in values], MODEL, GROUPS, criterion, SECONDS)
