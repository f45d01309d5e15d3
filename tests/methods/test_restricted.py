"""The restricted loss as the loss of any method, against a recursion in plain loops over all nodes in float64."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from slimasr.config.loss import AuxiliaryConfig, DistillationConfig, LossConfig, standalone_loss
from slimasr.config.method import TodmConfig
from slimasr.data.batches.batch import Batch
from slimasr.losses import transducer
from slimasr.measure.quality import loss_objective
from slimasr.methods.base import Method
from slimasr.methods.separate import Separate
from slimasr.methods.slimmable import Slimmable
from slimasr.methods.todm import Todm
from slimasr.models.transducer import Transducer
from slimasr.objective.objective import Objective
from slimasr.supernet.space import LayerSpace, WidthSpace
from slimasr.supernet.subnet import Subnet
from tests.methods.kit import aligned, context, gradients, make_objective, run, weights_of
from tests.tiny import MODEL, VOCAB_SIZE, batch
from tests.training.kit import TinyBatches, make_trainer, tiny_config, tiny_tokenizer

LOSS = LossConfig(
    transducer="restricted", left_buffer=1, right_buffer=2, alignments=Path("alignments"), backend="torch"
)
FULL = standalone_loss(LOSS)
DATA = aligned(batch((60, 47, 55, 31), (4, 2, 5, 1)))
"""Utterances of 14, 11, 13 and 7 encoder frames, or fewer; the last one has no alignment."""

MAX = Subnet()


def by_hand(model: Transducer, one: Batch, subnet: Subnet, rnnt_type: str = "regular") -> Tensor:
    """The loss of one utterance: -log of alpha at the end (paper 3, section 3.1), node after node."""
    encoded = model.encode(one.x, one.x_lens, subnet)
    am = model.project_encoder(encoded.out, subnet)
    lm = model.joiner.project_predictor(model.predictor(one.y))
    log_probs = model.joiner(am.unsqueeze(2), lm.unsqueeze(1))[0].double().log_softmax(dim=-1)
    frames, labels = log_probs.shape[0], one.y[0].tolist()
    assert one.ends is not None
    ends = one.ends[0].tolist()
    windows = [range(frames)] * len(labels)
    if ends and min(ends) >= 0:
        windows = [range(max(0, end - LOSS.left_buffer), min(frames - 1, end + LOSS.right_buffer) + 1) for end in ends]
    nothing = log_probs.new_tensor(-math.inf)
    alpha = {(0, 0): log_probs.new_zeros(())}
    for t in range(frames):
        for u in range(len(labels) + 1):
            if (t, u) != (0, 0):
                blank = alpha[t - 1, u] + log_probs[t - 1, u, 0] if t > 0 else nothing
                # In a modified lattice, a symbol takes a frame, and frame t means that t frames are over.
                before = (t, u - 1) if rnnt_type == "regular" else (t - 1, u - 1)
                emits = u > 0 and before in alpha and before[0] in windows[u - 1]
                symbol = alpha[before] + log_probs[before[0], u - 1, labels[u - 1]] if emits else nothing
                alpha[t, u] = torch.logaddexp(blank, symbol) if max(blank, symbol) > -math.inf else nothing
    last = alpha[frames - 1, len(labels)] + log_probs[frames - 1, len(labels), 0]
    if rnnt_type == "modified" and labels and frames - 1 in windows[-1]:
        before_last = alpha[frames - 1, len(labels) - 1] + log_probs[frames - 1, len(labels) - 1, labels[-1]]
        last = torch.logaddexp(last, before_last)
    return -last


def losses_by_hand(model: Transducer, data: Batch, subnet: Subnet, rnnt_type: str = "regular") -> Tensor:
    return torch.stack([by_hand(model, data.select([row]), subnet, rnnt_type) for row in range(len(data))])


@pytest.mark.parametrize("rnnt_type", ["regular", "modified"])
@pytest.mark.parametrize("subnet", [MAX, Subnet(0.5)], ids=["max", "half"])
def test_losses_and_gradients_are_those_of_a_recursion_in_loops(subnet: Subnet, rnnt_type: str) -> None:
    target = make_objective(LOSS.model_copy(update={"rnnt_type": rnnt_type}), (1.0, 0.5))
    losses = target(DATA, subnet, ("transducer",)).losses["transducer"]
    expected = losses_by_hand(target.model, DATA, subnet, rnnt_type)
    torch.testing.assert_close(losses.double(), expected, atol=1e-4, rtol=1e-5)
    full = make_objective(FULL.model_copy(update={"rnnt_type": rnnt_type}), (1.0, 0.5))
    whole = full(DATA, subnet, ("transducer",)).losses["transducer"]
    assert (losses > whole)[:-1].all(), "paths outside of the windows are left out"
    torch.testing.assert_close(losses[-1], whole[-1])
    losses.sum().backward()
    found = gradients(target)
    target.zero_grad(set_to_none=True)
    expected.sum().backward()
    for name, value in gradients(target).items():
        torch.testing.assert_close(found[name], value, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "ends", [[[-1] * 5] * 4, [[3, 4, 9, 9, -1], [2, 8, -1, -1, -1], [1, 1, 1, 30, 30], [0] + [-1] * 4]]
)
def test_a_batch_of_one_kind_alone(ends: list[list[int]]) -> None:
    """All utterances without alignment have the full loss; with one, none has, and ends may lie behind the audio."""
    data = replace(DATA, ends=torch.tensor(ends))
    target, full = make_objective(LOSS), make_objective(FULL)
    losses = target(data, MAX, ("transducer",)).losses["transducer"]
    whole = full(data, MAX, ("transducer",)).losses["transducer"]
    known = ends[0][0] >= 0
    assert torch.equal(losses, whole) != known
    restriction = target.restriction(data)
    assert restriction is not None
    assert restriction.unrestricted == (() if known else (0, 1, 2, 3))
    assert full.restriction(data) is None


def test_utterances_without_a_path_in_their_windows_are_counted_and_never_infinite() -> None:
    """In a modified lattice, five tokens that end together have too few frames."""
    ends = torch.tensor([[2, 2, 2, 2, -1], [1, 7, -1, -1, -1], [8, 8, 8, 8, 8], [-1] * 5])
    data = replace(DATA, ends=ends)
    loss = LOSS.model_copy(update={"rnnt_type": "modified", "left_buffer": 0, "right_buffer": 2})
    target = make_objective(loss)
    report = run(Separate(LayerSpace((3,)), weights_of(loss)), target, data)
    assert report.unrestricted == 3
    assert not report.nonfinite
    whole = make_objective(FULL.model_copy(update={"rnnt_type": "modified"}))
    losses = target(data, MAX, ("transducer",)).losses["transducer"]
    expected = whole(data, MAX, ("transducer",)).losses["transducer"]
    torch.testing.assert_close(losses[[0, 2, 3]], expected[[0, 2, 3]])
    assert losses[1] > expected[1]


def test_no_tokens_and_a_single_frame() -> None:
    data = aligned(batch((47, 9, 12), (0, 0, 1)))
    target = make_objective(LOSS)
    losses = target(data, MAX, ("transducer",)).losses["transducer"]
    torch.testing.assert_close(losses.double(), losses_by_hand(target.model, data, MAX), atol=1e-4, rtol=1e-5)
    empty = replace(data.select([0, 1]))
    assert empty.y.shape == (2, 0)
    found = target(empty, MAX, ("transducer",)).losses["transducer"]
    torch.testing.assert_close(found, losses[:2], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("kind", ["slimmable", "todm"])
def test_methods_open_the_windows_of_a_batch_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = weights_of(LOSS)
    method: Method = Slimmable(WidthSpace((1.0, 0.5)), losses)
    if kind == "todm":
        method = Todm(LayerSpace((3, 2)), losses, TodmConfig(num_random=0), None)
    target = make_objective(LOSS, (1.0, 0.5))
    opened = []
    open_windows = transducer.emission_windows

    def counted(ends: Tensor, *args: object) -> transducer.EmissionWindows:
        opened.append(len(ends))
        return open_windows(ends, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(transducer, "emission_windows", counted)
    report = run(method, target, DATA)
    plan = method.plan(DATA, context())
    # A pass over a part of the batch has windows of its own.
    parts = [len(item.rows) for item in plan if item.rows is not None]
    assert opened == [len(DATA), *parts]
    assert report.unrestricted == 1
    for item in plan:
        part = DATA if item.rows is None else DATA.select(item.rows)
        expected = losses_by_hand(target.model, part, item.subnet).sum().item()
        assert report.losses[f"{item.name}/transducer"] == pytest.approx(expected, rel=1e-5)


def test_outside_training_the_full_lattice_takes_its_place() -> None:
    """Search and stand-alone models have batches without alignments."""
    bare = replace(DATA, ends=None, targets=None)
    auxiliary = AuxiliaryConfig(layers=[], output=True)
    for loss in (LOSS, LOSS.model_copy(update={"auxiliary": auxiliary})):
        model = make_objective(loss).model
        found = loss_objective(model, loss)(bare, MAX, ("transducer",)).losses["transducer"]
        expected = Objective(model, FULL)(bare, MAX, ("transducer",)).losses["transducer"]
        assert torch.equal(found, expected)
    pruned = LossConfig(distillation=DistillationConfig(), auxiliary=auxiliary, alignments=Path("a"))
    assert standalone_loss(pruned) == LossConfig()
    assert loss_objective(Transducer(MODEL, VOCAB_SIZE), pruned).config.transducer == "full"


class AlignedBatches(TinyBatches):
    """Made-up utterances whose tokens end in order; of every second one, nothing is known."""

    def make(self, ids: object, language: str | None = None) -> Batch:
        data = super().make(ids, language)  # type: ignore[arg-type]
        ends = torch.full_like(data.y, -1)
        for row, name in enumerate(data.ids):
            count = int(data.y_lens[row])
            if int(name.rpartition("-")[2]) % 2 == 0:
                ends[row, :count] = 2 * torch.arange(count) + 1
        return replace(data, ends=ends)


def test_a_run_logs_how_many_utterances_were_unrestricted(tmp_path: Path) -> None:
    loss = {"transducer": "restricted", "alignments": "a", "ctc_weight": 0.0, "left_buffer": 1, "right_buffer": 2}
    config = tiny_config(loss=loss, training={"num_epochs": 1, "accumulate": 2})
    make_trainer(config, tmp_path, batches=AlignedBatches(tiny_tokenizer())).run()
    (line,) = (tmp_path / "train_log.jsonl").read_text().splitlines()
    # Six batches of two utterances, each of which counts once whatever the number of subnets.
    assert json.loads(line)["unrestricted"] == 6
    assert "6 utterances with the full lattice in place of the restricted one" in (tmp_path / "train.log").read_text()
