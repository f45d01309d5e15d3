"""Tiny stand-alone models with random weights, of every encoder and predictor."""

from __future__ import annotations

import torch

from slimasr.config.encoders import EmformerConfig, MhSsmConfig
from slimasr.config.model import LstmPredictorConfig, StackFrontendConfig, TransducerConfig
from slimasr.models.build import build_model
from slimasr.models.transducer import Transducer
from tests.tiny import MODEL, VOCAB_SIZE, encoder_config, randomize

LSTM = LstmPredictorConfig(dim=8, num_layers=2, embedding_dim=6)
SSM = MhSsmConfig(d_model=64, num_layers=1, ssm_heads=2, ssm_state=8, ffn_dim=256, dropout=0.0)
EMFORMER = EmformerConfig(
    d_model=64,
    num_layers=2,
    num_heads=4,
    ffn_dim=256,
    segment=4,
    left_context=6,
    memory=2,
    position="relative",
    dropout=0.0,
)
CONVOLVED = EMFORMER.model_copy(update={"num_layers": 1, "macaron": True, "conv_kernel": 5, "right_context": 2})
CONFIGS: dict[str, TransducerConfig] = {
    "conformer": MODEL.model_copy(update={"encoder": encoder_config(d_model=64, ffn_dim=256, num_layers=1)}),
    "mh_ssm": MODEL.model_copy(update={"encoder": SSM, "frontend": StackFrontendConfig(), "predictor": LSTM}),
    "emformer": MODEL.model_copy(update={"encoder": EMFORMER, "frontend": StackFrontendConfig(), "predictor": LSTM}),
}
"""The models that are exported, which takes seconds."""
MODELS: dict[str, TransducerConfig] = {
    **CONFIGS,
    "convolved": MODEL.model_copy(update={"encoder": CONVOLVED, "frontend": StackFrontendConfig(), "predictor": LSTM}),
}


def make_model(kind: str, widths: tuple[float, ...] = (1.0,), vocab_size: int = VOCAB_SIZE) -> Transducer:
    """A model in evaluation mode."""
    torch.manual_seed(4)
    model = build_model(MODELS[kind], None, vocab_size, widths)
    randomize(model)
    return model.eval()
