"""Paths of a tree: gradients are those of separate passes in one graph, and graphs are freed as soon as they can be."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from slimasr.config.loss import LossConfig
from slimasr.data.batches.batch import Batch
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.methods.forks import ForkedEncoder, Route, cuts_of
from slimasr.objective.objective import Objective
from slimasr.objective.passes import PassInputs
from slimasr.supernet.space import WidthSpace
from slimasr.supernet.subnet import Subnet
from tests.methods.kit import context, gradients, make_objective, run, weights_of
from tests.tiny import batch, model_config

PLAIN = LossConfig(transducer="full", ctc_weight=0.3)
DATA = batch((60, 47, 55), (4, 2, 3))
EMPTY = PassInputs()
SHARED = ((0, 1, 2), (0, 1, 3), (0, 4))
"""Two forks, one above the other: after layer 0 and after layer 1."""
UNSHARED = ((0, 1, 2), (3, 4), (5,))


class Paths(Method):
    """A pass for every path, all of which also hand on the hidden states of their first layer."""

    def __init__(self, paths: Sequence[tuple[int, ...]]) -> None:
        super().__init__(WidthSpace((1.0,)), weights_of(PLAIN), share_predictor=True, share_encoder=True)
        self.paths = paths

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        return [Pass(Subnet(1.0, path), self.losses, taps=path[:1]) for path in self.paths]


def deep(layers: int) -> Objective:
    """An encoder of this many layers, in double precision."""
    return make_objective(PLAIN, model=model_config(num_layers=layers)).double()


@pytest.mark.parametrize("paths", [SHARED, UNSHARED, ((0, 1), (0, 1, 2), (0, 1))])
def test_gradients_are_those_of_all_passes_in_one_graph(paths: Sequence[tuple[int, ...]]) -> None:
    target, data = deep(6), replace(DATA, x=DATA.x.double())
    report = run(Paths(paths), target, data)
    found = gradients(target)
    target.zero_grad(set_to_none=True)
    weights = weights_of(PLAIN)
    predictor_out = target.model.predictor(data.y)
    total: Tensor = torch.zeros((), dtype=torch.float64)
    for path in paths:
        encoder = target.model.encode(data.x, data.x_lens, Subnet(1.0, path))
        inputs = replace(EMPTY, encoder=encoder, predictor_out=predictor_out)
        total = total + target(data, Subnet(1.0, path), tuple(weights), context().progress, inputs).total(weights)
    total.backward()
    for name, value in gradients(target).items():
        torch.testing.assert_close(found[name], value, atol=1e-12, rtol=1e-9, msg=name)
    assert {key.split("/")[0] for key in report.losses} == {Subnet(1.0, path).id for path in paths}


def test_what_paths_share_runs_once_and_in_the_order_of_the_passes() -> None:
    target, calls = deep(5), []
    for index, layer in enumerate(target.model.encoder.layers):
        layer.register_forward_hook(lambda *_, index=index: calls.append(index))
    run(Paths(SHARED), target, replace(DATA, x=DATA.x.double()))
    assert calls == [0, 1, 2, 3, 4]


class Held:
    """A tensor that a graph holds for its backward pass."""

    def __init__(self, tensor: Tensor, layer: int) -> None:
        self.tensor = tensor
        self.layer = layer


def test_the_graph_of_a_branch_is_freed_before_the_next_one_runs() -> None:
    target, held, running = deep(5), weakref.WeakSet[Held](), [-1]

    def pack(tensor: Tensor) -> Held:
        kept = Held(tensor, running[-1])
        held.add(kept)
        return kept

    for index, layer in enumerate(target.model.encoder.layers):
        layer.register_forward_pre_hook(lambda *_, index=index: running.append(index))
    found = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        data = replace(DATA, x=DATA.x.double())
        forked = ForkedEncoder(target.model, data, Subnet(), [Route(path) for path in SHARED])
        for number in range(3):
            forked.output_of(number, None).out.sum().backward()
            forked.finish(number, torch.autograd.backward)
            found.append({kept.layer for kept in held})
            # Of the next branch, only its own layers run again.
            running.append(-1)
    # -1 is the front end. Each fork goes when its last branch is done.
    assert found == [{-1, 0, 1}, {-1, 0}, set()]


def test_paths_are_cut_at_forks_ends_and_taps() -> None:
    assert cuts_of([Route(path) for path in SHARED]) == [
        [(0,), (0, 1), (0, 1, 2)],
        [(0,), (0, 1), (0, 1, 3)],
        [(0,), (0, 4)],
    ]
    assert cuts_of([Route((0, 1)), Route((2,))]) == [[(), (0, 1)], [(), (2,)]]
    assert cuts_of([Route((0, 1, 2), frozenset({1}))]) == [[(0, 1), (0, 1, 2)]]
