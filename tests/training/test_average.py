"""The running mean of weights, and batch norms estimated for it."""

from __future__ import annotations

import copy
import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.elastic.norm import ElasticBatchNorm, RunningStats, calibration
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.methods import METHODS, resolve_config
from slimasr.methods.base import Pass, StepContext
from slimasr.methods.slimmable import Slimmable
from slimasr.objective.objective import Objective, loss_weights
from slimasr.supernet.build import build_space
from slimasr.supernet.space import WidthSpace
from slimasr.supernet.subnet import Subnet
from slimasr.training.average import RunningAverage, calibrate
from slimasr.training.distributed import World
from tests.training.kit import TinyBatches, assert_equal, make_objective, make_trainer, tiny_config, tiny_tokenizer

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
        def after_step(self, objective: Objective, context: StepContext) -> dict[str, Tensor]:
            weights = {n: p.detach().double().clone() for n, p in objective.model.named_parameters()}
            taken[context.step + 1] = weights
            return {}

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
    calibrate(objective, method, lambda: batches, CONTEXT)
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


def test_without_batch_norms_no_batch_is_read() -> None:
    def no_batches() -> list[Batch]:
        raise AssertionError("layer norms have no statistics")

    recipe = tiny_config()
    method = Slimmable(WidthSpace((1.0, 0.5)), {"transducer": 1.0})
    for norm, fails in (("layer", False), ("batch", True)):
        encoder = recipe.model.encoder.model_copy(update={"conv_norm": norm})
        changed = recipe.model_copy(update={"model": recipe.model.model_copy(update={"encoder": encoder})})
        objective = make_objective(changed, tiny_tokenizer())
        with pytest.raises(AssertionError, match="no statistics") if fails else nullcontext():
            calibrate(objective, method, no_batches, CONTEXT)


def test_running_average_travels() -> None:
    model, average, copy = nn.Linear(2, 2), RunningAverage(), RunningAverage()
    average.update(model)
    copy.load_state_dict(average.state_dict(), World().device)
    assert copy.count == 1
    assert torch.equal(copy.parameters["weight"], model.weight)


FOUR_WIDTHS = {"kind": "layers", "depths": [2, 1], "widths": [0.25, 0.5, 0.75, 1.0]}
RECIPES: dict[str, dict[str, Any]] = {
    "multi_exit": {"space": {**FOUR_WIDTHS, "widths": [1.0]}, "model": {"exits": [1, 2]}},
    "separate": {"method": {"subnet": '{"width": 0.75, "path": [0]}'}},
    "mask_learning": {"space": {"kind": "learnt"}, "method": {"budgets": [0.9]}},
    "pathways": {
        "space": {"kind": "pathways", "languages": ["fr"]},
        "method": {"levels": [0.5], "prune_interval": 0.4},
        "training": {"average_start": 0.8},
    },
    "collaborative": {"space": {"kind": "branches"}, "encoder": {"tree": {"shared": 0, "depths": [2, 1]}}},
}
"""What methods need beside a Conformer with four widths and two depths."""


def recipe(kind: str, norm: str = "per_width") -> Config:
    """A recipe of one method, whose sizes can be divided by four."""
    sections = RECIPES.get(kind, {})
    encoder = {**tiny_config().model.encoder.model_dump(), "num_heads": 4, "head_dim": 4, "norm": norm}
    encoder |= sections.get("encoder", {})
    model = {**tiny_config().model.model_dump(), "encoder": encoder, **sections.get("model", {})}
    method = {"kind": kind, **sections.get("method", {})}
    config = tiny_config(
        training={"num_epochs": 1, **sections.get("training", {})},
        model=model,
        space=sections.get("space", FOUR_WIDTHS),
        method=method,
    )
    return resolve_config(config)[0]


def statistics(model: nn.Module) -> dict[str, RunningStats]:
    return {name: module for name, module in model.named_modules() if isinstance(module, RunningStats)}


def assert_all_estimated(model: nn.Module) -> None:
    for name, stats in statistics(model).items():
        assert stats.batches > 0, name
        assert not ((stats.mean == 0) & (stats.var == 1)).any(), name


class OneSubnet(Slimmable):
    """Trains all subnets, but validates one alone, which none of the other widths shares statistics with."""

    def evaluated(self) -> list[Pass]:
        return [Pass(Subnet(0.5), {})]


@pytest.mark.parametrize("kind", METHODS)
def test_every_width_has_statistics_whatever_the_method(tmp_path: Path, kind: str) -> None:
    config = recipe(kind)
    target = make_objective(config, tiny_tokenizer())
    make_trainer(config, tmp_path, objective=target).run()
    # Weights of pathways are stored packed.
    final = load_checkpoint(tmp_path / "final.pt")["model"]
    counts = {name: int(value) for name, value in final.items() if name.endswith(".batches")}
    assert len(counts) == len(build_space(config).widths) * config.model.encoder.total_layers
    assert min(counts.values()) > 0
    target.model.load_state_dict(final)
    assert_all_estimated(target.model)


@pytest.mark.parametrize("norm", ["per_width", "recalibrated", "shared"])
def test_a_method_that_validates_one_subnet_leaves_none_without_statistics(tmp_path: Path, norm: str) -> None:
    config = recipe("slimmable", norm)
    target = make_objective(config, tiny_tokenizer())
    method = OneSubnet(build_space(config), loss_weights(config))
    make_trainer(config, tmp_path, method, objective=target).run()
    target.model.load_state_dict(torch.load(tmp_path / "final.pt", weights_only=True)["model"])
    assert_all_estimated(target.model)


def made_up_batches() -> list[Batch]:
    tokenizer = tiny_tokenizer()
    return [TinyBatches(tokenizer).make([f"utt-{i}", f"utt-{i + 1}"]) for i in (0, 2, 4)]


def estimated_over(target: Objective, subnets: list[Subnet], batches: list[Batch]) -> dict[str, RunningStats]:
    """Statistics over these subnets alone, by the calibration of `slimasr.elastic.norm`."""
    with calibration(target.model):
        for batch in batches:
            for subnet in subnets:
                target.model.encode(batch.x, batch.x_lens, subnet)
    return copy.deepcopy(statistics(target.model))


def test_statistics_of_calibrated_subnets_are_not_touched_by_the_others() -> None:
    """Each width as if it were alone: that of the method's subnet to the bit, the others over their largest subnet."""
    config, batches = recipe("slimmable"), made_up_batches()
    target = make_objective(config, tiny_tokenizer())
    expected = {width: estimated_over(target, [Subnet(width)], batches) for width in config.space.widths}
    method = OneSubnet(build_space(config), loss_weights(config))
    calibrate(target, method, lambda: batches, CONTEXT)
    for name, found in statistics(target.model).items():
        width = int(name.rsplit(".", 1)[1]) / 16
        assert_equal(dict(found.named_buffers()), dict(expected[width][name].named_buffers()), name)


@pytest.mark.parametrize("norm", ["per_width", "shared"])
def test_channels_that_no_calibrated_subnet_runs_get_statistics_too(norm: str) -> None:
    config, batches = recipe("slimmable", norm), made_up_batches()
    half = Subnet(1.0, (0,), (("0.conv", 8),))

    class Half(Slimmable):
        def calibrated(self) -> list[Subnet]:
            return [half]

    target = make_objective(config, tiny_tokenizer())
    own = estimated_over(target, [half], batches)
    calibrate(target, Half(WidthSpace((1.0,)), {}), lambda: batches, CONTEXT)
    name = "encoder.layers.0.parts.conv.norm.stats.16"
    found = statistics(target.model)
    assert torch.equal(found[name].mean[:8], own[name].mean[:8])
    assert torch.equal(found[name].var[:8], own[name].var[:8])
    for layer in (0, 1):
        stats = found[name.replace("layers.0", f"layers.{layer}")]
        assert not ((stats.mean == 0) & (stats.var == 1)).any()
