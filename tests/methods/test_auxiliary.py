"""Frame targets as a loss of any method: which layers, which weights, what stays out of the extracted model."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slimasr.config.loss import AuxiliaryConfig, LossConfig
from slimasr.config.method import TodmConfig
from slimasr.data.batches.batch import Batch
from slimasr.methods.base import Method
from slimasr.methods.separate import Separate
from slimasr.methods.slimmable import Slimmable
from slimasr.methods.todm import Todm
from slimasr.models.frame_head import FrameHead
from slimasr.models.transducer import Transducer
from slimasr.objective.objective import Objective
from slimasr.supernet.space import LayerSpace, WidthSpace
from slimasr.supernet.subnet import Subnet
from tests.methods.kit import aligned, context, gradients, make_objective, run, weights_of
from tests.tiny import MODEL, VOCAB_SIZE, batch

AUXILIARY = AuxiliaryConfig(layers=[1, 3], aux_weight=0.3, hidden_dim=5)
LOSS = LossConfig(transducer="full", auxiliary=AUXILIARY)
MAX = LayerSpace((3,))


DATA = aligned(batch((60, 47, 55, 31), (4, 2, 5, 1)))


def objective(widths: tuple[float, ...] = (1.0,), loss: LossConfig = LOSS) -> Objective:
    return make_objective(loss, widths)


def by_hand(model: Transducer, data: Batch, subnet: Subnet, layer: int) -> Tensor:
    """Summed cross-entropy of one layer, utterance by utterance, by torch's own layers."""
    total = torch.zeros(())
    for row in range(len(data) - 1):
        one = data.select([row])
        hidden = model.encode(one.x, one.x_lens, subnet, taps=(layer,)).taps[layer][0]
        head = model.frame_heads[str(layer)]
        inner = F.linear(hidden, head.inner.weight[:, : hidden.shape[-1]], head.inner.bias)  # type: ignore
        logits = F.linear(inner.relu(), head.outer.weight, head.outer.bias)  # type: ignore
        assert one.targets is not None
        total = total + F.cross_entropy(logits, one.targets[0, : len(hidden)], reduction="sum")
    return total


@pytest.mark.parametrize("subnet", [Subnet(), Subnet(0.5), Subnet(1.0, (0, 1)), Subnet(0.5, (0, 1, 2))])
def test_the_loss_sums_over_the_layers_that_run(subnet: Subnet) -> None:
    target = objective((1.0, 0.5))
    output = target(DATA, subnet, ("transducer", "auxiliary"))
    layers = [layer for layer in (0, 2) if subnet.path is None or layer in subnet.path]
    expected = sum(by_hand(target.model, DATA, subnet, layer) for layer in layers)
    torch.testing.assert_close(output.losses["auxiliary"].sum(), expected, atol=1e-4, rtol=1e-5)
    frames = target.model.encoder.output_lens(DATA.x_lens).float()
    assert output.units["auxiliary"].tolist() == [*frames[:-1].tolist(), 0.0]
    assert output.losses["auxiliary"][-1] == 0


def test_a_separate_model_learns_from_both_losses_without_knowing() -> None:
    target, plain = objective(), LOSS.model_copy(update={"auxiliary": None})
    report = run(Separate(MAX, weights_of(LOSS)), target, DATA)
    together = gradients(target)
    run(Separate(MAX, weights_of(plain)), target, DATA)
    alone = gradients(target)
    frames = float((target.model.encoder.output_lens(DATA.x_lens))[:-1].sum())
    target.zero_grad(set_to_none=True)
    (0.3 * sum(by_hand(target.model, DATA, Subnet(), layer) for layer in (0, 2)) / frames).backward()
    for name, value in gradients(target).items():
        torch.testing.assert_close(together[name], alone[name] + value, atol=1e-6, rtol=1e-4)
    assert report.units["w1/auxiliary"] == frames
    assert not alone["model.frame_heads.0.inner.weight"].any()
    assert together["model.frame_heads.0.inner.weight"].any()


def test_a_subnet_below_all_its_layers_goes_without() -> None:
    loss = LOSS.model_copy(update={"auxiliary": AUXILIARY.model_copy(update={"layers": [3]})})
    output = objective(loss=loss)(DATA, Subnet(1.0, (0, 1)), tuple(weights_of(loss)))
    assert not output.losses["auxiliary"].any()
    assert torch.isfinite(output.total(weights_of(loss)))


@pytest.mark.parametrize("kind", ["slimmable", "todm"])
def test_other_methods_carry_it_too(kind: str) -> None:
    losses = weights_of(LOSS)
    method: Method = Slimmable(WidthSpace((1.0, 0.5)), losses)
    if kind == "todm":
        method = Todm(LayerSpace((3, 2)), losses, TodmConfig(num_random=1), None)
    target = objective((1.0, 0.5))
    report = run(method, target, DATA)
    assert {name.split("/")[1] for name in report.losses} == {"transducer", "auxiliary"}
    assert not report.nonfinite
    if kind == "todm":
        (part,) = [item.rows for item in method.plan(DATA, context())[1:2]]
        assert part is not None
        found = target(DATA.select(part), Subnet(1.0, (0, 1)), ("auxiliary",))
        key = "w1-l2/auxiliary"
        assert report.losses[key] == pytest.approx(found.losses["auxiliary"].sum().item(), rel=1e-5)


def test_batches_keep_their_alignment_when_moved_and_selected() -> None:
    chosen = DATA.to(torch.device("cpu")).select([1, 3])
    assert chosen.ends is not None and DATA.ends is not None
    assert torch.equal(chosen.ends, DATA.ends[[1, 3], :2])
    assert chosen.ends.shape == chosen.y.shape
    assert chosen.targets is not None and DATA.targets is not None
    assert torch.equal(chosen.targets, DATA.targets[[1, 3]])


def test_heads_are_for_training_only() -> None:
    model, bare = objective().model, Transducer(MODEL, VOCAB_SIZE)
    assert model.has_training_heads and not bare.has_training_heads
    assert model.count() == bare.count()
    assert model.extract(Subnet()).state_dict().keys() == bare.state_dict().keys()
    heads = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in bare.parameters())
    assert heads == 2 * (5 * (16 + 1) + VOCAB_SIZE * (5 + 1))


def test_the_papers_heads_have_the_papers_size() -> None:
    """+1.15 M for three layers of 512 channels and 4096 tokens (paper 2, section 6)."""
    assert 3 * sum(p.numel() for p in FrameHead(512, 82, 4097).parameters()) / 1e6 == pytest.approx(1.15, abs=0.01)
