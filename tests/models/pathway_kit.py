"""Tiny models with pathways."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from slimasr.config.encoders import EmformerConfig, MhSsmConfig
from slimasr.config.loss import LossConfig
from slimasr.config.model import LstmPredictorConfig, ModelConfig
from slimasr.elastic.blocks import select
from slimasr.models.base import SpeechModel
from slimasr.models.build import build_model
from slimasr.models.pathways import prunable_matrices
from slimasr.supernet.pathways import PathwaySpec
from tests.tiny import CTC_MODEL, MODEL, VOCAB_SIZE, encoder_config, randomize

LANGUAGES = ("en", "fr", "nl")
PREDICTOR = LstmPredictorConfig(dim=12, num_layers=2, embedding_dim=10, dropout=0.0)
CONFORMER = encoder_config(conv_norm="layer")
ENCODERS = {
    "conformer": CONFORMER,
    "emformer": EmformerConfig(d_model=16, num_layers=2, num_heads=4, ffn_dim=24, dropout=0.0),
    "mh_ssm": MhSsmConfig(d_model=16, num_layers=2, ssm_state=4, ffn_dim=32, dropout=0.0),
}
TRANSDUCERS = {
    name: MODEL.model_copy(update={"encoder": encoder, "predictor": PREDICTOR}) for name, encoder in ENCODERS.items()
}
CTC = CTC_MODEL.model_copy(update={"encoder": CONFORMER})


def pathway_model(
    config: ModelConfig = TRANSDUCERS["conformer"],
    sparsity: float = 0.7,
    loss: LossConfig | None = None,
    languages: Sequence[str] = LANGUAGES,
    block: tuple[int, int] = (8, 1),
) -> SpeechModel:
    """A random model in evaluation mode with a random pathway per language."""
    torch.manual_seed(1)
    spec = PathwaySpec(tuple(languages), block)
    model = build_model(config, loss, VOCAB_SIZE, (1.0,), pathways=spec)
    draw_masks(randomize(model), sparsity)
    return model.eval()


def draw_masks(model: SpeechModel, sparsity: float) -> None:
    """Draw the masks of all pathways, so that each keeps the same share of every matrix."""
    assert model.pathways is not None
    for matrix, weight in prunable_matrices(model).items():
        for name in model.pathways.names:
            noise = torch.rand(weight.shape) + 0.1
            model.pathways.set_mask(name, matrix, select(noise, sparsity, model.pathways.block))
