"""Learners of masks against their formulas, written out as loops over floats."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable, Sequence

import pytest
import torch
from torch import Tensor

from slimasr.config.learners import L0Config, OrthoSoftmaxConfig, TopKConfig
from slimasr.methods.learners import GroupCosts, Learner, Place, TrueCosts, build_learner
from slimasr.methods.learners.l0 import L0
from slimasr.methods.learners.orthosoftmax import OrthoSoftmax
from slimasr.methods.learners.top_k import TopK, relaxed_top_k

REST = 2.0
COSTS = (1.0, 3.0, 2.0, 0.5, 1.5, 2.5)
LIMITS = (9.0, 6.2, 3.1)
GIVEN = GroupCosts(REST, COSTS, LIMITS)
GROUPS = range(len(COSTS))
HALF = Place(step=50.0, steps=100.0)
Matrix = list[list[float]]


def random_scores(seed: int, size: float = 2.0) -> Matrix:
    rng = random.Random(seed)
    return [[size * rng.gauss(0, 1) for _ in COSTS] for _ in COSTS]


def orthosoftmax(seed: int = 0, **settings: object) -> tuple[OrthoSoftmax, Matrix]:
    """A learner with random scores, and these."""
    learner = OrthoSoftmax(GIVEN, OrthoSoftmaxConfig(**settings))
    scores = random_scores(seed)
    # float64, so that the reference has the same scores
    learner.double()
    with torch.no_grad():
        learner.scores.copy_(torch.tensor(scores, dtype=torch.float64))
    return learner, scores


def softmax(values: Sequence[float], temperature: float) -> list[float]:
    exponentials = [math.exp(value / temperature) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def row_costs(rows: Matrix) -> list[float]:
    """The cost of the first 1, 2, 3 and so on rows, with the rest."""
    found, total = [], REST
    for row in rows:
        for gate, cost in zip(row, COSTS, strict=True):
            total += gate * cost
        found.append(total)
    return found


def number_of_rows(rows: Matrix, limit: float, rounding: str) -> int:
    costs = row_costs(rows)
    if rounding == "nearest":
        return min(range(len(costs)), key=lambda i: abs(costs[i] - limit)) + 1
    return max([k for k in range(1, len(rows) + 1) if costs[k - 1] < limit], default=1)


def mask_of(rows: Matrix, k: int) -> list[float]:
    return [sum(rows[i][j] for i in range(k)) for j in GROUPS]


def orthogonality(rows: Matrix, k: int) -> float:
    total = 0.0
    for i in range(k):
        for j in range(i, k):
            product = sum(a * b for a, b in zip(rows[i], rows[j], strict=True))
            total += (product - 1.0) ** 2 if i == j else product**2
    return math.sqrt(total + 1e-12)


def slopes(function: Callable[[Matrix], float], scores: Matrix, step: float = 1e-5) -> Tensor:
    """Central differences."""
    found = []
    for i in range(len(scores)):
        for j in range(len(scores[i])):
            values = []
            for change in (step, -step):
                moved = [list(row) for row in scores]
                moved[i][j] += change
                values.append(function(moved))
            found.append((values[0] - values[1]) / (2 * step))
    return torch.tensor(found, dtype=torch.float64).view(len(scores), -1)


@pytest.mark.parametrize("rounding", ["below", "nearest"])
@pytest.mark.parametrize("seed", [0, 1])
def test_orthosoftmax_sums_the_rows_that_a_budget_pays_for(seed: int, rounding: str) -> None:
    learner, scores = orthosoftmax(seed, rounding=rounding, temperature=0.8, temperature_min=0.2)
    temperature = 0.8 * (0.2 / 0.8) ** 0.5
    assert learner.temperature(HALF) == pytest.approx(temperature)
    rows = [softmax(row, temperature) for row in scores]
    numbers = [number_of_rows(rows, limit, rounding) for limit in LIMITS]
    assert len(set(numbers)) > 1
    weights = [0.3 * (j + 1) for j in GROUPS]
    for budget, k in enumerate(numbers):
        assert learner.number(budget, HALF) == k
        gates = learner.gates(budget, HALF)
        assert gates.dtype == torch.float32
        assert gates.tolist() == pytest.approx(mask_of(rows, k), rel=1e-6)

        def loss(moved: Matrix, k: int = k) -> float:
            mask = mask_of([softmax(row, temperature) for row in moved], k)
            return sum(weight * gate**2 for weight, gate in zip(weights, mask, strict=True))

        # The number of rows has no gradient.
        (torch.tensor(weights) * gates.square()).sum().backward()
        torch.testing.assert_close(learner.scores.grad, slopes(loss, scores), rtol=1e-4, atol=1e-6)
        learner.scores.grad = None


@pytest.mark.parametrize("seed", [0, 1])
def test_orthogonality_of_the_rows_of_a_budget(seed: int) -> None:
    learner, scores = orthosoftmax(seed, orthogonality_start=0.5, orthogonality_end=2.0, temperature_min=1.0)
    rows = [softmax(row, 1.0) for row in scores]
    for budget, limit in enumerate(LIMITS):
        k = number_of_rows(rows, limit, "below")
        penalty = learner.penalties(budget, HALF)["orthogonality"]
        # Half way between 0.5 and 2
        assert float(penalty.detach()) == pytest.approx(1.25 * orthogonality(rows, k), rel=1e-12)
        penalty.backward()

        def loss(moved: Matrix, k: int = k) -> float:
            return 1.25 * orthogonality([softmax(row, 1.0) for row in moved], k)

        torch.testing.assert_close(learner.scores.grad, slopes(loss, scores), rtol=1e-6, atol=1e-8)
        learner.scores.grad = None
        products = [[sum(a * b for a, b in zip(rows[i], rows[j], strict=True)) for j in range(k)] for i in range(k)]
        distance = max(abs(products[i][j] - (i == j)) for i in range(k) for j in range(k))
        undecided = sum(0.1 < gate < 0.9 for gate in mask_of(rows, k))
        expected = {"k": k, "undecided": undecided, "off_identity": pytest.approx(distance)}
        assert learner.budget_statistics(budget, HALF) == expected


def test_schedules_of_temperature_and_orthogonality() -> None:
    learner, _ = orthosoftmax()
    places = [Place(step, 1000.0) for step in (0.0, 250.0, 1000.0, 1200.0)]
    assert [learner.temperature(place) for place in places] == pytest.approx([1.0, 0.1**0.25, 0.1, 0.1])
    assert [learner.orthogonality(place) for place in places] == pytest.approx([0.0, 0.25, 1.0, 1.0])
    assert learner.penalties(0, places[0]) == {}
    # Paper 4: 0.999992 a step, over the 225,000 of step 1 and down to 0.1 at the lowest
    paper, _ = orthosoftmax(temperature_decay=0.999992)
    assert paper.temperature(Place(225_000.0, 225_000.0)) == pytest.approx(0.165, abs=5e-4)
    assert paper.temperature(Place(439_200.0, 439_200.0)) == 0.1
    constant, _ = orthosoftmax(temperature_min=1.0, orthogonality_start=1.0)
    assert [(constant.temperature(place), constant.orthogonality(place)) for place in places] == [(1.0, 1.0)] * 4


def test_equal_costs_are_counted_without_rounding_errors() -> None:
    """The cost of k rows is k, and with a budget of 24 groups 23 are below it, whatever the rounding of softmaxes."""
    given = GroupCosts(0.0, (1.0,) * 48, (24.0, 11.5))
    for seed in range(5):
        torch.manual_seed(seed)
        learner = OrthoSoftmax(given, OrthoSoftmaxConfig(score_init_std=1.0))
        assert [learner.number(budget, HALF) for budget in range(2)] == [23.0, 11.0]


def test_equal_scores_of_all_rows_cannot_be_told_apart() -> None:
    """The reason for scores that differ at the beginning: their gradients are equal as well."""
    learner = OrthoSoftmax(GIVEN, OrthoSoftmaxConfig(score_init_std=0.0)).double()
    (learner.gates(0, HALF) * torch.arange(6)).sum().backward()
    grad = learner.scores.grad
    assert grad is not None
    k = int(learner.number(0, HALF))
    assert float(grad[:k].abs().max()) > 0.0
    assert torch.equal(grad[:k], grad[:1].expand(k, -1))
    assert not grad[k:].any()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4, 0.6, 1.0])
def test_top_k_keeps_the_highest_scores_while_the_budget_falls(share: float) -> None:
    learner = TopK(GIVEN, TopKConfig(stages=3))
    scores = [0.1, 0.7, 0.3, 0.9, 0.5, 0.2]
    with torch.no_grad():
        learner.scores.copy_(torch.tensor(scores, dtype=torch.float64))
    place = Place(100.0 * share, 100.0)
    # Four stretches of equal length: the whole, two thirds of the way above the smallest budget, and so on
    whole = REST + sum(COSTS)
    stage = [stage for stage in range(4) if share >= stage / 4][-1]
    for budget, limit in enumerate(LIMITS):
        now = math.inf if stage == 0 else max(limit, whole - (whole - LIMITS[-1]) * stage / 3)
        kept, total = [], REST
        for group in sorted(GROUPS, key=lambda j: -scores[j]):
            total += COSTS[group]
            if total >= now:
                break
            kept.append(group)
        gates = learner.gates(budget, place)
        assert gates.tolist() == [float(j in kept) for j in GROUPS]
        assert learner.number(budget, place) == len(kept)
        # The gradient is passed straight through to all scores, also those of groups left out.
        (gates * torch.arange(1.0, 7.0)).sum().backward()
        assert learner.scores.grad is not None
        assert learner.scores.grad.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        learner.scores.grad = None
    if share == 0.0:
        assert learner.number(2, place) == 6


def relaxed(scores: Sequence[float], k: int, temperature: float) -> list[float]:
    scores, drawn, total = list(scores), [0.0] * len(scores), [0.0] * len(scores)
    for _ in range(k):
        scores = [score + math.log(max(1.0 - share, 1e-10)) for score, share in zip(scores, drawn, strict=True)]
        drawn = softmax(scores, temperature)
        total = [a + b for a, b in zip(total, drawn, strict=True)]
    return total


def test_relaxed_top_k() -> None:
    scores = [0.1, 0.7, 0.3, 0.9, 0.5, 0.2]
    variable = torch.tensor(scores, dtype=torch.float64, requires_grad=True)
    gates = relaxed_top_k(variable, 3, 0.3)
    assert gates.tolist() == pytest.approx(relaxed(scores, 3, 0.3), rel=1e-12)
    weights = torch.arange(1.0, 7.0, dtype=torch.float64)
    (gates * weights).sum().backward()
    expected = slopes(lambda rows: sum((j + 1) * g for j, g in enumerate(relaxed(rows[0], 3, 0.3))), [scores])
    torch.testing.assert_close(variable.grad, expected[0], rtol=1e-6, atol=1e-8)
    # A low temperature draws the highest scores one after the other.
    assert relaxed_top_k(variable, 3, 0.01).tolist() == pytest.approx([0, 1, 0, 1, 1, 0], abs=1e-4)
    learner = TopK(GIVEN, TopKConfig(relax="soft", temperature=0.3)).double()
    with torch.no_grad():
        learner.scores.copy_(variable)
    end = Place(100.0, 100.0)
    k = int(learner.number(0, end))
    assert learner.gates(0, end).tolist() == pytest.approx(relaxed(scores, k, 0.3), rel=1e-6)


def hard_concrete() -> tuple[L0, list[float]]:
    learner = L0(GroupCosts(REST, COSTS, LIMITS[1:2]), L0Config(warmup=0.8)).double()
    scores = [-2.0, 0.5, 1.0, 3.0, -0.3, -4.0]
    with torch.no_grad():
        learner.scores.copy_(torch.tensor(scores, dtype=torch.float64))
        learner.multipliers.copy_(torch.tensor([0.7, -0.4], dtype=torch.float64))
    return learner, scores


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def test_hard_concrete_gates() -> None:
    learner, scores = hard_concrete()
    draws = torch.rand(6, generator=torch.Generator().manual_seed(7), dtype=torch.float64).tolist()

    def gates_of(alphas: Sequence[float]) -> list[float]:
        found = []
        for alpha, draw in zip(alphas, draws, strict=True):
            u = 1e-6 + (1.0 - 2e-6) * draw
            s = sigmoid((math.log(u) - math.log(1.0 - u) + alpha) / (2.0 / 3.0))
            found.append(min(1.0, max(0.0, s * 1.2 - 0.1)))
        return found

    gates = learner.gates(0, HALF, torch.Generator().manual_seed(7))
    assert gates.tolist() == pytest.approx(gates_of(scores), rel=1e-6)
    assert {0.0, 1.0} & set(gates.tolist())
    gates.sum().backward()
    expected = slopes(lambda rows: sum(gates_of(rows[0])), [scores])[0]
    torch.testing.assert_close(learner.scores.grad, expected, rtol=1e-4, atol=1e-6)
    # In 20,000 draws, a gate is open as often as the probability says of which the constraint is made.
    noise = torch.Generator().manual_seed(0)
    opened = torch.stack([learner.gates(0, HALF, noise) > 0 for _ in range(2000)]).double().mean(dim=0)
    torch.testing.assert_close(opened, learner.open_probability().detach(), rtol=0.0, atol=0.05)


def test_the_constraint_of_l0() -> None:
    learner, scores = hard_concrete()
    opened = [sigmoid(alpha - 2.0 / 3.0 * math.log(0.1 / 1.1)) for alpha in scores]
    sparsity = 1.0 - sum(p * cost for p, cost in zip(opened, COSTS, strict=True)) / sum(COSTS)
    # At half of step 1, of whose first 0.8 the wanted sparsity rises
    wanted = (1.0 - (LIMITS[1] - REST) / sum(COSTS)) * 0.5 / 0.8
    excess = sparsity - wanted
    penalty = learner.penalties(0, HALF)["sparsity"]
    assert float(penalty.detach()) == pytest.approx(0.7 * excess - 0.4 * excess**2, rel=1e-9)
    figures = learner.statistics(HALF)
    assert figures["sparsity"] == pytest.approx(sparsity) and figures["wanted_sparsity"] == pytest.approx(wanted)
    undecided = sum(0.1 < p < 0.9 for p in opened)
    # By falling score: groups 3, 2, 1, whose costs with the rest are 2.5, 4.5 and 7.5
    assert learner.budget_statistics(0, HALF) == {"k": 2.0, "undecided": undecided}
    # Without noise, as in validation, gates are the groups that would be kept.
    assert learner.gates(0, HALF).tolist() == [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]


def test_the_multipliers_of_l0_drive_the_sparsity_to_the_wanted_one() -> None:
    learner = L0(GroupCosts(REST, COSTS, LIMITS[1:2]), L0Config())
    scores, multipliers = learner.parameter_groups()
    assert multipliers.maximize and not scores.maximize
    options = [{"params": list(g.parameters), "maximize": g.maximize} for g in (scores, multipliers)]
    optimizer = torch.optim.AdamW(options, lr=0.1, weight_decay=0.0)
    place = Place(100.0, 100.0)
    before = abs(float(learner.sparsity().detach()) - learner.wanted_sparsity(place))
    for _ in range(300):
        optimizer.zero_grad()
        learner.penalties(0, place)["sparsity"].backward()
        optimizer.step()
    assert before > 0.4
    assert float(learner.sparsity().detach()) == pytest.approx(learner.wanted_sparsity(place), abs=0.05)


def additive(limit_count: int) -> TrueCosts:
    def cost(kept: Iterable[int]) -> float:
        return REST + sum(COSTS[group] for group in kept)

    return [cost] * limit_count


@pytest.mark.parametrize(
    "settings",
    [OrthoSoftmaxConfig(score_init_std=2.0), TopKConfig(), L0Config()],
    ids=lambda settings: settings.kind,
)
def test_rounding_meets_the_budgets(settings: OrthoSoftmaxConfig | TopKConfig | L0Config) -> None:
    limits = LIMITS[1:2] if settings.kind == "l0" else LIMITS
    for seed in range(5):
        torch.manual_seed(seed)
        learner: Learner = build_learner(GroupCosts(REST, COSTS, limits), settings)
        if settings.kind != "orthosoftmax":
            with torch.no_grad():
                learner.get_parameter("scores").normal_()
        kept = [set(rounding.kept) for rounding in learner.rounded(HALF, additive(len(limits)))]
        for larger, smaller in itertools.pairwise(kept):
            assert smaller <= larger
        for groups, limit in zip(kept, limits, strict=True):
            assert limit - max(COSTS) <= REST + sum(COSTS[group] for group in groups) < limit


def test_scores_that_are_not_finite_are_seen() -> None:
    learner, _ = orthosoftmax()
    assert learner.finite()
    with torch.no_grad():
        learner.scores[2, 3] = math.nan
    assert not learner.finite()
