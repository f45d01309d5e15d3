"""The running mean of weights, and batch norms estimated for it."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch import nn

from slimasr.elastic.norm import ElasticBatchNorm
from slimasr.methods.base import StepContext
from slimasr.methods.slimmable import Slimmable
from slimasr.supernet.space import WidthSpace
from slimasr.training.average import RunningAverage, calibrate
from slimasr.training.distributed import World
from tests.training.kit import TinyBatches, make_objective, make_trainer, tiny_config, tiny_tokenizer

CONTEXT = StepContext(step=0, epoch=1, total_steps=1, rng=random.Random(0))


def test_mean_of_snapshots() -> None:
    torch.manual_seed(0)
    model, average, snapshots = nn.Linear(5, 7), RunningAverage(), []
    for _ in range(40):
        with torch.no_grad():
            model.weight.add_(torch.randn(7, 5))
        average.update(model)
        snapshots.append(model.weight.detach().double().clone())
    average.copy_to(model)
    assert torch.allclose(model.weight.double(), torch.stack(snapshots).mean(dim=0), atol=1e-6)


def test_without_snapshots_weights_stay() -> None:
    model = nn.Linear(2, 2)
    before = model.weight.detach().clone()
    RunningAverage().copy_to(model)
    assert torch.equal(model.weight, before)


def test_final_weights_are_the_mean_over_the_averaged_share(tmp_path: Path) -> None:
    """Snapshots after steps 8, 10 and 12 of 12: every second step from 60 % on."""
    taken: dict[int, dict[str, torch.Tensor]] = {}

    class Recording(Slimmable):
        def after_step(self, objective: nn.Module, context: StepContext) -> None:  # type: ignore[override]
            weights = {n: p.detach().double().clone() for n, p in objective.model.named_parameters()}
            taken[context.step + 1] = weights

    config = tiny_config(training={"average_start": 0.6, "average_period": 2})
    method = Recording(WidthSpace((1.0, 0.5)), {"transducer": 1.0})
    make_trainer(config, tmp_path, method).run()
    final = torch.load(tmp_path / "final.pt", weights_only=True)["model"]
    assert set(taken) == set(range(1, 13))
    for name, value in final.items():
        if name in taken[8]:
            expected = torch.stack([taken[step][name] for step in (8, 10, 12)]).mean(dim=0)
            assert torch.allclose(value.double(), expected, atol=1e-6), name


def test_calibrated_statistics_are_plain_means_over_batches() -> None:
    """Against torch: unbiased moments of the norm's own input, utterance by utterance without padding."""
    tokenizer = tiny_tokenizer()
    objective = make_objective(tiny_config(), tokenizer)
    batches = [TinyBatches(tokenizer).make([f"utt-{i}", f"utt-{i + 1}"]) for i in (0, 2, 4)]
    method = Slimmable(WidthSpace((1.0, 0.5)), {"transducer": 1.0})
    objective.train()
    calibrate(objective, method, method.evaluated(), batches, CONTEXT)
    assert objective.training
    norm = next(m for m in objective.model.modules() if isinstance(m, ElasticBatchNorm))
    inputs: list[torch.Tensor] = []

    def keep(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        x, padding = args[:2]
        inputs.append(x[~padding].double())

    hook = norm.register_forward_pre_hook(keep)
    objective.eval()
    with torch.no_grad():
        for batch in batches:
            objective.model.encode(batch.x, batch.x_lens)
    hook.remove()
    stats = norm.stats[str(norm.size)]
    assert torch.allclose(stats.mean.double(), torch.stack([x.mean(dim=0) for x in inputs]).mean(dim=0), atol=1e-5)
    assert torch.allclose(stats.var.double(), torch.stack([x.var(dim=0) for x in inputs]).mean(dim=0), atol=1e-5)


def test_running_average_travels() -> None:
    model, average, copy = nn.Linear(2, 2), RunningAverage(), RunningAverage()
    average.update(model)
    copy.load_state_dict(average.state_dict(), World().device)
    assert copy.count == 1
    assert torch.equal(copy.parameters["weight"], model.weight)
