"""A small model inside a larger one: the larger one computes the small one's outputs at the small one's width."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from slimasr.config.encoder_section import TreeConfig
from slimasr.config.encoders import EmformerConfig, EncoderConfig, MhSsmConfig
from slimasr.config.loss import AuxiliaryConfig, LossConfig
from slimasr.config.model import (
    ConvFrontendConfig,
    LstmPredictorConfig,
    ModelConfig,
    StackFrontendConfig,
    VggFrontendConfig,
)
from slimasr.models import prefix
from slimasr.models.base import SpeechModel
from slimasr.models.build import build_model, shrink_model_config
from slimasr.models.matching import Outputs, Source, extracted, take_matching, vocabulary_tensors
from slimasr.models.prefix import subnet_of_size
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet
from tests.tiny import CTC_MODEL, MODEL, VOCAB_SIZE, encoder_config, features, model_config, randomize

LOSS = LossConfig(
    transducer="pruned",
    ctc_weight=1.0,
    auxiliary=AuxiliaryConfig(layers=[1], output=True, hidden_dim=16, targets="tokens"),
)
OUTPUTS = Outputs(LOSS, ("other",))
WIDTHS = (0.5, 1.0)
SMALL = model_config(d_model=8, num_layers=2, num_heads=2, ffn_dim=12, position_dim=16).model_copy(
    update={"frontend": ConvFrontendConfig(channels=2)}
)
"""Half of the channels, fewer layers and units of `MODEL`, with sizes that a user would write."""


def model(config: ModelConfig, seed: int, loss: LossConfig | None = LOSS, size: int = VOCAB_SIZE) -> SpeechModel:
    """A random model in evaluation mode, norms and statistics included."""
    torch.manual_seed(seed)
    widths = WIDTHS if config.encoder.d_model == 16 else (1.0,)
    built = build_model(config, loss, size, widths, ("other",))
    randomize(built, seed)
    return built.eval()


def source_of(small: SpeechModel) -> Source:
    """The model as it is read from a file, which has other tensors in memory."""
    weights = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    return Source(weights, small.config, small.widths)


def outputs(of: SpeechModel, subnet: Subnet | None = None) -> list[Tensor]:
    """Everything that a model computes from features at a subnet, training-only heads included."""
    x, lens = features((61, 40))
    out = of.encode(x, lens, subnet).out
    found = [out, of.ctc_logits(out, subnet), of.frame_logits(out, 1, subnet), of.frame_logits(out, None, subnet)]
    if isinstance(of, Transducer):
        other = None if subnet is None else replace(subnet, head="other")
        named = Subnet(head="other") if other is None else other
        found += [of.project_encoder(out, subnet), of.project_encoder(out, named), of.simple_am(out, out.shape[-1])]
        found.append(
            of.joiner(found[4][:, :1], of.joiner.project_predictor(of.predictor_out(torch.ones(2, 1).long()))[:, :1])
        )
    return found


def in_model(encoder: EncoderConfig, **changes: object) -> ModelConfig:
    return MODEL.model_copy(update={"encoder": encoder, **changes})


EMFORMER = EmformerConfig(d_model=16, num_layers=2, num_heads=4, ffn_dim=24, dropout=0.0, position="relative")
MACARON = EMFORMER.model_copy(update={"macaron": True, "conv_kernel": 3, "memory": 1})
SSM = MhSsmConfig(d_model=16, num_layers=2, ssm_heads=2, ssm_state=4, ffn_dim=32, dropout=0.0)
PAIRS = {
    "written by hand": (MODEL, SMALL),
    "head size": (
        model_config(slimming="head_size"),
        model_config(d_model=8, head_dim=2, ffn_dim=16, position_dim=16).model_copy(
            update={"frontend": SMALL.frontend}
        ),
    ),
    "ctc": (CTC_MODEL, CTC_MODEL.model_copy(update={"encoder": SMALL.encoder, "frontend": SMALL.frontend})),
    "vgg": (
        in_model(encoder_config(conv_norm="layer"), frontend=VggFrontendConfig(channels=(4, 4, 8, 8))),
        in_model(
            SMALL.encoder.model_copy(update={"conv_norm": "layer"}), frontend=VggFrontendConfig(channels=(2, 2, 4, 4))
        ),
    ),
    "emformer": (
        in_model(EMFORMER),
        in_model(EMFORMER.model_copy(update={"d_model": 8, "num_heads": 2, "head_dim": 4, "ffn_dim": 6})),
    ),
    "macaron": (in_model(MACARON), in_model(MACARON.model_copy(update={"d_model": 8, "num_heads": 2, "ffn_dim": 12}))),
    "state spaces": (
        in_model(SSM, frontend=StackFrontendConfig(factor=4)),
        in_model(
            SSM.model_copy(update={"d_model": 8, "num_layers": 1, "ffn_dim": 16, "dt_min": 0.002}),
            frontend=StackFrontendConfig(factor=4),
        ),
    ),
    "lstm": (
        MODEL.model_copy(update={"predictor": LstmPredictorConfig(dim=16, dropout=0.0)}),
        SMALL.model_copy(update={"predictor": LstmPredictorConfig(dim=16, dropout=0.0)}),
    ),
    "recalibrated": (model_config(norm="recalibrated"), SMALL),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_a_larger_model_begins_as_the_smaller_one(pair: str) -> None:
    sizes, fewer = PAIRS[pair]
    if fewer.encoder.kind == "emformer":
        # The front end of the tiny model has as many channels as the width keeps.
        fewer = fewer.model_copy(update={"frontend": SMALL.frontend})
    small, big = model(fewer, 1), model(sizes, 2)
    expected = outputs(small)
    taken = take_matching(big, OUTPUTS, source_of(small), {})
    assert taken.place is not None, taken.obstacle
    assert taken.place.width == 0.5
    assert not taken.unused
    for ours, theirs in zip(outputs(big, taken.place), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    # What has not been taken is what it was.
    before = model(sizes, 2).state_dict()
    after = big.state_dict()
    assert {name for name in before if torch.equal(before[name], after[name])} <= {*taken.left, *taken.whole}
    assert all(torch.equal(before[name], after[name]) for name in taken.left)
    assert set(before) == {*taken.left, *taken.whole, *taken.first}
    if "joiner.encoder_proj.weight" in before:
        name = "joiner.encoder_proj.weight"
        assert torch.equal(after[name][:, :8], small.state_dict()[name])
        assert torch.equal(after[name][:, 8:], before[name][:, 8:])
        assert not any(name.startswith("predictor") for name in taken.first)


def test_a_supernet_begins_as_a_smaller_supernet_at_each_of_its_widths() -> None:
    sizes = model_config(d_model=32, num_heads=8, ffn_dim=64, position_dim=16).model_copy(
        update={"frontend": ConvFrontendConfig(channels=8)}
    )
    big = randomize(build_model(sizes, LOSS, VOCAB_SIZE, (0.25, 0.5, 1.0)), 2).eval()
    small = model(MODEL, 1)
    assert isinstance(big, SpeechModel)
    taken = take_matching(big, OUTPUTS, source_of(small), {})
    x, lens = features((61, 40))
    assert taken.place == Subnet(0.5)
    for width in WIDTHS:
        ours = big.encode(x, lens, Subnet(width / 2)).out
        torch.testing.assert_close(ours, small.encode(x, lens, Subnet(width)).out, atol=1e-5, rtol=1e-5)


def test_large_models_are_numbered_in_several_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = prefix.places(model(MODEL, 2).encoder, Subnet(0.5))
    monkeypatch.setattr(prefix, "DIGIT", 100)
    found = prefix.places(model(MODEL, 2).encoder, Subnet(0.5))
    assert found.keys() == expected.keys()
    for name, place in found.items():
        assert (place.name, place.whole) == (expected[name].name, expected[name].whole)
        assert torch.equal(place.entries, expected[name].entries)


def test_a_dense_model_begins_a_supernet_of_its_own_size() -> None:
    dense = build_model(MODEL, LOSS, VOCAB_SIZE, (1.0,), ("other",))
    randomize(dense, 1)
    supernet = model(MODEL, 2)
    taken = take_matching(supernet, OUTPUTS, source_of(dense.eval()), {})
    assert taken.place == Subnet()
    # Only the norms of the other width are left, as no dense model has them.
    assert taken.left
    assert all(".8." in name for name in taken.left)
    for ours, theirs in zip(outputs(supernet), outputs(dense), strict=True):
        assert torch.equal(ours, theirs)


def test_the_deepest_branch_of_a_tree_begins_a_supernet_and_a_tree_begins_as_it() -> None:
    tree = MODEL.model_copy(update={"encoder": encoder_config(tree=TreeConfig(shared=1, depths=[3, 2]))})
    branches = build_model(tree, LOSS, VOCAB_SIZE, (1.0,), ("other",))
    randomize(branches, 1)
    for source, target in (
        (branches.eval(), model(MODEL, 2)),
        (model(MODEL, 2), build_model(tree, LOSS, VOCAB_SIZE, (1.0,), ("other",))),
    ):
        taken = take_matching(target.eval(), OUTPUTS, source_of(source), {})
        assert taken.place == Subnet()
        for ours, theirs in zip(outputs(target), outputs(source), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "obstacle"),
    [
        ({"position_dim": None}, "model.encoder.position_dim: 8 against 16"),
        ({"head_dim": 8}, "model.encoder.head_dim: 8 against 4"),
        ({"kernel_size": 5}, "model.encoder.kernel_size: 5 against 3"),
        ({"d_model": 12}, "no norm for width 12"),
        ({"d_model": 32}, "model.encoder.d_model: 32 against 16"),
        ({"num_layers": 4}, "model.encoder.num_layers: 4 against 3"),
        ({"ffn_dim": 48}, "model.encoder.layers.0.ffn1: 48 against 16"),
    ],
)
def test_what_is_no_prefix_is_taken_by_name_and_shape_and_the_obstacle_named(
    changes: dict[str, int | None], obstacle: str
) -> None:
    fewer = {"num_heads": 3, "ffn_dim": 24, "frontend": 3} if changes.get("d_model") == 12 else {}
    channels = fewer.pop("frontend", 2)
    encoder = SMALL.encoder.model_copy(update={**fewer, **changes})
    small = model(SMALL.model_copy(update={"encoder": encoder, "frontend": ConvFrontendConfig(channels=channels)}), 1)
    big = model(MODEL, 2)
    before = {name: tensor.clone() for name, tensor in big.state_dict().items()}
    taken = take_matching(big, OUTPUTS, source_of(small), {})
    assert taken.place is None
    assert obstacle in taken.obstacle
    assert not taken.first
    for name, tensor in big.state_dict().items():
        theirs = small.state_dict().get(name)
        equal = theirs is not None and theirs.shape == tensor.shape
        assert (name in taken.whole) == equal
        assert torch.equal(tensor, theirs if equal else before[name])
        if not equal:
            assert name in taken.left
    assert taken.left["encoder.frontend.conv1.weight"].startswith(f"its shape is ({channels}, 1, 3, 3) there and (4, 1")


def test_another_vocabulary_leaves_what_depends_on_it() -> None:
    depends = vocabulary_tensors(MODEL, OUTPUTS)
    other = model(MODEL, 1, size=VOCAB_SIZE + 3)
    own = model(MODEL, 2)
    by_shape = {name for name, tensor in own.state_dict().items() if tensor.shape != other.state_dict()[name].shape}
    assert depends == by_shape
    assert {"predictor.embedding.weight", "joiner.output.bias", "ctc_head.log_prior"} < depends
    taken = take_matching(own, OUTPUTS, source_of(model(MODEL, 1)), dict.fromkeys(depends, "another vocabulary"))
    before = model(MODEL, 2).state_dict()
    assert set(taken.left) == depends
    assert not taken.unused
    assert set(taken.left.values()) == {"another vocabulary"}
    assert all(torch.equal(own.state_dict()[name], before[name]) for name in depends)


@pytest.mark.parametrize("pair", ["written by hand", "ctc"])
def test_a_subnet_is_extracted_with_its_training_only_heads(pair: str) -> None:
    sizes, fewer = PAIRS[pair]
    big = model(sizes, 1)
    subnet = subnet_of_size(sizes, fewer)
    assert isinstance(subnet, Subnet)
    found = extracted(big, OUTPUTS, subnet)
    assert found.config == shrink_model_config(sizes, subnet)
    alone = build_model(found.config, LOSS, VOCAB_SIZE, (1.0,)).eval()
    alone.load_state_dict(dict(found.weights))
    ours, theirs = outputs_without_other(alone), outputs_without_other(big, subnet)
    for one, another in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, another, atol=1e-5, rtol=1e-5)


def outputs_without_other(of: SpeechModel, subnet: Subnet | None = None) -> list[Tensor]:
    x, lens = features((61, 40))
    out = of.encode(x, lens, subnet).out
    found = [out, of.ctc_logits(out, subnet), of.frame_logits(out, 1, subnet), of.frame_logits(out, None, subnet)]
    return [*found, of.simple_am(out, out.shape[-1])] if isinstance(of, Transducer) else found


def test_sizes_of_other_kinds_have_no_place() -> None:
    assert subnet_of_size(MODEL, in_model(EMFORMER)) == "model.encoder.kind: 'emformer' against 'conformer'"
