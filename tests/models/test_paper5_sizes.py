"""The model of paper 5: its parameters, those that a pathway may prune, and what is left of it at 70 %."""

from __future__ import annotations

import torch

from slimasr.config.encoders import EmformerConfig
from slimasr.config.model import JoinerConfig, LstmPredictorConfig, StackFrontendConfig, TransducerConfig
from slimasr.elastic.blocks import blocks_of, keep_count
from slimasr.models.pathways import prunable_matrices
from slimasr.models.transducer import Transducer

CONFIG = TransducerConfig(
    frontend=StackFrontendConfig(),
    encoder=EmformerConfig(num_layers=30, macaron=True, conv_kernel=31),
    predictor=LstmPredictorConfig(dim=512, num_layers=1, embedding_dim=512),
    joiner=JoinerConfig(dim=1024, activation="relu"),
)
VOCAB_SIZE = 1 + 1548
BLOCK = (8, 1)


def test_parameters_of_the_paper() -> None:
    """Millions: 187.36 dense, 182.98 of them in matrices of linear layers and of the LSTM, 59.28 left."""
    with torch.device("meta"):
        model = Transducer(CONFIG, VOCAB_SIZE)
    dense = sum(p.numel() for p in model.parameters())
    assert f"{dense / 1e6:.2f}" == "187.36"
    assert model.count().params == dense
    matrices = prunable_matrices(model)
    prunable = sum(p.numel() for p in matrices.values())
    # Two feed-forward modules, attention and two pointwise convolutions a layer; input and recurrent weights
    assert prunable == 30 * (4 * 512 * 2048 + 4 * 512**2 + 3 * 512**2) + 2 * 4 * 512**2
    assert f"{prunable / 1e6:.2f}" == "182.98"
    kept = sum(8 * keep_count(blocks_of(p.shape, BLOCK), 0.7) for p in matrices.values())
    assert f"{(dense - prunable + kept) / 1e6:.2f}" == "59.28"
