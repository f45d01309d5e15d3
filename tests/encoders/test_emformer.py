"""Emformer encoder: the paper's sizes, exact extraction, padding without effect, parts equal to the whole."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from slimasr.config.encoder_section import TreeConfig
from slimasr.config.encoders import EmformerConfig
from slimasr.config.model import (
    ConvFrontendConfig,
    FrontendConfig,
    JoinerConfig,
    LstmPredictorConfig,
    StackFrontendConfig,
    TransducerConfig,
)
from slimasr.encoders.emformer import Emformer
from slimasr.models.build import shrink_model_config
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet
from tests.encoders.kit import (
    assert_extracted_twice,
    assert_extraction_is_exact,
    assert_padding_has_no_effect,
    assert_parts_equal_the_whole,
    assert_the_first_half_depends_on_its_own_units,
    assert_units_can_be_chosen,
)
from tests.tiny import MODEL, features, randomize

WIDTHS = (1.0, 0.5)
STACK = StackFrontendConfig()
CONV = ConvFrontendConfig(channels=4)
CONFIG = EmformerConfig(
    d_model=16,
    num_layers=3,
    num_heads=4,
    ffn_dim=32,
    segment=3,
    left_context=4,
    right_context=1,
    memory=2,
    position="relative",
    dropout=0.0,
)
PIECES = Subnet(0.5, (0, 2), (("0.ffn", 5), ("0.heads", (1,)), ("2.ffn", (1, 3, 9))))
SUBNETS = [
    Subnet(),
    Subnet(0.5),
    Subnet(1.0, (0, 1)),
    Subnet(1.0, None, (("0.ffn", 8), ("1.heads", (0, 3)), ("2.ffn", 24))),
    Subnet(1.0, None, (("1.ffn", 0), ("2.heads", 0))),
    PIECES,
]
VARIANTS: list[dict[str, object]] = [
    {},
    {"slimming": "head_size", "norm": "shared", "adaptive_dropout": True},
    {"memory": 0, "position": "none", "head_dim": 6, "right_context": 0},
]


CONVOLVED: dict[str, object] = {"macaron": True, "conv_kernel": 5}
ALL_MODULES = [
    Subnet(),
    Subnet(0.5),
    Subnet(1.0, (0, 2), (("0.ffn1", 8), ("0.conv", (1, 2, 9)), ("2.conv", 0), ("2.ffn1", 0))),
    Subnet(0.5, None, (("0.conv", 3), ("1.ffn1", (1, 7)), ("2.heads", (1,)))),
]


def config(**changes: object) -> EmformerConfig:
    return EmformerConfig(**{**CONFIG.model_dump(), **changes})


def emformer(frontend: FrontendConfig = STACK, **changes: object) -> Emformer:
    encoder = randomize(Emformer(config(**changes), frontend, 20, WIDTHS)).eval()
    assert isinstance(encoder, Emformer)
    return encoder


def model_config(frontend: FrontendConfig = STACK, **changes: object) -> TransducerConfig:
    return MODEL.model_copy(update={"frontend": frontend, "encoder": config(**changes)})


PAPER = TransducerConfig(
    frontend=STACK,
    encoder=EmformerConfig(),
    predictor=LstmPredictorConfig(dim=512, num_layers=3, embedding_dim=512),
    joiner=JoinerConfig(dim=1024, activation="relu"),
)
PAPER_VOCAB = 4097
FIXED, PER_LAYER = 13_661_825, 3_153_408


@cache
def paper_model(shared: int = 0, depths: tuple[int, ...] = (20,)) -> Transducer:
    """Shapes without memory; several depths make a tree."""
    tree = TreeConfig(shared=shared, depths=list(depths)) if len(depths) > 1 else None
    encoder = PAPER.encoder.model_copy(update={"num_layers": depths[0], "tree": tree})
    with torch.device("meta"):
        return Transducer(PAPER.model_copy(update={"encoder": encoder}), PAPER_VOCAB)


def parameters(model: Transducer) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("depth", "millions"), [(20, 76.730), (18, 70.423), (14, 57.810), (10, 45.196), (7, 35.736)])
def test_parameters_of_the_paper(depth: int, millions: float) -> None:
    model, subnet = paper_model(), Subnet(1.0, tuple(range(depth)))
    with torch.device("meta"):
        built = Transducer(shrink_model_config(model.config, subnet), PAPER_VOCAB)
    assert parameters(built) == FIXED + depth * PER_LAYER == model.count(subnet).params == built.count().params
    assert f"{parameters(built) / 1e6:.3f}" == f"{millions:.3f}"


@pytest.mark.parametrize(
    ("shared", "depths", "millions"),
    [
        (6, (20, 18, 14, 10), 152.41),
        (0, (20, 18, 14, 10), 209.17),
        (6, (20, 14, 7), 105.11),
        (0, (20, 14, 7), 142.95),
        (6, (20, 14), 101.96),
    ],
)
def test_parameters_of_the_paper_s_trees(shared: int, depths: tuple[int, ...], millions: float) -> None:
    model = paper_model(shared, depths)
    assert f"{parameters(model) / 1e6:.2f}" == f"{millions:.2f}"
    for depth, path in zip(depths, model.config.encoder.paths, strict=True):
        assert model.count(Subnet(1.0, path)).params == FIXED + depth * PER_LAYER
    assert model.count().params == FIXED + depths[0] * PER_LAYER


def test_layers_without_the_new_modules_have_the_parameters_of_older_experiments() -> None:
    """A section of an older recipe, and the names in its checkpoints."""
    older = EmformerConfig.model_validate({"kind": "emformer", "d_model": 8, "num_layers": 1, "num_heads": 2})
    names = set(Emformer(older, STACK, 20, (1.0,)).layers[0].state_dict())
    modules = ["parts.heads.in_proj", "parts.heads.out_proj", "parts.ffn.inner", "parts.ffn.outer"]
    norms = [f"norms.{name}.affine.8" for name in ("heads", "ffn", "out")]
    assert names == {f"{module}.{kind}" for module in [*modules, *norms] for kind in ("weight", "bias")}
    assert older.layer_units == [{"heads": 2, "ffn": 2048}]


@pytest.mark.parametrize("changes", VARIANTS)
def test_extraction_is_exact(changes: dict[str, object]) -> None:
    subnets = [subnet for subnet in SUBNETS if subnet is not PIECES or changes.get("slimming") is None]
    assert_extraction_is_exact(model_config(**changes), WIDTHS, subnets)
    assert_extracted_twice(model_config(**changes), WIDTHS, Subnet(0.5), Subnet(1.0, (0, 1), (("1.ffn", 3),)))


@pytest.mark.parametrize("changes", [CONVOLVED, {"macaron": True, "norm": "shared"}, {"conv_kernel": 2, "memory": 0}])
def test_extraction_with_more_modules_is_exact(changes: dict[str, object]) -> None:
    model = model_config(**changes)
    named = set(model.encoder.unit_sizes)
    subnets = [subnet for subnet in ALL_MODULES if {key.split(".")[1] for key, _ in subnet.units} <= named]
    assert_extraction_is_exact(model, WIDTHS, subnets)
    if "ffn1" in named and "conv" in named:
        assert_extracted_twice(model, WIDTHS, ALL_MODULES[2], Subnet(1.0, (0,), (("0.conv", (0, 2)), ("0.ffn1", 2))))


def test_extraction_is_exact_behind_convolutions() -> None:
    assert_extraction_is_exact(model_config(CONV), WIDTHS, SUBNETS)


@pytest.mark.parametrize("frontend", [STACK, CONV])
@pytest.mark.parametrize("changes", [{}, {"memory": 0, "right_context": 2}, {**CONVOLVED, "right_context": 2}])
def test_padding_has_no_effect(frontend: FrontendConfig, changes: dict[str, object]) -> None:
    assert_padding_has_no_effect(emformer(frontend, **changes), [Subnet(), Subnet(0.5), PIECES])


def test_units_can_be_chosen() -> None:
    assert_units_can_be_chosen(emformer())
    convolved = emformer(**CONVOLVED)
    assert set(convolved.config.unit_sizes) == {"ffn1", "heads", "conv", "ffn"}
    assert_units_can_be_chosen(convolved)


def test_parts_equal_the_whole() -> None:
    for subnet in (Subnet(), Subnet(0.5), Subnet(1.0, None, (("1.heads", (1, 2)),))):
        assert_parts_equal_the_whole(emformer(), subnet)
    assert_parts_equal_the_whole(emformer(memory=0, right_context=0), Subnet())
    assert_parts_equal_the_whole(emformer(**CONVOLVED), ALL_MODULES[3])


def test_the_first_half_of_a_layer_ends_before_its_last_module() -> None:
    assert_the_first_half_depends_on_its_own_units(emformer())
    assert_the_first_half_depends_on_its_own_units(emformer(**CONVOLVED))


def test_hidden_states_can_be_selected_and_detached() -> None:
    """The rest of the layers, run on some utterances alone, or without gradients below."""
    encoder = emformer()
    x, lens = features((61, 40, 13))
    half = encoder.run_layers(encoder.embed(x, lens), (0, 1), taps=(0,))
    whole = encoder.run_layers(half, (2,))
    # Frames, copies of the look-ahead of 5 segments of 3 frames each, and their summaries
    assert [tuple(tensor.shape) for tensor in half.tensors] == [(3, 15, 16), (3, 5, 1, 16), (3, 5, 16)]
    assert half.num_bytes == 4 * 16 * 3 * (15 + 5 + 5 + 15)
    some = half.select([2, 1])
    assert [tuple(tensor.shape) for tensor in some.tensors] == [(2, 10, 16), (2, 4, 1, 16), (2, 4, 16)]
    after = encoder.run_layers(some, (2,))
    torch.testing.assert_close(after.out[1], whole.out[1, :10])
    torch.testing.assert_close(after.out[0, :3], whole.out[2, :3])
    torch.testing.assert_close(after.taps[0], half.taps[0][[2, 1], :10])
    assert all(tensor.requires_grad for tensor in half.tensors)
    alone = half.detach()
    assert not any(tensor.requires_grad for tensor in (*alone.tensors, *alone.taps.values()))
    leaves = [tensor.requires_grad_() for tensor in alone.tensors]
    weights = torch.randn(whole.out.shape, generator=torch.Generator().manual_seed(0))
    gradients = torch.autograd.grad((whole.out * weights).sum(), half.tensors)
    again = torch.autograd.grad((encoder.run_layers(half.with_tensors(leaves), (2,)).out * weights).sum(), leaves)
    for found, want in zip(again, gradients, strict=True):
        assert want.abs().max() > 0.0
        torch.testing.assert_close(found, want)


def test_an_utterance_without_a_frame_harms_no_other() -> None:
    """None of its segments has a key; neither values nor gradients become NaN."""
    encoder = emformer()
    x, lens = features((40, 3))
    together = encoder(x, lens)
    assert together.lens.tolist() == [10, 0]
    torch.testing.assert_close(together.out[:1], encoder(x[:1], lens[:1]).out)
    together.out.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)


def test_passes_read_nothing_back_from_a_device() -> None:
    """On the device meta every attempt to do so is an error; lengths stay on the CPU."""
    meta = torch.device("meta")
    with meta:
        encoder = Emformer(config(), STACK, 20, WIDTHS)
    x, lens = features((61, 40))
    hidden = encoder(x.to(meta), lens, PIECES, taps=(0,))
    assert (hidden.out.shape, hidden.lens.tolist()) == ((2, 15, 8), [15, 10])
    assert hidden.select([1]).out.shape == (1, 10, 8)
    hidden.out.sum().backward()
    out, state = encoder.stream(x.to(meta), encoder.init_state(2, meta))
    assert (out.shape, state.seen.device.type) == ((2, 12, 16), "meta")
