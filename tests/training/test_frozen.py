"""Frozen weights do not move by a bit, the others do, and what is trained is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from slimasr.config.schema import Config
from slimasr.elastic.norm import calibration, frozen_stats
from slimasr.errors import UserError
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.models.base import SpeechModel
from slimasr.training.frozen import chosen_parameters, describe_counts, freeze, parameter_counts
from tests.methods.mask_kit import mask_config
from tests.tiny import features, randomize
from tests.training.kit import TinyBatches, make_objective, make_trainer, tiny_config, tiny_tokenizer

START = ["encoder.frontend.*", "encoder.layers.0.*"]
SHORT: dict[str, Any] = {"num_epochs": 1, "average_start": 0.0, "average_period": 1, "log_every": 1}
DECAYING = {**SHORT, "optimizer": {"lr": 2e-3, "weight_decay": 0.5}}
SSM = {"kind": "mh_ssm", "d_model": 16, "num_layers": 2, "ssm_state": 4, "ffn_dim": 16}
RECIPES: dict[str, tuple[list[str], Config]] = {
    "widths": (START, tiny_config(training=DECAYING)),
    "the whole encoder": (["encoder.*"], tiny_config(training=DECAYING)),
    "scaled adam, one predictor for all passes": (
        ["predictor.*"],
        tiny_config(training={**SHORT, "optimizer": {"kind": "scaled_adam", "lr": 0.02}}),
    ),
    "one encoder for all passes": (
        START,
        tiny_config(
            training=DECAYING,
            model={**tiny_config().model.model_dump(mode="json"), "exits": [1, 2]},
            space={"kind": "layers", "depths": [2, 1], "widths": [1.0]},
            method={"kind": "multi_exit"},
        ),
    ),
    "one kernel for all passes": (
        ["*.ssm.*"],
        tiny_config(
            training=DECAYING,
            model={**tiny_config().model.model_dump(mode="json"), "encoder": SSM},
            space={"kind": "layers", "widths": [1.0], "depths": [2], "units": {"ffn": [16, 8]}},
            method={"kind": "todm"},
        ),
    ),
    "masks": (["encoder.layers.1.*"], mask_config(training={**DECAYING, "average_start": 0.7})),
}


def bits(tensor: torch.Tensor) -> bytes:
    """The bytes of a tensor, in which zeros of both signs differ."""
    return tensor.detach().numpy().tobytes()


def prepared(config: Config, patterns: list[str]) -> tuple[Any, list[str], list[str]]:
    """An objective whose norms have statistics, with frozen parameters and the statistics that these fix."""
    objective = make_objective(config, tiny_tokenizer())
    model = objective.model
    randomize(model)
    for name, buffer in model.named_buffers():
        if name.endswith("batches"):
            buffer.fill_(3)
    with torch.no_grad():
        # The mean of equal zeros has a sign of its own.
        next(p for n, p in model.named_parameters() if n in chosen_parameters(model, patterns)).view(-1)[0] = -0.0
    frozen = chosen_parameters(model, patterns)
    freeze(model, frozen)
    fixed = frozen_stats(model)
    freeze(model, (), fixed)
    return objective, frozen, fixed


@pytest.mark.parametrize("case", RECIPES)
def test_frozen_weights_stay_bit_for_bit(case: str, tmp_path: Path) -> None:
    patterns, config = RECIPES[case]
    objective, frozen, fixed = prepared(config, patterns)
    model: SpeechModel = objective.model
    before = {name: bits(tensor) for name, tensor in model.state_dict().items()}
    trainer = make_trainer(config, tmp_path, batches=TinyBatches(tiny_tokenizer(), num_batches=2), objective=objective)
    trainer.run()
    grouped = {id(p) for group in trainer.stepper.optimizer.param_groups for p in group["params"]}
    parameters = dict(model.named_parameters())
    assert {name for name, p in parameters.items() if id(p) not in grouped} == set(frozen)
    assert all(parameters[name].grad is None for name in frozen)
    assert not set(frozen) & trainer.average.parameters.keys()
    saved = load_checkpoint(tmp_path / "final.pt")["model"]
    statistics = {f"{name}.{part}" for name in fixed for part in ("mean", "var", "batches")}
    moved = {name for name, tensor in saved.items() if bits(tensor) != before[name]}
    assert not moved & {*frozen, *statistics}
    # Norms of widths that no pass runs stay as well, in all runs.
    trained = {name for name in parameters if name not in frozen and ".affine." not in name}
    assert len(moved & trained) > 0.9 * len(trained)
    if case in ("widths", "the whole encoder"):
        assert statistics, "this encoder has batch norms"
        rest = {name for name in saved if ".stats." in name} - statistics
        assert moved >= rest
        assert bool(rest) == (case == "widths")


def test_fixed_statistics_normalise_as_in_evaluation() -> None:
    _, config = RECIPES["the whole encoder"]
    objective, _, fixed = prepared(config, ["encoder.*"])
    model: SpeechModel = objective.model
    for module in model.modules():
        # Only what the mode of the norms changes is compared.
        if hasattr(module, "p"):
            module.p = 0.0
    x, lens = features((61, 40), bins=20)
    expected = model.eval().encode(x, lens).out
    assert fixed
    torch.testing.assert_close(model.train().encode(x, lens).out, expected)
    with calibration(model):
        torch.testing.assert_close(model.encode(x, lens).out, expected)
    # A norm that has never seen a batch has nothing to normalise by, and goes on estimating.
    fresh = make_objective(config, tiny_tokenizer()).model
    freeze(fresh, chosen_parameters(fresh, ["encoder.*"]))
    assert frozen_stats(fresh) == []
    # Scale and shift that are trained need the statistics of the batch.
    partly = make_objective(config, tiny_tokenizer()).model
    freeze(partly, chosen_parameters(partly, ["*.affine.*.bias"]))
    assert frozen_stats(partly) == []


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["encoder.fronted.*"], r"no parameter is named encoder\.fronted\.\*; near names: encoder\.frontend\.\*,"),
        (
            ["predictor.*", "joiner.outputs.bias"],
            r"no parameter is named joiner\.outputs\.bias; near names: joiner\.",
        ),
        (["*"], "all parameters are frozen"),
        (["ctc_head.*"], "ctc_head.* chooses only random weights, such as ctc_head.bias"),
    ],
)
def test_patterns_that_make_no_sense_are_named(patterns: list[str], message: str) -> None:
    model = make_objective(tiny_config(), tiny_tokenizer()).model
    with pytest.raises(UserError, match=f"training.init.freeze: {message}"):
        chosen_parameters(model, patterns, {"ctc_head.weight", "ctc_head.bias"} if "ctc_head.*" in patterns else ())


def test_random_weights_are_trained_although_a_pattern_names_them() -> None:
    model = make_objective(tiny_config(), tiny_tokenizer()).model
    names = [name for name, _ in model.named_parameters() if name.startswith("encoder.")]
    random = [name for name in names if ".affine.8." in name]
    assert chosen_parameters(model, ["encoder.*"], random) == [name for name in names if name not in random]


def test_the_counts_say_what_is_trained() -> None:
    config = tiny_config()
    model = make_objective(config, tiny_tokenizer()).model
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    whole = parameter_counts(model, config.training.optimizer)
    assert sum(whole.values()) == sum(sizes.values())
    assert "frozen" not in whole
    freeze(model, chosen_parameters(model, ["predictor.*"]))
    counts = parameter_counts(model, config.training.optimizer)
    frozen = sum(size for name, size in sizes.items() if name.startswith("predictor."))
    assert counts["frozen"] == frozen > 0
    assert sum(counts.values()) == sum(sizes.values())
    assert describe_counts(counts).endswith(f"{frozen:,} are frozen")
