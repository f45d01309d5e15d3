"""State-space layers in onnxruntime, whose convolution is traced once, against Fourier transforms in torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from slimasr.elastic.blocked import BLOCK, LARGEST
from slimasr.elastic.multi_head_ssm import MultiHeadSsm, SsmOptions
from slimasr.export.parts import Part
from slimasr.export.trace import OPSET, traced
from tests.tiny import randomize

CHANNELS = 4


class TwoWidths(nn.Module):
    """One module at its full width and at half of it: two sizes of the same operator in a graph."""

    def __init__(self, convolution: str) -> None:
        super().__init__()
        options = SsmOptions(2, 4, True, convolution, "per_width", (1e-2, 0.5), False, 5.0)  # type: ignore[arg-type]
        self.ssm = MultiHeadSsm(CHANNELS, 2, options, (CHANNELS, CHANNELS // 2))

    def forward(self, x: Tensor) -> Tensor:
        none = torch.zeros(x.shape[:2], dtype=torch.bool)
        half = x[..., : CHANNELS // 2]
        return torch.cat([self.ssm(x, none), self.ssm(half, none)], dim=-1)


def test_the_convolution_in_onnxruntime_is_that_by_fourier_transforms() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    module, reference = TwoWidths("blocked"), randomize(TwoWidths("fft"))
    module.load_state_dict(reference.state_dict())
    proto = traced(Part(module, {"x": torch.zeros(2, 40, CHANNELS)}, {"x": (0, 1)}, ("out",), {}))
    assert not proto.functions and [(entry.domain, entry.version) for entry in proto.opset_import] == [("", OPSET)]
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    for frames in (1, BLOCK - 1, BLOCK, BLOCK + 1, LARGEST, 2 * LARGEST + 5):
        x = torch.randn(3, frames, CHANNELS)
        with torch.no_grad():
            want = reference(x)
        (got,) = session.run(None, {"x": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(got), want, atol=1e-4, rtol=1e-4)
