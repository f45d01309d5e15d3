"""Small configurations that many tests share."""

from __future__ import annotations

import torch

from slimasr.config.encoders import ConformerConfig
from slimasr.config.loss import LossConfig
from slimasr.config.model import ConvFrontendConfig, CtcConfig, JoinerConfig, StatelessPredictorConfig, TransducerConfig
from slimasr.data.batches.batch import Batch

WIDTHS = (1.0, 0.75, 0.5, 0.25)
FULL_LOSS = LossConfig(transducer="full", ctc_weight=1.0)
ENCODER = ConformerConfig(d_model=16, num_layers=3, num_heads=4, head_dim=4, ffn_dim=32, kernel_size=3, dropout=0.0)
MODEL = TransducerConfig(
    num_mel_bins=20,
    frontend=ConvFrontendConfig(channels=4),
    encoder=ENCODER,
    predictor=StatelessPredictorConfig(dim=8),
    joiner=JoinerConfig(dim=12),
)
CTC_MODEL = CtcConfig(num_mel_bins=20, frontend=ConvFrontendConfig(channels=4), encoder=ENCODER)
VOCAB_SIZE = 9


def encoder_config(**changes: object) -> ConformerConfig:
    """The tiny encoder with some fields changed."""
    return ENCODER.model_copy(update=changes)


def model_config(**changes: object) -> TransducerConfig:
    """The tiny model with some fields of its encoder changed."""
    return MODEL.model_copy(update={"encoder": encoder_config(**changes)})


def features(lens: tuple[int, ...], seed: int = 0, bins: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, T, F) noise and its (N,) lengths."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(lens), max(lens), bins, generator=generator), torch.tensor(lens)


def batch(lens: tuple[int, ...] = (60, 47, 31), tokens: tuple[int, ...] = (4, 2, 0), seed: int = 0) -> Batch:
    """A batch of noise with random labels."""
    x, x_lens = features(lens, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    y = torch.randint(3, VOCAB_SIZE, (len(lens), max(tokens)), generator=generator)
    y_lens = torch.tensor(tokens)
    y = y.masked_fill(torch.arange(max(tokens)) >= y_lens.unsqueeze(1), 0)
    names = tuple(f"utt{i}" for i in range(len(lens)))
    return Batch(x, x_lens, y, y_lens, names, tuple("" for _ in names))


def randomize(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Draw every parameter and running statistic anew, so that no test passes on ones and zeros."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in module.named_buffers():
            if name.endswith("mean"):
                buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))
            elif name.endswith(("var", "std")):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return module
