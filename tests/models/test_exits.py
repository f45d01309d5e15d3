"""Exits: which subnet projects with what, sizes of the paper, extraction and costs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from slimasr.config.encoders import MhSsmConfig
from slimasr.config.load import parse_config
from slimasr.config.loss import LossConfig
from slimasr.config.model import JoinerConfig, LstmPredictorConfig, StackFrontendConfig, TransducerConfig
from slimasr.decoding.searches.beam import modified_beam_search
from slimasr.decoding.searches.greedy import greedy_search
from slimasr.models.build import build_model, shrink_model_config
from slimasr.models.joiner import GatedProjection
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet
from tests.tiny import MODEL, VOCAB_SIZE, features, randomize

CONFIG = MODEL.model_copy(update={"exits": [1, 2, 3]})
MH_SSM = MhSsmConfig(d_model=16, num_layers=3, ssm_state=4, ffn_dim=32, dropout=0.0)
WIDTHS = (1.0, 0.5)
EXITS = [
    Subnet(1.0, (0,), head="exit1"),
    Subnet(0.5, (0, 1), head="exit2"),
    Subnet(1.0, (0, 1, 2), head="exit3"),
    Subnet(1.0, (0, 1), (("0.ffn1", 7),), "exit2"),
]
OTHERS = [Subnet(), Subnet(0.5), Subnet(1.0, (0, 1)), Subnet(1.0, (0, 2)), Subnet(1.0, (1,))]


def make(config: TransducerConfig = CONFIG) -> Transducer:
    torch.manual_seed(0)
    return randomize(Transducer(config, VOCAB_SIZE, WIDTHS)).eval()  # type: ignore[return-value]


@pytest.mark.parametrize("subnet", EXITS)
def test_an_exit_is_linear_relu_and_layer_norm(subnet: Subnet) -> None:
    model, width = make(), model_width(subnet)
    out = torch.randn(2, 5, width)
    head = model.heads[subnet.head or ""]
    norm = head.norm.affine["12"]
    linear = F.linear(out, head.linear.weight[:, :width], head.linear.bias)
    expected = F.layer_norm(F.relu(linear), (12,), norm.weight, norm.bias)
    torch.testing.assert_close(model.project_encoder(out, subnet), expected)


@pytest.mark.parametrize("subnet", OTHERS)
def test_other_subnets_have_the_joiners_own_projection(subnet: Subnet) -> None:
    model, width = make(), model_width(subnet)
    out, own = torch.randn(2, 5, width), model.joiner.encoder_proj
    expected = F.linear(out, own.weight[:, :width], own.bias)  # type: ignore[union-attr,arg-type]
    torch.testing.assert_close(model.project_encoder(out, subnet), expected)


def model_width(subnet: Subnet) -> int:
    return round(16 * subnet.width)


@pytest.mark.parametrize("encoder", [None, MH_SSM])
@pytest.mark.parametrize("subnet", [*EXITS[:3], OTHERS[0]])
def test_extracted_models_are_equal_and_of_the_shrunk_configuration(
    encoder: MhSsmConfig | None, subnet: Subnet
) -> None:
    model = make(CONFIG if encoder is None else CONFIG.model_copy(update={"encoder": encoder}))
    alone = model.extract(subnet)
    config = shrink_model_config(model.config, subnet)
    built = build_model(config, None, VOCAB_SIZE, (1.0,))
    assert config.exits == [] and alone.config == config
    assert {k: v.shape for k, v in alone.state_dict().items()} == {k: v.shape for k, v in built.state_dict().items()}
    assert isinstance(alone.joiner.encoder_proj, GatedProjection) is (subnet in EXITS)
    assert sum(p.numel() for p in alone.parameters()) == model.count(subnet).params == alone.count().params
    assert model.count(subnet) == alone.count()
    x, x_lens = features((60, 41))
    with torch.no_grad():
        inside, outside = model.encode(x, x_lens, subnet), alone.encode(x, x_lens)
        am, expected = alone.project_encoder(outside.out), model.project_encoder(inside.out, subnet)
    torch.testing.assert_close(am, expected, atol=1e-5, rtol=1e-5)
    assert greedy_search(alone, am, outside.lens) == greedy_search(model, expected, inside.lens)
    assert modified_beam_search(alone, am, outside.lens) == modified_beam_search(model, expected, inside.lens)
    again = alone.extract(Subnet())
    assert torch.equal(again.project_encoder(outside.out), am)


def test_costs_are_those_of_the_exit() -> None:
    model = make()
    for subnet in EXITS:
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            encoded = model(torch.randn(1, 1000, 20), torch.tensor([1000]), subnet)
            model.joiner(model.project_encoder(encoded.out, subnet), torch.zeros(12))
        assert counter.get_total_flops() / 2 == pytest.approx(model.count(subnet).macs * 10, rel=1e-9)
        alone = model.extract(subnet)
        one_byte = scales = 0
        for module in alone.modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
                one_byte += module.weight.numel()
                scales += module.weight.shape[0]
        params = sum(p.numel() for p in alone.parameters())
        assert model.count(subnet).int8_bytes == one_byte + 4 * (params - one_byte) + 4 * scales


def test_the_papers_sizes() -> None:
    """A3: 99.9 M and three exits of 0.53 M; 40.0 M and 53.1 M at 8 and 12 layers of FFN 2048 (paper 2, section 6)."""
    config = TransducerConfig(
        frontend=StackFrontendConfig(),
        encoder=MhSsmConfig(),
        predictor=LstmPredictorConfig(dim=512, num_layers=3, embedding_dim=512),
        joiner=JoinerConfig(dim=1024, activation="relu"),
        exits=[8, 12, 16],
    )
    with torch.device("meta"):
        model = Transducer(config, 4097, (1.0,), LossConfig(transducer="full"))
    heads = [sum(p.numel() for p in head.parameters()) / 1e6 for head in model.heads.values()]
    assert heads == pytest.approx([0.53] * 3, abs=0.005)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(99.9 + 3 * 0.53, abs=0.1)
    assert model.count().params / 1e6 == pytest.approx(99.9, abs=0.1)
    for depth, millions in {8: 40.0, 12: 53.1}.items():
        subnet = Subnet(
            1.0, tuple(range(depth)), tuple((f"{layer}.ffn", 2048) for layer in range(depth)), f"exit{depth}"
        )
        assert model.count(subnet).params / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"exits": [2, 1]}}, "exits: must be different and rise"),
        ({"model": {"exits": [4]}}, "exits: the encoder has 3 layers"),
        ({"model": {"exits": []}}, "model.exits: method multi_exit needs at least one"),
        ({"space": {"kind": "widths", "widths": [1.0]}}, "space: method multi_exit trains depths alone"),
        ({"space": {"depths": [3, 1], "units": {"ffn1": [32, 8]}}}, "space: method multi_exit trains depths alone"),
        ({"space": {"depths": [3, 2]}}, "space.depths: method multi_exit trains only model.exits and the full depth"),
    ],
)
def test_impossible_exits_are_named(sections: dict[str, dict[str, object]], message: str) -> None:
    tree: dict[str, dict[str, object]] = {
        "model": MODEL.model_dump(mode="json") | {"num_mel_bins": 80, "exits": [1]},
        "space": {"kind": "layers", "depths": [3, 1]},
    }
    for name, section in sections.items():
        tree[name] = {**tree[name], **section} if section.get("kind") is None else section
    with pytest.raises(ValueError, match=message):
        parse_config({"name": "x", "data": {"corpus": "an4"}, "method": {"kind": "multi_exit"}, **tree})
