"""TODM's step: who runs on what, who teaches whom, and what gradient comes of it."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slimasr.config.loss import DistillationConfig, LossConfig
from slimasr.config.method import PhaseConfig, TodmConfig
from slimasr.config.training import AdamWConfig, ForceAnnealScheduleConfig, ScaledAdamConfig
from slimasr.data.batches.batch import Batch
from slimasr.methods.base import StepContext
from slimasr.methods.todm import Todm, split
from slimasr.models.transducer import Transducer
from slimasr.objective.objective import Objective
from slimasr.objective.passes import PassInputs
from slimasr.supernet.space import LayerSpace
from slimasr.supernet.subnet import Subnet
from tests.methods.kit import context, gradients, make_objective, run, weights_of
from tests.tiny import VOCAB_SIZE, batch

SPACE = LayerSpace((3, 2, 1), (("ffn1", (32, 16)), ("ffn2", (32, 16, 8))))
LENS, TOKENS = (60, 47, 55, 31, 52, 44, 39, 58), (4, 2, 5, 1, 3, 3, 2, 6)
LATTICES = [
    LossConfig(transducer="full"),
    LossConfig(transducer="pruned", prune_range=3, warmup=0.0),
    LossConfig(transducer="pruned", prune_range=5, warmup=0.0, ctc_weight=0.3),
]


def todm(loss: LossConfig, config: TodmConfig | None = None) -> Todm:
    return Todm(SPACE, weights_of(loss), config or TodmConfig(), loss.distillation)


def with_distillation(loss: LossConfig, **options: object) -> LossConfig:
    return loss.model_copy(update={"distillation": DistillationConfig(**options)})  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [16, 10, 4, 3, 2, 1])
def test_parts_are_disjoint_quarters_or_overlap_only_where_utterances_run_out(size: int) -> None:
    parts = split(size, 3, 0.25, random.Random(1))
    assert [len(part) for part in parts] == [max(1, size // 4)] * 3
    assert all(0 <= row < size for part in parts for row in part)
    assert len({row for part in parts for row in part}) == min(size, 3 * max(1, size // 4))


def test_random_subnets_change_from_step_to_step_and_follow_from_the_context_alone() -> None:
    method, data = todm(LATTICES[0]), batch(LENS, TOKENS)
    plans = [method.plan(data, StepContext(s, 1, 9, random.Random(s))) for s in range(20)]
    assert all(p[0].subnet == SPACE.max and p[0].rows is None and p[1].subnet == SPACE.min for p in plans)
    assert len({item.subnet for p in plans for item in p[2:]}) > 20
    assert plans[3] == method.plan(data, StepContext(3, 1, 9, random.Random(3)))


def test_processes_with_batches_of_different_sizes_draw_the_same_subnets() -> None:
    """Also in the plans that follow from the same generator, as with accumulated batches."""
    method, data = todm(LATTICES[0]), batch(LENS, TOKENS)
    drawn = []
    for size in (8, 7, 3, 1):
        rng = random.Random(0)
        plans = [method.plan(data.select(range(size)), StepContext(5, 1, 9, rng)) for _ in range(2)]
        drawn.append([[item.subnet for item in plan] for plan in plans])
    assert drawn[1:] == drawn[:1] * 3


@pytest.mark.parametrize("loss", LATTICES)
def test_without_a_teacher_the_gradient_is_the_sum_of_every_subnets_own_mean(loss: LossConfig) -> None:
    """Each subnet alone on its utterances, cut out of the batch by hand, its loss divided by its own tokens."""
    target, data, method = make_objective(loss), batch(LENS, TOKENS), todm(loss)
    report = run(method, target, data)
    found, expected = gradients(target), {name: torch.zeros_like(p) for name, p in target.named_parameters()}
    for item in method.plan(data, context()):
        part = data if item.rows is None else data.select(item.rows)
        target.zero_grad(set_to_none=True)
        losses = target(part, item.subnet, tuple(weights_of(loss)), 0.05).losses
        total = sum(weight * losses[name].sum() / part.num_tokens for name, weight in weights_of(loss).items())
        total.backward()
        for name, value in gradients(target).items():
            expected[name] += value
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-4)
    assert set(report.losses) == {f"{s}/{n}" for s in ("w1", SPACE.min.id, "random") for n in weights_of(loss)}


@pytest.mark.parametrize("loss", LATTICES)
@pytest.mark.parametrize("lattice", ["teacher", "own", "full"])
def test_divergence_is_the_one_between_both_subnets_run_alone(loss: LossConfig, lattice: str) -> None:
    """All tokens as classes, so that the divergence is torch's own, over the nodes of the lattice in question."""
    loss = with_distillation(loss, num_kd_tokens=VOCAB_SIZE, divergence="kl", lattice=lattice)
    target, data, method = make_objective(loss), batch(LENS, TOKENS), todm(loss, TodmConfig(num_random=0))
    report = run(method, target, data)
    part = data.select(method.plan(data, context())[1].rows or ())
    node_sum, nodes = torch.zeros(()), 0
    with torch.no_grad():
        ranges = band_of(target, data, method.plan(data, context())[1].rows or (), loss, lattice)
        for row in range(len(part)):
            one = part.select([row])
            teacher, student = (log_probs(target.model, one, subnet) for subnet in (SPACE.max, SPACE.min))
            for t in range(teacher.shape[0]):
                kept = range(teacher.shape[1]) if ranges is None else ranges[row][t]
                for u in (u for u in kept if u < teacher.shape[1]):
                    node_sum += F.kl_div(student[t, u], teacher[t, u], log_target=True, reduction="sum")
                    nodes += 1
    key = f"{SPACE.min.id}/divergence"
    assert report.units[key] == nodes
    assert report.losses[key] == pytest.approx(node_sum.item(), rel=1e-4)


@pytest.mark.parametrize("per", ["unit", "token", "utterance"])
def test_the_gradient_of_a_taught_step_is_autograds(per: str) -> None:
    """KL over the teacher's 3 likeliest tokens and the rest, utterance by utterance, by the softmax alone."""
    weight, count = 0.7, 3
    options = {"num_kd_tokens": count, "divergence": "kl", "lattice": "full", "kd_weight": weight}
    loss = with_distillation(LATTICES[0], **options).model_copy(update={"per": per})
    target, data, method = make_objective(loss), batch(LENS, TOKENS), todm(loss, TodmConfig(num_random=0))
    run(method, target, data)
    found, part = gradients(target), data.select(method.plan(data, context())[1].rows or ())
    target.zero_grad(set_to_none=True)
    divergence, nodes = torch.zeros(()), 0
    for row in range(len(part)):
        with torch.no_grad():
            p = log_probs(target.model, part.select([row]), SPACE.max).exp()
        q = log_probs(target.model, part.select([row]), SPACE.min).exp()
        top = p.topk(count).indices
        p, q = p.gather(-1, top), q.gather(-1, top)
        p, q = (torch.cat([x, 1 - x.sum(-1, keepdim=True)], -1) for x in (p, q))
        divergence = divergence + (p * (p / q).log()).sum()
        nodes += p.shape[0] * p.shape[1]
    for one, subnet in ((data, SPACE.max), (part, SPACE.min)):
        losses = target(one, subnet, ("transducer",)).losses["transducer"]
        (losses.sum() / (len(one) if per == "utterance" else one.num_tokens)).backward()
    (weight * divergence / {"unit": nodes, "token": part.num_tokens, "utterance": len(part)}[per]).backward()
    for name, value in gradients(target).items():
        torch.testing.assert_close(found[name], value, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("lattice", ["teacher", "own"])
def test_a_students_transducer_loss_is_on_its_teachers_lattice_where_asked(lattice: str) -> None:
    """Against a plain recursion over the nodes of the teacher's band; on its own lattice it is the untaught loss."""
    loss = with_distillation(LATTICES[1].model_copy(update={"prune_range": 2, "simple_scale": 0.0}), lattice=lattice)
    target, data, method = make_objective(loss), batch(LENS, TOKENS), todm(loss, TodmConfig(num_random=0))
    report, rows = run(method, target, data), method.plan(data, context())[1].rows or ()
    part, bands = data.select(rows), band_of(target, data, rows, loss, "teacher")
    assert bands is not None
    with torch.no_grad():
        untaught = float(target(part, SPACE.min, ("transducer",), 1.0).losses["transducer"].sum())
        banded = sum(
            loss_on_band(log_probs(target.model, part.select([row]), SPACE.min), part.y[row].tolist(), bands[row])
            for row in range(len(part))
        )
    found = report.losses[f"{SPACE.min.id}/transducer"]
    assert found == pytest.approx(banded if lattice == "teacher" else untaught, rel=1e-4)
    assert banded != pytest.approx(untaught, rel=1e-3), "told apart"


def loss_on_band(scores: Tensor, labels: list[int], band: list[list[int]]) -> float:
    """-log of the sum over the paths that stay at the positions ``band[t]`` on frame t."""
    frames, positions = scores.shape[:2]
    alpha = {(0, 0): 0.0}
    for t in range(frames):
        for u in (u for u in band[t] if u < positions):
            ways = [alpha[t, u]] if (t, u) in alpha else []
            if t > 0 and (t - 1, u) in alpha:
                ways.append(alpha[t - 1, u] + float(scores[t - 1, u, 0]))
            if (t, u - 1) in alpha:
                ways.append(alpha[t, u - 1] + float(scores[t, u - 1, labels[u - 1]]))
            if ways:
                alpha[t, u] = float(torch.tensor(ways, dtype=torch.float64).logsumexp(0))
    return -(alpha[frames - 1, positions - 1] + float(scores[-1, -1, 0]))


def log_probs(model: Transducer, one: Batch, subnet: Subnet) -> Tensor:
    """(T, U + 1, V) of a single utterance."""
    encoder = model.encode(one.x, one.x_lens, subnet)
    am = model.project_encoder(encoder.out, subnet)
    lm = model.joiner.project_predictor(model.predictor(one.y))
    return model.joiner(am.unsqueeze(2), lm.unsqueeze(1))[0].log_softmax(dim=-1)


def band_of(
    target: Objective, data: Batch, rows: tuple[int, ...], loss: LossConfig, lattice: str
) -> list[list[list[int]]] | None:
    """Positions per utterance and frame at which the teacher is listened to; None = all."""
    if loss.transducer == "full" or lattice == "full":
        return None
    output = target(data, SPACE.max, ("transducer",), 1.0, PassInputs(teaches=True))
    assert output.teaching is not None and output.teaching.nodes is not None
    ranges = output.teaching.nodes.ranges
    assert ranges is not None
    return [ranges[row].tolist() for row in rows]


@pytest.mark.parametrize("loss", LATTICES)
@pytest.mark.parametrize("options", [{"num_kd_tokens": 2}, {"classes": "target_blank"}, {"include_target_blank": True}])
def test_the_teacher_is_detached_and_students_move(loss: LossConfig, options: dict[str, object]) -> None:
    """The max subnet's gradient is that of its own loss: nothing flows back through what it teaches."""
    loss = with_distillation(loss, **({"num_kd_tokens": 3} | options))
    target, data = make_objective(loss), batch(LENS, TOKENS)
    run(todm(loss), target, data)
    with_teacher = gradients(target)
    run(todm(loss.model_copy(update={"distillation": None})), target, data)
    without = gradients(target)
    kept = SPACE.min.units_of(0, "ffn1")
    only_max = next(name for name in with_teacher if name.endswith("encoder.layers.2.parts.ffn1.inner.weight"))
    shared = only_max.replace("layers.2", "layers.0")
    assert isinstance(kept, int)
    assert not torch.equal(with_teacher[shared][:kept], without[shared][:kept])
    minimum_only = todm(loss, TodmConfig(num_random=0))
    run(minimum_only, target, data)
    taught = gradients(target)
    run(todm(loss.model_copy(update={"distillation": None}), TodmConfig(num_random=0)), target, data)
    torch.testing.assert_close(taught[only_max], gradients(target)[only_max], atol=0.0, rtol=0.0)


def test_one_utterance_teaches_and_learns() -> None:
    loss = with_distillation(LATTICES[1])
    report = run(todm(loss), make_objective(loss), batch((40,), (3,)))
    assert not report.nonfinite and report.units["w1/transducer"] == 3.0


def test_phases_switch_optimizer_schedule_and_weight_at_their_epoch() -> None:
    scaled = ScaledAdamConfig(lr=0.006)
    phases = [PhaseConfig(epoch=4, kd_weight=0.5), PhaseConfig(epoch=6, optimizer=scaled)]
    phases.append(PhaseConfig(epoch=8, kd_weight=0.1, optimizer=AdamWConfig(lr=1e-4)))
    anneal = ForceAnnealScheduleConfig(anneal_epoch=7)
    phases.append(PhaseConfig(epoch=9, schedule=anneal))
    method = todm(with_distillation(LATTICES[1]), TodmConfig(phases=phases))
    assert [method.kd_weight(epoch) for epoch in (1, 3, 4, 7, 8)] == [1.0, 1.0, 0.5, 0.5, 0.1]
    optimizers = [method.phase(epoch).optimizer_id for epoch in (1, 4, 6, 7, 8)]
    assert optimizers == ["from epoch 1", "from epoch 1", "from epoch 6", "from epoch 6", "from epoch 8"]
    assert method.phase(5).optimizer is None and method.phase(6).optimizer == scaled
    assert [method.phase(epoch).schedule for epoch in (1, 8, 9, 10)] == [None, None, anneal, anneal]
    assert method.phase(10).optimizer == AdamWConfig(lr=1e-4) and method.phase(10).optimizer_id == "from epoch 8"
    assert method.plan(batch(), context(9))[1].losses["distillation"] == 0.1
