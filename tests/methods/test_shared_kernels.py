"""Kernels of state-space layers computed once for all passes of a step, against passes that compute their own."""

from __future__ import annotations

import pytest
import torch

from slimasr.config.encoders import MhSsmConfig
from slimasr.config.model import TransducerConfig
from slimasr.data.batches.batch import Batch
from slimasr.elastic.multi_head_ssm import MultiHeadSsm
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.supernet.space import WidthSpace
from slimasr.supernet.subnet import Subnet
from tests.methods.kit import context, gradients, make_objective, run, weights_of
from tests.tiny import FULL_LOSS, MODEL, batch

WIDTHS = (1.0, 0.5)
ENCODER = MhSsmConfig(d_model=16, num_layers=3, ssm_heads=2, ssm_state=8, ffn_dim=32, dropout=0.0)
TINY: TransducerConfig = MODEL.model_copy(update={"encoder": ENCODER})
# Short utterances first, so that the kernels of the first pass are too short for the second one.
PASSES = (
    (Subnet(1.0, (0, 2)), (1, 3)),
    (Subnet(), None),
    (Subnet(1.0, (0,)), (0, 3)),
    (Subnet(0.5), (2,)),
)


class Parts(Method):
    """Subnets of several depths and widths on parts of the batch."""

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        return [Pass(subnet, self.losses, rows, role=str(number)) for number, (subnet, rows) in enumerate(PASSES)]


def test_gradients_are_those_of_passes_with_kernels_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    target, data = make_objective(FULL_LOSS, WIDTHS, TINY).double(), batch((60, 31, 55, 47), (4, 2, 5, 1))
    data = Batch(data.x.double(), data.x_lens, data.y, data.y_lens, data.ids, data.texts)
    computed: list[tuple[int, int]] = []
    responses = MultiHeadSsm.responses

    def counted(module: MultiHeadSsm, channels: int, frames: int) -> list[torch.Tensor]:
        computed.append((channels, frames))
        return responses(module, channels, frames)

    monkeypatch.setattr(MultiHeadSsm, "responses", counted)
    method = Parts(WidthSpace(WIDTHS), weights_of(FULL_LOSS), share_kernels=True)
    run(method, target, data)
    frames = [target.model.encoder.output_frames(number) for number in (47, 60, 55)]
    # Two layers of the first pass, three of the second, none of the third, three of another width.
    assert computed == [(16, frames[0])] * 2 + [(16, frames[1])] * 3 + [(8, frames[2])] * 3
    found = gradients(target)
    target.zero_grad(set_to_none=True)
    for item in method.plan(data, context()):
        part = data if item.rows is None else data.select(item.rows)
        target(part, item.subnet, tuple(item.losses), context().progress).total(item.losses).backward()
    for name, value in gradients(target).items():
        torch.testing.assert_close(found[name], value, atol=1e-12, rtol=1e-9, msg=name)
