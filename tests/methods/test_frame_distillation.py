"""One classifier at the output of all subnets: cross-entropy for each, and the largest teaches the others (paper 3)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slimasr.config.loss import AuxiliaryConfig, LossConfig
from slimasr.data.batches.batch import Batch
from slimasr.losses.frame_targets import IGNORED
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.models.transducer import Transducer
from slimasr.objective.passes import PassInputs
from slimasr.supernet.space import LayerSpace
from slimasr.supernet.subnet import Subnet
from tests.methods.kit import aligned, gradients, make_objective, run, weights_of
from tests.tiny import MODEL, VOCAB_SIZE, batch

OUTPUT = AuxiliaryConfig(layers=[], output=True, hidden_dim=5, aux_weight=0.3, kl_weight=0.7)
LOSS = LossConfig(transducer="full", auxiliary=OUTPUT, alignments=Path("alignments"), per="token", backend="torch")
DATA = aligned(batch((60, 47, 55, 31), (4, 2, 5, 1)))
MAX, SHORT = Subnet(), Subnet(1.0, (0, 1))


class Taught(Method):
    """The max subnet teaches a smaller one, on the whole batch or on some of its utterances."""

    def __init__(self, rows: tuple[int, ...] | None = None, loss: LossConfig = LOSS) -> None:
        super().__init__(LayerSpace((3, 2)), weights_of(loss), share_predictor=True)
        self.rows = rows
        assert loss.auxiliary is not None
        self.weight = loss.auxiliary.teaching_weight

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        taught = self.losses | {"frame_distillation": self.weight}
        return [Pass(MAX, self.losses), Pass(SHORT, taught, self.rows, teacher=0)]


def output_log_probs(model: Transducer, one: Batch, subnet: Subnet, name: str = "output") -> Tensor:
    """(T, S) of one utterance, by torch's own layers."""
    head = model.frame_heads[name]
    hidden = model.encode(one.x, one.x_lens, subnet).out[0]
    inner = F.linear(hidden, head.inner.weight[:, : hidden.shape[1]], head.inner.bias)  # type: ignore
    return F.linear(inner.relu(), head.outer.weight, head.outer.bias).log_softmax(dim=1)  # type: ignore


def cross_entropy(model: Transducer, data: Batch, subnet: Subnet, name: str = "output") -> Tensor:
    """Summed over the frames with a target, one after the other."""
    total = torch.zeros(())
    for row in range(len(data)):
        one = data.select([row])
        assert one.targets is not None
        log_probs = output_log_probs(model, one, subnet, name)
        for frame, target in zip(log_probs, one.targets[0].tolist(), strict=False):
            total = total - frame[target] if target != IGNORED else total
    return total


def divergence(model: Transducer, data: Batch) -> Tensor:
    """KL(max || short), summed over all frames, one after the other."""
    total = torch.zeros(())
    for row in range(len(data)):
        one = data.select([row])
        with torch.no_grad():
            teacher = output_log_probs(model, one, MAX)
        for p, q in zip(teacher, output_log_probs(model, one, SHORT), strict=True):
            total = total + (p.exp() * (p - q)).sum()
    return total


@pytest.mark.parametrize("rows", [None, (1, 3)])
@pytest.mark.parametrize("per", ["unit", "token", "utterance"])
def test_a_taught_step_is_the_sum_of_losses_by_hand(per: str, rows: tuple[int, ...] | None) -> None:
    loss = LOSS.model_copy(update={"per": per})
    target = make_objective(loss)
    report = run(Taught(rows, loss), target, DATA)
    found = gradients(target)
    target.zero_grad(set_to_none=True)
    part = DATA if rows is None else DATA.select(rows)
    for data, subnet in ((DATA, MAX), (part, SHORT)):
        assert data.targets is not None
        lens = target.model.encoder.output_lens(data.x_lens)
        by_frame = {"unit": int((data.targets != IGNORED).sum()), "token": data.num_tokens, "utterance": len(data)}
        whole = target(data, subnet, ("transducer",)).losses["transducer"].sum()
        total = whole / (len(data) if per == "utterance" else data.num_tokens)
        total = total + 0.3 * cross_entropy(target.model, data, subnet) / by_frame[per]
        if subnet == SHORT:
            taught = divergence(target.model, data)
            total = total + 0.7 * taught / (int(lens.sum()) if per == "unit" else by_frame[per])
            key = f"{SHORT.id}/frame_distillation"
            assert report.losses[key] == pytest.approx(taught.item(), rel=1e-4)
            assert report.units[key] == (int(lens.sum()) if per == "unit" else by_frame[per])
        total.backward()
    for name, value in gradients(target).items():
        torch.testing.assert_close(found[name], value, atol=2e-6, rtol=1e-4)
    assert found["model.frame_heads.output.inner.weight"].any()


def test_the_teacher_gets_no_gradient_from_its_students() -> None:
    target = make_objective(LOSS)
    teacher = target(DATA, MAX, ("transducer",), inputs=PassInputs(teaches=True))
    assert teacher.teaching is not None and teacher.teaching.frames is not None
    assert teacher.teaching.nodes is None
    assert not teacher.teaching.frames.requires_grad
    taught = target(DATA, SHORT, ("frame_distillation",), inputs=PassInputs(teacher=teacher.detach()))
    taught.losses["frame_distillation"].sum().backward()
    found = gradients(target)
    assert found["model.frame_heads.output.outer.weight"].any()
    # Of the encoder, only what the student runs moves: the last layer belongs to the teacher alone.
    assert not any(value.any() for name, value in found.items() if ".layers.2." in name)
    assert target(DATA, MAX, ("transducer",)).teaching is None


@pytest.mark.parametrize(("kl_weight", "weight"), [(None, 0.3), (0.0, 0.0), (0.7, 0.7)])
def test_the_weight_of_the_divergence(kl_weight: float | None, weight: float) -> None:
    auxiliary = OUTPUT.model_copy(update={"kl_weight": kl_weight})
    assert auxiliary.teaching_weight == weight
    target = make_objective(LOSS.model_copy(update={"auxiliary": auxiliary}))
    teaching = target(DATA, MAX, ("transducer",), inputs=PassInputs(teaches=True)).teaching
    assert teaching is not None
    assert (teaching.frames is None) == (weight == 0)
    assert AuxiliaryConfig(layers=[1]).teaching_weight == 0


def test_padding_and_neighbours_change_nothing() -> None:
    """The losses of an utterance are those that it has alone, and so is what it is taught."""
    target = make_objective(LOSS)
    names = ("auxiliary", "frame_distillation")

    def losses(data: Batch) -> dict[str, Tensor]:
        teacher = target(data, MAX, ("auxiliary",), inputs=PassInputs(teaches=True)).detach()
        return target(data, SHORT, names, inputs=PassInputs(teacher=teacher)).losses

    together = losses(DATA)
    for row in range(len(DATA)):
        alone = losses(DATA.select([row]))
        for name in names:
            torch.testing.assert_close(together[name][row], alone[name][0], atol=1e-4, rtol=1e-5)
    # The last utterance has no targets, but it has posteriors.
    assert together["auxiliary"][-1] == 0 < together["frame_distillation"][-1]


@pytest.mark.parametrize("shared", [False, True])
def test_heads_at_layers_and_at_the_output(shared: bool) -> None:
    auxiliary = OUTPUT.model_copy(update={"layers": [1, 3], "shared": shared})
    target = make_objective(LOSS.model_copy(update={"auxiliary": auxiliary}))
    model = target.model
    assert set(model.frame_heads) == ({"shared"} if shared else {"0", "2", "output"})
    found = target(DATA, MAX, ("auxiliary",)).losses["auxiliary"].sum()
    names = ("shared", "shared", "shared") if shared else ("0", "2", "output")
    places = (Subnet(1.0, (0,)), MAX, MAX)
    expected = sum(cross_entropy(model, DATA, place, name) for place, name in zip(places, names, strict=True))
    # A Conformer's output is the hidden state of its last layer.
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-5)


def test_layers_are_counted_along_the_path() -> None:
    """A subnet without layer 1 has layer 2 in the second place, where it is classified."""
    auxiliary = AuxiliaryConfig(layers=[2, 3], hidden_dim=5)
    target = make_objective(LOSS.model_copy(update={"auxiliary": auxiliary}))
    branch = Subnet(1.0, (0, 2))
    assert target.taps_of(branch, ("auxiliary",)) == (2,)
    assert target.taps_of(MAX, ("auxiliary",)) == (1, 2)
    assert target.taps_of(branch, ("transducer",)) == ()
    found = target(DATA, branch, ("auxiliary",)).losses["auxiliary"].sum()
    torch.testing.assert_close(found, cross_entropy(target.model, DATA, branch, "1"), atol=1e-3, rtol=1e-5)


def test_states_are_classes_of_their_own() -> None:
    auxiliary = OUTPUT.model_copy(update={"targets": "states", "num_states": 31})
    target = make_objective(LOSS.model_copy(update={"auxiliary": auxiliary}))
    bare = Transducer(MODEL, VOCAB_SIZE)
    heads = sum(p.numel() for p in target.model.parameters()) - sum(p.numel() for p in bare.parameters())
    assert heads == 5 * (16 + 1) + 31 * (5 + 1)
    assert DATA.targets is not None
    states = torch.where(DATA.targets == IGNORED, IGNORED, DATA.targets + 22)
    data = replace(DATA, targets=states)
    losses = target(data, MAX, ("auxiliary",)).losses["auxiliary"]
    torch.testing.assert_close(losses.sum(), cross_entropy(target.model, data, MAX), atol=1e-3, rtol=1e-5)
    assert target.model.extract(MAX).state_dict().keys() == bare.state_dict().keys()
