"""Costs against torch's counters, predictors' twins, the joiner's input slicing."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from slimasr.config.loss import LossConfig
from slimasr.config.model import (
    JoinerConfig,
    LstmPredictorConfig,
    PredictorConfig,
    StatelessPredictorConfig,
    TransducerConfig,
)
from slimasr.errors import UserError
from slimasr.models.build import build_model
from slimasr.models.joiner import Joiner
from slimasr.models.predictor import Predictor, PredictorState, build_predictor
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet
from tests.tiny import MODEL, VOCAB_SIZE, WIDTHS, model_config, randomize

PREDICTORS: list[PredictorConfig] = [
    StatelessPredictorConfig(dim=8, context_size=1),
    StatelessPredictorConfig(dim=8, context_size=3),
    StatelessPredictorConfig(dim=6, context_size=2),
    LstmPredictorConfig(dim=7, num_layers=2, embedding_dim=5, dropout=0.0),
]


@pytest.mark.parametrize("attention", ["relative", "plain"])
@pytest.mark.parametrize("slimming", ["head_count", "head_size"])
def test_macs_equal_torchs_flop_counter(attention: str, slimming: str) -> None:
    model = Transducer(model_config(attention=attention, slimming=slimming), VOCAB_SIZE, WIDTHS).eval()
    for subnet in (Subnet(1.0), Subnet(0.25), Subnet(0.5, (0, 2), (("0.ffn1", 3), ("0.heads", (1,))))):
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            encoded = model(torch.randn(1, 1000, 20), torch.tensor([1000]), subnet)
            am = model.project_encoder(encoded.out, subnet)
            model.joiner(am, torch.zeros(12))
        assert counter.get_total_flops() / 2 == pytest.approx(model.count(subnet).macs * 10, rel=1e-9)


@pytest.mark.parametrize("config", PREDICTORS)
def test_predictor_twins_agree(config: PredictorConfig) -> None:
    predictor = build_predictor(config, VOCAB_SIZE).eval()
    y = torch.randint(1, VOCAB_SIZE, (3, 6))
    whole = predictor(y)
    assert whole.shape == (3, 7, config.dim)
    state = predictor.init_state(3, y.device)
    for u in range(7):
        labels = torch.zeros(3, dtype=torch.int64) if u == 0 else y[:, u - 1]
        out, state = predictor.step(labels, state)
        torch.testing.assert_close(out, whole[:, u])


@pytest.mark.parametrize("config", PREDICTORS)
def test_predictor_states_can_be_chosen_and_mixed(config: PredictorConfig) -> None:
    predictor = build_predictor(config, VOCAB_SIZE).eval()
    labels = torch.tensor([1, 2, 3])
    start = predictor.init_state(3, labels.device)
    _, moved = predictor.step(labels, start)
    mixed = PredictorState.where(torch.tensor([True, False, True]), moved, start)
    out, _ = predictor.step(labels, mixed)
    from_moved, _ = predictor.step(labels, moved)
    from_start, _ = predictor.step(labels, start)
    torch.testing.assert_close(out, torch.stack([from_moved[0], from_start[1], from_moved[2]]))
    chosen, _ = predictor.step(labels[[2, 0]], moved.select(torch.tensor([2, 0])))
    torch.testing.assert_close(chosen, from_moved[[2, 0]])


def work_of(predictor: Predictor) -> float:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        predictor.step(torch.tensor([1]), predictor.init_state(1, torch.device("cpu")))
    return counter.get_total_flops() / 2


def test_predictor_counts() -> None:
    for config in PREDICTORS:
        predictor = build_predictor(config, VOCAB_SIZE).eval()
        assert predictor.count().params == sum(p.numel() for p in predictor.parameters())
    stateless = build_predictor(PREDICTORS[1], VOCAB_SIZE).eval()
    assert stateless.count().macs == work_of(stateless)
    # torch's counter gives 0 for nn.LSTM: two layers of 4 gates x hidden x (input + hidden).
    assert build_predictor(PREDICTORS[3], VOCAB_SIZE).count().macs == 4 * 7 * (5 + 7) + 4 * 7 * (7 + 7)


def test_paper_sizes() -> None:
    """30 M / 17 M / 10 M / 7 M of the paper's Table 1, within what it leaves open (paper 1)."""
    model = Transducer(TransducerConfig(predictor=LstmPredictorConfig()), 1000, WIDTHS)
    millions = {w: model.count(Subnet(w)).params / 1e6 for w in WIDTHS}
    assert millions == pytest.approx({1.0: 31.4, 0.75: 20.3, 0.5: 12.3, 0.25: 7.4}, abs=0.1)


def test_int8_bytes_by_hand() -> None:
    model = Transducer(MODEL, VOCAB_SIZE)
    one_byte = scales = 0
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            one_byte += module.weight.numel()
            scales += module.weight.shape[0]
    params = sum(p.numel() for p in model.parameters())
    assert model.count().int8_bytes == one_byte + 4 * (params - one_byte) + 4 * scales
    assert model.count().paper_size == params


@pytest.mark.parametrize("activation", ["tanh", "relu", "none"])
def test_joiner_is_its_formula_in_every_mode(activation: Literal["tanh", "relu", "none"]) -> None:
    joiner = randomize(Joiner(JoinerConfig(dim=6, activation=activation), 5, 4, 7))
    am, lm = torch.randn(2, 9, 1, 6) * torch.logspace(-4, 1.5, 9).view(9, 1, 1), torch.randn(2, 1, 3, 6)
    act = {"tanh": torch.tanh, "relu": torch.relu, "none": lambda x: x}[activation]
    want = F.linear(act(am.double() + lm.double()), joiner.output.weight.double(), joiner.output.bias.double())
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(joiner(am, lm).double(), want, atol=2e-6, rtol=1e-6)


def test_training_heads_only_where_the_loss_needs_them() -> None:
    heads = {"simple_am_head", "simple_lm_head", "ctc_head"}

    def present(loss: LossConfig | None) -> set[str]:
        model = build_model(MODEL, loss, VOCAB_SIZE, WIDTHS)
        return heads & {name for name, _ in model.named_children()}

    assert present(None) == set()
    assert present(LossConfig(transducer="full")) == set()
    assert present(LossConfig(transducer="pruned", ctc_weight=0.5)) == heads
    with pytest.raises(UserError, match="width 0.3"):
        build_model(MODEL, None, VOCAB_SIZE, (1.0, 0.3))


def test_normalisation_lives_in_the_model() -> None:
    model = randomize(Transducer(MODEL, VOCAB_SIZE)).eval()
    assert isinstance(model, Transducer)
    x, lens = torch.randn(1, 30, 20) * 4 - 9, torch.tensor([30])
    mean, std = x.mean(dim=(0, 1)), x.std(dim=(0, 1))
    model.set_feature_stats(torch.zeros(20), torch.ones(20))
    want = model((x - mean) / std, lens).out
    model.set_feature_stats(mean, std)
    torch.testing.assert_close(model(x, lens).out, want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.extract(Subnet()).feature_mean, mean)
