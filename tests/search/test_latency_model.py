"""The additive model of latency: what it predicts, what it covers, and which subnets it asks for."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from slimasr.errors import UserError
from slimasr.search.latency.cover import ENTANGLED, to_profile, uncovered
from slimasr.search.latency.fit import Measured, fit, leave_one_out, predict
from slimasr.search.latency.terms import TermTable
from slimasr.supernet.list_space import ListSpace
from slimasr.supernet.space import LayerSpace, SearchSpace, WidthSpace
from slimasr.supernet.subnet import Subnet
from tests.search.latency_kit import noisy, time_of

SIZES = {"ffn1": 16, "ffn2": 32}
LAYERS = LayerSpace((4, 3, 2), (("ffn1", (8, 16)), ("ffn2", (8, 16, 32))))
"""6^4 + 6^3 + 6^2 = 1548 subnets."""
WIDE = LayerSpace((3, 2), (("ffn2", (8, 16, 32)),), (1.0, 0.5))
ONE_DEPTH = LayerSpace((3,), (("ffn2", (8, 32)),))
ONLY_DEPTHS = LayerSpace((4, 3, 2))
TWO = LayerSpace((4, 2))
SPACES = {"layers": LAYERS, "wide": WIDE, "one depth": ONE_DEPTH, "only depths": ONLY_DEPTHS}


def table_of(space: SearchSpace) -> TermTable:
    return TermTable.of(space, [SIZES] * 4)


def true_time(space: LayerSpace, subnet: Subnet) -> float:
    return time_of(subnet, space.depths[0], {module: sizes[0] for module, sizes in space.units})


def measured(space: LayerSpace, times: dict[Subnet, float]) -> list[Measured]:
    table = table_of(space)
    return [Measured(subnet.id, table.of_subnet(subnet), time) for subnet, time in times.items()]


def one_hot(space: LayerSpace, subnets: list[Subnet]) -> np.ndarray:
    """Every subnet as counts of its layers and of the sizes in them, per width; written without the module tested."""
    rows = []
    for subnet in subnets:
        genes = space.genes_of(subnet)
        counts: list[float] = []
        for width in space.widths:
            here = float(genes["width"] == width)
            depth = range(int(genes["depth"]))
            counts += [here, here * len(depth)]
            for module, sizes in space.units:
                counts += [here * sum(genes[f"{layer}.{module}"] == size for layer in depth) for size in sizes]
        rows.append(counts)
    return np.array(rows)


@pytest.mark.parametrize("name", SPACES)
def test_the_subnets_asked_for_determine_every_other(name: str) -> None:
    space = SPACES[name]
    asked = to_profile(table_of(space))
    assert len(set(asked)) == len(asked) and all(subnet in space for subnet in asked)
    assert asked[0] == space.max
    times = fit(measured(space, {subnet: true_time(space, subnet) for subnet in asked}))
    assert all(time >= 0 for time in times.values())
    for subnet in space:
        assert predict(times, table_of(space).of_subnet(subnet)) == pytest.approx(true_time(space, subnet), rel=1e-6)


@pytest.mark.parametrize("name", SPACES)
def test_few_subnets_are_asked_for_and_each_can_be_left_out(name: str) -> None:
    space = SPACES[name]
    asked = to_profile(table_of(space))
    rank = np.linalg.matrix_rank(one_hot(space, list(space)))
    assert len(asked) <= 3 * rank
    design = one_hot(space, asked)
    # The diagonal of the hat matrix: the share of a measurement in its own prediction.
    shares = np.diag(design @ np.linalg.pinv(design))
    assert shares.max() <= 0.8 or set(asked) == set(space)
    for subnet in asked:
        others = [other for other in asked if other != subnet]
        assert np.linalg.matrix_rank(one_hot(space, others)) == rank
    exact = {subnet: true_time(space, subnet) for subnet in asked}
    left_out = leave_one_out(measured(space, exact))
    assert [item.name for item in left_out] == [subnet.id for subnet in asked]
    assert max(item.error for item in left_out) < 1e-6


@pytest.mark.parametrize("name", SPACES)
def test_a_profile_covers_the_space_if_its_subnets_span_it(name: str) -> None:
    space = SPACES[name]
    everything = list(space)
    whole = np.linalg.matrix_rank(one_hot(space, everything))
    rng = random.Random(1)
    seen = set()
    for trial in range(200):
        some = rng.sample(everything, min(len(everything), 1 + trial % (2 * int(whole))))
        spans = np.linalg.matrix_rank(one_hot(space, some)) == whole
        seen.add(bool(spans))
        assert (uncovered(table_of(space), some) == []) == spans
    assert seen == {True, False}


def test_choices_that_no_subnet_makes_are_named() -> None:
    table = table_of(LAYERS)
    assert uncovered(table, []) == ["width 1"]
    asked = to_profile(table)
    without = [subnet for subnet in asked if "ffn2 8 at width 1" not in table.choices_of(subnet)]
    assert uncovered(table, without) == ["ffn2 8 at width 1"]
    deep = [subnet for subnet in asked if subnet.path is None]
    assert uncovered(table, deep) == ["depth 3 at width 1", "depth 2 at width 1"]
    # With two depths, the time of a layer is known, and so is a third depth.
    assert uncovered(table, [subnet for subnet in asked if subnet.path is None or len(subnet.path) != 3]) == []
    wide = table_of(WIDE)
    narrow = [subnet for subnet in to_profile(wide) if subnet.width == 0.5]
    assert uncovered(wide, narrow) == ["width 1"]
    # Every layer has sizes of both modules, but always together.
    both = [Subnet(units=(("0.ffn1", 8), ("0.ffn2", 8))), Subnet(units=(("1.ffn1", 8), ("1.ffn2", 16)))]
    assert uncovered(table, [LAYERS.max, LAYERS.min, Subnet(path=(0, 1, 2)), *both]) == [ENTANGLED]


def test_a_profile_is_completed_by_the_subnets_that_it_lacks() -> None:
    table = table_of(WIDE)
    some = to_profile(table)[:4]
    rest = to_profile(table, some)
    assert rest and not set(rest) & set(some)
    assert uncovered(table, [*some, *rest]) == []
    assert to_profile(table, [*some, *rest]) == []


def test_times_are_the_least_relative_squares_above_zero() -> None:
    table = table_of(LAYERS)
    asked = to_profile(table)
    times = noisy({subnet: true_time(LAYERS, subnet) for subnet in asked}, 0.3)
    found = fit(measured(LAYERS, times))
    names = list(found)
    matrix = np.array([[table.of_subnet(subnet).get(name, 0.0) / times[subnet] for name in names] for subnet in asked])
    other = lsq_linear(matrix, np.ones(len(asked)), bounds=(0.0, np.inf), tol=1e-12)
    # Terms that occur together only are not determined one by one, but their sums are.
    ours = matrix @ np.array(list(found.values()))
    np.testing.assert_allclose(ours, matrix @ other.x, atol=1e-4)


def test_a_larger_module_is_never_predicted_to_be_faster() -> None:
    asked = to_profile(table_of(LAYERS))
    for seed in range(5):
        times = fit(measured(LAYERS, noisy({s: true_time(LAYERS, s) for s in asked}, 0.5, seed)))
        predicted = partial(predict, times)
        rng = random.Random(seed)
        for _ in range(50):
            subnet = LAYERS.sample(rng)
            genes = LAYERS.genes_of(subnet)
            larger = {key: LAYERS.genes[key][0] if rng.random() < 0.5 else value for key, value in genes.items()}
            # A deeper subnet needs genes of the layers that it adds.
            grown = LAYERS.from_genes({**LAYERS.genes_of(LAYERS.max), **larger})
            of = table_of(LAYERS).of_subnet
            assert predicted(of(grown)) >= predicted(of(subnet)) - 1e-9


def test_the_error_is_that_of_subnets_left_out() -> None:
    asked = to_profile(table_of(LAYERS))
    times = noisy({subnet: true_time(LAYERS, subnet) for subnet in asked}, 0.02)
    rows = measured(LAYERS, times)
    # A second measurement of a subnet is left out together with the first.
    rows.append(Measured(rows[3].name, rows[3].terms, 1.1 * rows[3].latency))
    found = {item.name: item for item in leave_one_out(rows)}
    name = rows[3].name
    alone = predict(fit([item for item in rows if item.name != name]), rows[3].terms)
    assert found[name].predicted == pytest.approx(alone)
    assert found[name].measured == pytest.approx(1.05 * rows[3].latency)
    assert found[name].error == pytest.approx(abs(alone - 1.05 * rows[3].latency) / (1.05 * rows[3].latency))
    # The smallest profile predicts every subnet, but none from the others.
    assert not leave_one_out(measured(TWO, {s: true_time(TWO, s) for s in TWO}))


def test_layers_of_another_shape_have_a_time_of_their_own() -> None:
    shapes = [{"ffn": 32}, {"ffn": 32}, {"ffn": 8}, {"ffn": 8}]
    space = LayerSpace((4, 3, 2, 1))
    costs = {subnet: 7.0 + sum((5.0, 5.0, 1.0, 1.0)[: len(subnet.path or range(4))]) for subnet in space}
    table = TermTable.of(space, shapes)
    assert uncovered(table, [Subnet(), Subnet(path=(0, 1, 2))]) == ["depth 1 at width 1"]
    rows = [Measured(subnet.id, table.of_subnet(subnet), costs[subnet]) for subnet in to_profile(table)]
    for subnet in space:
        assert predict(fit(rows), table.of_subnet(subnet)) == pytest.approx(costs[subnet])


def test_subnets_of_a_list_are_measured_one_by_one() -> None:
    widths = WidthSpace((1.0, 0.5, 0.25))
    branches = ListSpace((Subnet(), Subnet(path=(0, 1)), Subnet(units=(("0.ffn", ((0, 4), (8, 12))),))))
    for space in (widths, branches):
        table = TermTable.of(space, [{"ffn": 16}] * 3)
        assert to_profile(table) == list(space)
        first, second, third = space
        assert uncovered(table, [third, first]) == [f"subnet {second.id}"]
        assert to_profile(table, [third, first]) == [second]
        rows = [Measured(s.id, table.of_subnet(s), time) for s, time in zip(space, (9.0, 1.0, 4.0), strict=True)]
        assert [predict(fit(rows), table.of_subnet(s)) for s in space] == pytest.approx([9.0, 1.0, 4.0])
        assert leave_one_out(rows) == []


def test_pathways_take_the_same_time() -> None:
    space = ListSpace((Subnet(pathway="en"), Subnet(pathway="fr")), ("en", "fr"), gene="pathway")
    with pytest.raises(UserError, match="--latency: the pathways of this experiment .* take the same time"):
        TermTable.of(space, [SIZES] * 4)
