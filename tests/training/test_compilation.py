"""Compiled feed-forward modules compute what uncompiled ones do."""

from __future__ import annotations

import copy
import random
import shutil
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from slimasr.errors import UserError
from slimasr.methods import build_method
from slimasr.methods.base import StepContext
from slimasr.models.build import build_model
from slimasr.objective.objective import Objective
from slimasr.supernet.build import build_space
from slimasr.training.compilation import compile_feed_forward
from slimasr.training.distributed import World
from slimasr.training.step import Stepper
from tests import tiny
from tests.training.kit import tiny_config

# Without dropout, because compiled modules draw other masks.
MH_SSM = {"kind": "mh_ssm", "d_model": 16, "num_layers": 2, "ffn_dim": 32, "ssm_heads": 2, "dropout": 0.0}
EMFORMER = {"kind": "emformer", "d_model": 16, "num_layers": 2, "num_heads": 2, "ffn_dim": 32, "dropout": 0.0}
CONFORMER = {**tiny_config().model.encoder.model_dump(), "dropout": 0.0}


def make(**sections: Any) -> tuple[Objective, Stepper]:
    """An objective and its stepper, always with the same weights; batches have 20 mel bins."""
    config = tiny_config(**sections)
    space = build_space(config)
    torch.manual_seed(0)
    model = build_model(config.model, config.loss, tiny.VOCAB_SIZE, space.widths)
    objective = Objective(model, config.loss).train()
    return objective, Stepper(objective, build_method(config, space, model), config.training, config.seed, World())


def gradients(objective: Objective, stepper: Stepper) -> list[dict[str, Tensor]]:
    """The gradients of steps on batches of different sizes and lengths."""
    found = []
    for step, (lens, tokens) in enumerate((((60, 47, 31), (4, 2, 0)), ((81, 39), (3, 3)))):
        stepper.gradients([tiny.batch(lens, tokens, seed=step)], StepContext(step, 1, 10, random.Random(0)))
        found.append({n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None})
    return found


def assert_same(ours: list[dict[str, Tensor]], expected: list[dict[str, Tensor]]) -> None:
    assert len(ours) == len(expected)
    for mine, other in zip(ours, expected, strict=True):
        assert mine.keys() == other.keys()
        for name, grad in mine.items():
            torch.testing.assert_close(grad, other[name], rtol=1e-3, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


@pytest.fixture
def graphs() -> Any:
    """Counts the graphs that have been compiled since the test began."""
    torch._dynamo.reset()
    counters.clear()
    yield lambda: counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_compiled_modules_have_the_gradients_of_uncompiled_ones(graphs: Any) -> None:
    model = {"encoder": CONFORMER}
    expected = gradients(*make(model=model))
    compiled = make(model=model, training={"compile": True})
    assert_same(gradients(*compiled), expected)
    # All four modules share the graph of each of the two widths.
    assert graphs() == 2


@pytest.mark.parametrize("encoder", [CONFORMER, MH_SSM, EMFORMER], ids=lambda encoder: encoder["kind"])
def test_there_is_one_graph_per_width_for_all_modules_and_lengths(
    encoder: dict[str, Any], graphs: Any, monkeypatch: Any
) -> None:
    # Graphs are recorded and differentiated as for the compiler, and then run by torch, which takes seconds.
    monkeypatch.setattr("slimasr.training.compilation.check_compiler", lambda: None)
    sections: dict[str, Any] = {"model": {"encoder": encoder}}
    eager, eager_stepper = make(**sections)
    expected = gradients(eager, eager_stepper)
    objective, stepper = make(**sections)
    keys = list(objective.state_dict())
    compile_feed_forward(objective.model.encoder, backend="aot_eager")
    assert_same(gradients(objective, stepper), expected)
    assert graphs() == 2
    assert not counters["graph_break"]
    assert list(objective.state_dict()) == keys

    # Evaluation runs as before, and so does a copy, with its own weights.
    other = copy.deepcopy(objective).eval()
    batch = tiny.batch()
    with torch.no_grad():
        plain = eager.eval().model.encode(batch.x, batch.x_lens).out
        for parameter in objective.parameters():
            parameter.zero_()
        torch.testing.assert_close(other.model.encode(batch.x, batch.x_lens).out, plain)
    assert graphs() == 2


def test_a_missing_compiler_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match="^training.compile: needs a C\\+\\+ compiler, and no-such-compiler is not"):
        make(training={"compile": True})
