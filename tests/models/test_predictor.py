"""The LSTM predictor against torch's own layer, also with tensors that stand in for its weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimasr.config.model import LstmPredictorConfig
from slimasr.models.predictor import LstmPredictor


@pytest.mark.parametrize("num_layers", [1, 2])
def test_stand_ins_of_weights_reach_the_lstm(num_layers: int) -> None:
    torch.manual_seed(0)
    config = LstmPredictorConfig(dim=16, num_layers=num_layers, embedding_dim=8, dropout=0.0)
    predictor = LstmPredictor(config, 10)
    y = torch.randint(1, 10, (3, 5))
    before = predictor(y)
    halved = {name: 0.5 * value for name, value in predictor.named_parameters() if "weight_" in name}
    found = torch.func.functional_call(predictor, halved, (y,))
    predictor.load_state_dict({**predictor.state_dict(), **halved})
    expected, _ = predictor.lstm(predictor.embedding(F.pad(y, (1, 0))))
    assert torch.equal(found, expected)
    assert not torch.allclose(found, before, atol=1e-2)


def test_dropout_acts_between_layers_in_training_only() -> None:
    torch.manual_seed(0)
    predictor = LstmPredictor(LstmPredictorConfig(dim=16, num_layers=2, embedding_dim=8, dropout=0.5), 10)
    predictor.dropout = nn.Identity()
    y = torch.randint(1, 10, (3, 5))
    embedded = predictor.embedding(F.pad(y, (1, 0)))
    found, expected = (_seeded(lambda: predictor(y)), _seeded(lambda: predictor.lstm(embedded)[0]))
    assert torch.equal(found, expected)
    predictor.eval()
    assert torch.equal(predictor(y), predictor.lstm(embedded)[0])
    assert not torch.allclose(predictor(y), found, atol=1e-3)


def _seeded(call: Callable[[], Tensor]) -> Tensor:
    torch.manual_seed(1)
    return call()
