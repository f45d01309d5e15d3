"""CTC models: outputs by name, exact extraction, costs, sizes, dropout and label priors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode

from slimasr.config.encoders import EncoderConfig, MhSsmConfig
from slimasr.config.load import describe_validation, parse_config
from slimasr.config.loss import AuxiliaryConfig, LossConfig
from slimasr.config.model import CtcConfig
from slimasr.experiment.checkpoints import load_weights
from slimasr.export.int8 import quantized_weights
from slimasr.models.build import build_model, head_names, shrink_model_config
from slimasr.models.ctc import CtcModel
from slimasr.models.heads import CtcHead
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet
from tests.tiny import CTC_MODEL, ENCODER, FULL_LOSS, MODEL, VOCAB_SIZE, features, randomize

MH_SSM = MhSsmConfig(d_model=16, num_layers=3, ssm_state=4, ffn_dim=32, dropout=0.0)
BUDGETS = ("0.63", "4 blocks")
SUBNETS = [
    Subnet(),
    Subnet(0.5),
    Subnet(1.0, (0, 1)),
    Subnet(1.0, (0, 1), head="exit2"),
    Subnet(0.5, (0, 1, 2), head="exit3"),
    Subnet(1.0, (0, 2), head="0.63"),
    Subnet(head="4 blocks"),
]
every_encoder = pytest.mark.parametrize("encoder", [ENCODER, MH_SSM], ids=lambda encoder: encoder.kind)


def make(encoder: EncoderConfig = ENCODER, heads: Sequence[str] = BUDGETS, loss: LossConfig | None = None) -> CtcModel:
    torch.manual_seed(0)
    config = CTC_MODEL.model_copy(update={"encoder": encoder, "exits": [2, 3]})
    model = randomize(build_model(config, loss, VOCAB_SIZE, (1.0, 0.5), heads)).eval()
    assert isinstance(model, CtcModel)
    prior = torch.rand(len(list(model.modules())), VOCAB_SIZE).log_softmax(-1)
    for head, row in zip([m for m in model.modules() if isinstance(m, CtcHead)], prior, strict=False):
        head.log_prior.copy_(row)
    return model


@pytest.mark.parametrize("subnet", SUBNETS)
def test_logits_are_a_product_with_the_named_layer(subnet: Subnet) -> None:
    model, width = make(), round(16 * subnet.width)
    place = {None: "output", "0.63": "heads.0_63"}.get(subnet.head, f"heads.{subnet.head}")
    weights = model.state_dict()
    out = torch.randn(2, 5, width)
    expected = F.linear(out, weights[f"{place}.weight"][:, :width], weights[f"{place}.bias"])
    torch.testing.assert_close(model.ctc_logits(out, subnet), expected)


@every_encoder
def test_extracted_models_are_equal_and_of_the_shrunk_configuration(encoder: EncoderConfig) -> None:
    model = make(encoder)
    x, x_lens = features((60, 41))
    for subnet in SUBNETS:
        alone = model.extract(subnet)
        config = shrink_model_config(model.config, subnet)
        built = build_model(config, None, VOCAB_SIZE, (1.0,))
        assert alone.config == config and config.exits == [] and not alone.has_training_heads
        shapes = {name: value.shape for name, value in built.state_dict().items()}
        assert shapes == {name: value.shape for name, value in alone.state_dict().items()}
        assert sum(p.numel() for p in alone.parameters()) == model.count(subnet).params == alone.count().params
        assert model.count(subnet) == alone.count() and model.count(subnet).predictor_macs == 0
        weights = [weight for _, weight in quantized_weights(alone)]
        one_byte, scales = sum(weight.numel() for weight in weights), sum(map(len, weights))
        assert alone.count().int8_bytes == one_byte + 4 * (alone.count().params - one_byte + scales)
        with torch.no_grad():
            inside, outside = model.encode(x, x_lens, subnet), alone.encode(x, x_lens)
            expected = model.ctc_logits(inside.out, subnet)
            torch.testing.assert_close(alone.ctc_logits(outside.out), expected, atol=1e-5, rtol=1e-5)
        assert torch.equal(alone.output.log_prior, model.ctc_head_of(subnet).log_prior)
        again = alone.extract(Subnet())
        assert torch.equal(again.ctc_logits(outside.out), alone.ctc_logits(outside.out))


def test_macs_are_those_that_torch_counts() -> None:
    model = make()
    for subnet in SUBNETS:
        for seconds in (10, 0.28):
            counter = FlopCounterMode(display=False)
            frames = round(100 * seconds)
            with counter, torch.no_grad():
                encoded = model(torch.randn(1, frames, 20), torch.tensor([frames]), subnet)
                model.ctc_logits(encoded.out, subnet)
            expected = pytest.approx(model.count(subnet, seconds).macs * seconds, rel=1e-9)
            assert counter.get_total_flops() / 2 == expected


def test_the_papers_output_layer_and_auxiliary_heads() -> None:
    """79 labels at d 384: 30,415 parameters (paper 4, section 2)."""
    head = CtcHead(384, 79)
    assert sum(p.numel() for p in head.parameters()) == head.count(79, 384, 1).params == 30_415
    assert head.count(79, 384, 7).macs == 7 * 384 * 79
    loss = LossConfig(auxiliary=AuxiliaryConfig(layers=[2], output=True, hidden_dim=5))
    plain, trained = make(), make(loss=loss)
    assert trained.has_training_heads and not plain.has_training_heads
    assert trained.count() == plain.count() and not trained.extract(Subnet()).has_training_heads


def test_dropout_is_before_the_output_layer() -> None:
    config = CtcConfig(num_mel_bins=20, frontend=CTC_MODEL.frontend, encoder=ENCODER, dropout=0.5)
    model = CtcModel(config, 16, heads=["other"])
    for subnet in (Subnet(), Subnet(head="other")):
        head = model.ctc_head_of(subnet)
        with torch.no_grad():
            head.weight.copy_(torch.eye(16))
            head.bias.zero_()
        x = torch.rand(2, 40, 16) + 1.0
        # Every input is dropped or doubled, and the unit matrix shows which.
        found = model.train().ctc_logits(x, subnet) / x
        torch.testing.assert_close(found, found.round())
        assert set(found.round().unique().tolist()) == {0.0, 2.0}
        assert 0.4 < (found.round() == 0).float().mean() < 0.6
        assert torch.equal(model.eval().ctc_logits(x, subnet), x)


def test_names_of_heads_are_exits_then_those_of_the_method() -> None:
    config = parse_config({"name": "x", "data": {"corpus": "an4"}, "model": {"kind": "ctc", "exits": [4, 8]}})
    assert head_names(config) == ("exit4", "exit8")
    assert head_names(config.model_copy(update={"model": MODEL})) == ()
    assert list(make().heads) == ["exit2", "exit3", "0_63", "4 blocks"]
    with pytest.raises(ValueError, match="must differ in more than points"):
        CtcModel(CTC_MODEL, VOCAB_SIZE, heads=["0.5", "0_5"])


def test_transducers_have_heads_of_any_name() -> None:
    torch.manual_seed(0)
    model = Transducer(MODEL, VOCAB_SIZE, (1.0,), None, BUDGETS)
    out, subnet = torch.randn(2, 5, 16), Subnet(1.0, (0, 2), head="0.63")
    weights = {name.removeprefix("heads.0_63."): w for name, w in model.state_dict().items() if "0_63" in name}
    linear = F.linear(out, weights["linear.weight"], weights["linear.bias"])
    expected = F.layer_norm(F.relu(linear), (12,), weights["norm.affine.12.weight"], weights["norm.affine.12.bias"])
    torch.testing.assert_close(model.project_encoder(out, subnet), expected)
    alone = model.extract(subnet)
    torch.testing.assert_close(alone.project_encoder(out), expected)
    assert sum(p.numel() for p in alone.parameters()) == model.count(subnet).params


def test_checkpoints_of_earlier_versions_load(tmp_path: Path) -> None:
    """Exits were named by their depths, and CTC heads had no label priors."""
    torch.manual_seed(0)
    config = MODEL.model_copy(update={"exits": [1, 2]})
    model = randomize(Transducer(config, VOCAB_SIZE, (1.0,), FULL_LOSS))
    old = {name.replace("heads.exit", "exits."): w for name, w in model.state_dict().items() if "log_prior" not in name}
    assert "exits.2.linear.weight" in old and "ctc_head.weight" in old
    again = Transducer(config, VOCAB_SIZE, (1.0,), FULL_LOSS)
    load_weights(again, old, tmp_path / "final.pt")
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"loss": {"distillation": {}}, "method": {"kind": "todm"}},
            "loss.distillation: has no meaning for a CTC model",
        ),
        ({"loss": {"transducer": "full"}}, "loss.transducer: has no meaning for a CTC model"),
        ({"loss": {"ctc_weight": 0.3}}, "loss.ctc_weight: has no meaning for a CTC model"),
        ({"loss": {"prune_range": 4}}, "loss.prune_range: has no meaning for a CTC model"),
        ({"model": {"joiner": {"dim": 8}}}, "model.joiner: unknown key"),
        ({"model": {"predictor": {"kind": "lstm"}}}, "model.predictor: unknown key"),
        ({"model": {"kind": "transducer", "dropout": 0.1}}, "model.dropout: unknown key"),
        ({"model": {"kind": "rnn"}}, "model.kind: must be one of 'transducer', 'ctc'"),
        ({"method": {"share_predictor": True}}, "method.share_predictor: a CTC model has no predictor"),
        (
            {"method": {"kind": "todm", "share_predictor": False}},
            "method.share_predictor: a CTC model has no predictor",
        ),
        ({"decoding": {"kind": "modified_beam"}}, "decoding.kind: modified_beam needs a transducer"),
        ({"decoding": {"max_symbols_per_frame": 2}}, "decoding.max_symbols_per_frame: a CTC model emits at most one"),
    ],
)
def test_settings_that_mean_nothing_for_the_kind_are_named(
    sections: dict[str, dict[str, object]], message: str
) -> None:
    tree = {"name": "x", "data": {"corpus": "an4"}, **sections}
    tree["model"] = {"kind": "ctc", **sections.get("model", {})}
    with pytest.raises(ValidationError) as caught:
        parse_config(tree)
    assert describe_validation(caught.value).startswith(message)


def test_a_transducers_shared_predictor_is_the_default_of_earlier_versions() -> None:
    base = {"name": "x", "data": {"corpus": "an4"}}
    assert parse_config({**base, "method": {"kind": "slimmable", "share_predictor": True}}) == parse_config(base)
