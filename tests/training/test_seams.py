"""Two throw-away methods, as unlike each other as the papers', train through the real trainer.

They need only what `slimasr.methods.base.Method` offers, so a new method is one module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from slimasr.data.batches.batch import Batch
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.methods.figures import StepReport, loss_figures
from slimasr.methods.phases import ParameterGroup, Phase
from slimasr.models.transducer import Transducer
from slimasr.objective.objective import Objective
from slimasr.objective.passes import PassInputs
from slimasr.supernet.space import WidthSpace
from slimasr.supernet.subnet import Subnet
from tests.training.kit import TinyBatches, make_objective, make_trainer, tiny_config, tiny_tokenizer

LOSSES = {"transducer": 1.0, "ctc": 0.5}
ONE_WIDTH: dict[str, Any] = {"space": {"widths": [1.0]}}


def encoded(model: nn.Module, batch: Batch, *args: Any) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(batch.x, batch.x_lens, *args).out
    return out


# 1. Learnt soft gates on FFN chunks and heads that freeze to index sets.

CHUNK = 8
GATED = {"ffn1": "outer", "ffn2": "outer", "heads": "out_proj"}


class SoftGates(Method):
    """Scales FFN chunks and heads by sigmoids of scores; after half the run keeps the better half of each module."""

    frozen: Tensor

    def __init__(self, model: Transducer) -> None:
        super().__init__(WidthSpace((1.0,)), LOSSES)
        groups = {name: size for name, size in model.encoder.unit_groups().items() if name.split(".")[1] in GATED}
        self.units = {name: 1 if name.endswith("heads") else CHUNK for name in groups}
        generator = torch.Generator().manual_seed(0)
        self.scores = nn.ParameterDict(
            {
                name.replace(".", "_"): nn.Parameter(torch.randn(size // self.units[name], generator=generator))
                for name, size in groups.items()
            }
        )
        self.head_dim = model.config.encoder.head_dim
        self.register_buffer("frozen", torch.tensor(False))

    def gates(self, name: str) -> Tensor:
        scores = self.scores[name.replace(".", "_")]
        if not self.frozen:
            return scores.sigmoid()
        hard = torch.zeros_like(scores)
        hard[scores.topk(len(scores) // 2).indices] = 1.0
        return hard

    def stand_ins(self, objective: Objective) -> dict[str, Tensor]:
        """Gated output weights; every gate covers the columns of its chunk or head."""
        parameters = dict(objective.named_parameters())
        gated = {}
        for name in self.units:
            layer, module = name.split(".")
            key = f"model.encoder.layers.{layer}.parts.{module}.{GATED[module]}.weight"
            repeats = self.head_dim if module == "heads" else CHUNK
            gated[key] = parameters[key] * self.gates(name).repeat_interleave(repeats)
        return gated

    def subnet(self) -> Subnet:
        """The frozen choice as index sets."""
        units = []
        for name, size in self.units.items():
            kept = self.gates(name).nonzero().flatten().tolist()
            units.append((name, tuple(i * size + j for i in kept for j in range(size))))
        return Subnet(1.0, units=tuple(units))

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        return [Pass(self.evaluated()[0].subnet, self.losses)]

    def evaluated(self) -> list[Pass]:
        return [Pass(self.subnet() if self.frozen else self.space.max, {})]

    def substitutes(self, objective: Objective, item: Pass, batch: Batch, context: StepContext) -> dict[str, Tensor]:
        return {} if self.frozen else self.stand_ins(objective)

    def parameter_groups(self) -> list[ParameterGroup]:
        return [] if self.frozen else [ParameterGroup("gates", list(self.scores.values()), lr_scale=20.0)]

    def phase(self, epoch: int) -> Phase:
        return Phase("frozen" if self.frozen else "soft")

    def after_step(self, objective: Objective, context: StepContext) -> dict[str, Tensor]:
        if context.step + 1 == context.total_steps // 2:
            self.frozen.fill_(True)
        return {}


def test_soft_gates_that_freeze_to_index_sets(tmp_path: Path) -> None:
    tokenizer, config = tiny_tokenizer(), tiny_config(**ONE_WIDTH)
    objective = make_objective(config, tokenizer)
    method = SoftGates(objective.model)
    start = {name: score.detach().clone() for name, score in method.scores.items()}
    at_freeze: dict[str, Tensor] = {}
    groups: dict[str, list[str]] = {}

    def watching(items: Iterable[Any], total: int | None = None, label: str = "") -> Iterator[Any]:
        if label == "epoch 2/2":
            at_freeze.update({name: score.detach().clone() for name, score in method.scores.items()})
        for item in items:
            yield item
            groups[label] = [group["name"] for group in trainer.stepper.optimizer.param_groups]

    trainer = make_trainer(config, tmp_path, method, objective=objective)
    trainer.progress = watching
    trainer.run()

    assert groups["epoch 1/2"] == ["decayed", "undecayed", "gates"]
    assert groups["epoch 2/2"] == ["decayed", "undecayed"], "the second phase began with an optimiser of its own"
    for name, score in method.scores.items():
        assert not torch.equal(at_freeze[name], start[name]), f"{name} learnt nothing"
        assert torch.equal(score, at_freeze[name]), f"{name} moved after the freeze"

    model, batch, subnet = objective.model.eval(), TinyBatches(tokenizer).make(["a", "b", "c"]), method.subnet()
    masks = {name.removeprefix("model."): value for name, value in method.stand_ins(objective).items()}
    gated = torch.func.functional_call(model, masks, (batch.x, batch.x_lens)).out
    alone = model.extract(subnet)
    assert torch.allclose(encoded(alone, batch), gated, atol=1e-5)
    assert not torch.allclose(encoded(model, batch), gated, atol=1e-3), "the gates cut something"
    assert sum(p.numel() for p in alone.parameters()) == model.count(subnet).params < model.count().params


class Stop(Exception):
    """The run ends here."""


@pytest.mark.parametrize("stop_at", [4, 6, 9])
def test_a_method_goes_on_exactly_where_it_stopped(tmp_path: Path, stop_at: int) -> None:
    """Scores, their moments and the switch of optimisers survive, before, at and after the freeze."""
    tokenizer, config = tiny_tokenizer(), tiny_config(**ONE_WIDTH, training={"checkpoint_minutes": 1e-9})

    def run(exp: Path, last_step: int | None) -> None:
        objective = make_objective(config, tokenizer)
        trainer = make_trainer(config, exp, SoftGates(objective.model), objective=objective)

        def until(items: Iterable[Any], total: int | None = None, label: str = "") -> Iterator[Any]:
            for item in items:
                yield item
                if trainer.state.step == last_step:
                    raise Stop

        trainer.progress = until
        trainer.run()

    run(tmp_path / "whole", None)
    with pytest.raises(Stop):
        run(tmp_path / "parts", stop_at)
    run(tmp_path / "parts", None)
    whole, parts = (load_checkpoint(tmp_path / name / "checkpoints" / "epoch-002.pt") for name in ("whole", "parts"))
    for part in ("model", "method"):
        for name, value in whole[part].items():
            assert torch.equal(value, parts[part][name]), name


# 2. Two branches that share their first layer's computation.

SHORT, DEEP = Subnet(path=(0, 1)), Subnet(path=(0, 2, 3))


class TwoBranches(Method):
    """Layer 0 once, then layer 1 or layers 2 and 3; the short branch also learns the deep one's last hidden state."""

    def __init__(self) -> None:
        super().__init__(WidthSpace((1.0,)), LOSSES)

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        return [Pass(SHORT, self.losses, taps=(1,)), Pass(DEEP, self.losses, taps=(3,))]

    def evaluated(self) -> list[Pass]:
        return [Pass(SHORT, {}), Pass(DEEP, {})]

    def run(
        self,
        objective: Objective,
        batch: Batch,
        context: StepContext,
        normalizer: float,
        backward: Callable[[Tensor], None],
    ) -> StepReport:
        report, encoder = StepReport(), objective.model.encoder
        shared = encoder.run_layers(encoder.embed(objective.model.normalize(batch.x), batch.x_lens), (0,))
        total, taps = torch.zeros(()), {}
        for item in self.plan(batch, context):
            assert item.subnet.path is not None
            branch = encoder.run_layers(shared, item.subnet.path[1:], item.subnet, item.taps)
            output = objective(batch, item.subnet, tuple(item.losses), context.progress, PassInputs(encoder=branch))
            report.waiting.append(loss_figures(item.name, output, item.losses, batch, {}))
            total = total + self.total(output, item, context)
            taps |= branch.taps
        distance = (taps[1] - taps[3].detach()).square().mean(dim=(1, 2)).sum() / batch.num_tokens
        report.losses["distillation"], report.units["distillation"] = float(distance.detach()), 1.0
        backward((total + distance) * self.normalizer(objective, batch) / normalizer)
        return report


def test_two_branches_with_a_shared_layer(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    encoder = {**tiny_config().model.encoder.model_dump(), "num_layers": 4, "dropout": 0.0}
    model_config = {**tiny_config().model.model_dump(), "encoder": encoder}
    config = tiny_config(model=model_config, training={"spec_augment": None}, **ONE_WIDTH)
    objective = make_objective(config, tokenizer)
    trainer = make_trainer(config, tmp_path, TwoBranches(), objective=objective)
    calls: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda *_, i=i: calls.append(i))
        for i, layer in enumerate(objective.model.encoder.layers)
    ]
    batch = TinyBatches(tokenizer).make(["a", "b", "c"])

    objective.double().train()
    trainer.stepper.gradients([batch], trainer.context())
    assert calls == [0, 1, 2, 3], "one forward of the shared layer serves both branches"
    together = {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}
    expected = gradients_of_separate_passes(objective, batch)
    assert together.keys() == expected.keys()
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, expected[name], rtol=0.0, atol=1e-10, msg=name)

    for hook in hooks:
        hook.remove()
    objective.float()
    trainer.run()
    record = (tmp_path / "train_log.jsonl").read_text()
    assert '"distillation"' in record
    assert f'"{DEEP.id}/wer"' in record
    model = objective.model.eval()
    for branch, layers in ((SHORT, 2), (DEEP, 3)):
        alone = model.extract(branch)
        assert len(alone.encoder.layers) == layers
        assert torch.allclose(encoded(alone, batch), encoded(model, batch, branch), atol=1e-5)


def gradients_of_separate_passes(objective: Objective, batch: Batch) -> dict[str, Tensor]:
    """The same losses, each branch run from the features on, in one ordinary graph."""
    objective.zero_grad()
    short = objective(batch, SHORT, tuple(LOSSES), 0.0, PassInputs(taps=(1,)))
    deep = objective(batch, DEEP, tuple(LOSSES), 0.0, PassInputs(taps=(3,)))
    distance = (short.encoder.taps[1] - deep.encoder.taps[3].detach()).square().mean(dim=(1, 2)).sum()
    total = sum(w * (short.losses[name] + deep.losses[name]).sum() for name, w in LOSSES.items()) + distance
    (total / batch.num_tokens).backward()
    return {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}
