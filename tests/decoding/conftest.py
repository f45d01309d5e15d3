"""Tiny transducers that emit something."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from slimasr.config.encoders import ConformerConfig
from slimasr.config.model import (
    ConvFrontendConfig,
    JoinerConfig,
    LstmPredictorConfig,
    StatelessPredictorConfig,
    TransducerConfig,
)
from slimasr.models.build import build_model
from slimasr.models.transducer import Transducer

PREDICTORS: dict[str, StatelessPredictorConfig | LstmPredictorConfig] = {
    "stateless": StatelessPredictorConfig(dim=12, context_size=2),
    "lstm": LstmPredictorConfig(dim=12, num_layers=2, embedding_dim=8),
}


@pytest.fixture
def make_transducer() -> Callable[..., Transducer]:
    """Make transducers with random weights that are large enough to make choices differ."""

    def make(predictor: str = "stateless", vocab_size: int = 9, blank_bias: float = 1.0) -> Transducer:
        torch.manual_seed(7)
        config = TransducerConfig(
            num_mel_bins=16,
            frontend=ConvFrontendConfig(channels=4),
            encoder=ConformerConfig(
                d_model=16, num_layers=1, num_heads=2, head_dim=4, ffn_dim=16, kernel_size=3, dropout=0.0
            ),
            predictor=PREDICTORS[predictor],
            joiner=JoinerConfig(dim=10),
        )
        model = build_model(config, None, vocab_size, [0.5, 1.0]).eval()
        with torch.no_grad():
            for weight in (model.joiner.output.weight, model.predictor.embedding.weight):
                weight.copy_(2 * torch.randn_like(weight))
            model.joiner.predictor_proj.weight.mul_(3)
            model.joiner.output.bias[0] += blank_bias
        return model

    return make
