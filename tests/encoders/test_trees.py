"""Trees of layers in every encoder: the max subnet, branches, extraction, counts."""

from __future__ import annotations

import itertools

import pytest
import torch

from slimasr.config.encoder_section import TreeConfig
from slimasr.config.encoders import EmformerConfig, EncoderConfig, MhSsmConfig
from slimasr.config.model import StackFrontendConfig, TransducerConfig
from slimasr.encoders.base import Encoder
from slimasr.encoders.emformer_layer import EmformerLayer
from slimasr.models.transducer import Transducer
from slimasr.supernet.build import branch_space
from slimasr.supernet.subnet import Subnet
from tests.encoders.kit import assert_extracted_twice, assert_extraction_is_exact, random_model
from tests.tiny import ENCODER, MODEL, features

SIZES = {"d_model": 16, "ffn_dim": 32, "dropout": 0.0}
ENCODERS: list[EncoderConfig] = [
    ENCODER,
    MhSsmConfig(**SIZES, ssm_state=8),
    EmformerConfig(**SIZES, num_heads=4, segment=3, left_context=4, memory=1),
    EmformerConfig(**SIZES, num_heads=4, segment=3, left_context=4, macaron=True, conv_kernel=4),
]
every_encoder = pytest.mark.parametrize("encoder", ENCODERS, ids=["conformer", "mh_ssm", "emformer", "convolved"])
WIDTHS = (1.0, 0.5)
SHARED = TreeConfig(shared=1, depths=[4, 3, 2])
APART = TreeConfig(shared=0, depths=[3, 1])


def tree_of(encoder: EncoderConfig, tree: TreeConfig) -> TransducerConfig:
    changes = {"num_layers": tree.depths[0], "tree": tree}
    return MODEL.model_copy(
        update={"frontend": StackFrontendConfig(), "encoder": encoder.model_copy(update=changes), "exits": []}
    )


def by_hand(encoder: Encoder, layers: tuple[int, ...], subnet: Subnet) -> torch.Tensor:
    x, lens = features((61, 40))
    return encoder.run_layers(encoder.embed(x, lens, subnet), layers, subnet).out


@every_encoder
def test_the_max_subnet_is_the_deepest_branch(encoder: EncoderConfig) -> None:
    model = random_model(tree_of(encoder, SHARED), WIDTHS)
    x, lens = features((61, 40))
    assert (model.encoder.num_layers, len(model.encoder.layers)) == (4, 7)
    for name in (None, Subnet(), Subnet(1.0, (0, 1, 2, 3))):
        assert model.encoder.path_of(name) == (0, 1, 2, 3)
        assert model.encoder(x, lens, name).out.equal(by_hand(model.encoder, (0, 1, 2, 3), Subnet()))
        assert model.count(name) == model.count(Subnet(1.0, (0, 1, 2, 3)))
    alone = model.extract(Subnet())
    assert alone.config.encoder.tree is None
    assert (alone.encoder.num_layers, len(alone.encoder.layers)) == (4, 4)


@every_encoder
def test_a_branch_runs_the_shared_layers_and_its_own(encoder: EncoderConfig) -> None:
    model = random_model(tree_of(encoder, SHARED), WIDTHS)
    x, lens = features((61, 40))
    shared = model.encoder.run_layers(model.encoder.embed(x, lens), (0,))
    for path in [(0, 1, 2, 3), (0, 4, 5), (0, 6)]:
        want = model.encoder.run_layers(shared, path[1:]).out
        torch.testing.assert_close(model.encoder(x, lens, Subnet(1.0, path)).out, want)
    outputs = [model.encoder(x, lens, Subnet(1.0, path)).out for path in model.config.encoder.paths]
    assert not any(one.allclose(other) for one, other in itertools.pairwise(outputs))


@every_encoder
@pytest.mark.parametrize("tree", [SHARED, APART], ids=["shared", "apart"])
def test_extraction_of_a_branch_is_exact(encoder: EncoderConfig, tree: TreeConfig) -> None:
    config = tree_of(encoder, tree)
    paths = config.encoder.paths
    units = tuple((f"{index}.{'ffn2' if encoder.kind == 'conformer' else 'ffn'}", 5) for index in paths[-1])
    subnets = [Subnet(width, path) for width in WIDTHS for path in paths]
    assert_extraction_is_exact(config, WIDTHS, [Subnet(), *subnets, Subnet(1.0, paths[-1], units)])


@every_encoder
def test_an_extracted_branch_can_be_extracted_in_turn(encoder: EncoderConfig) -> None:
    assert_extracted_twice(tree_of(encoder, SHARED), WIDTHS, Subnet(1.0, (0, 4, 5)), Subnet(1.0, (0, 1)))


@every_encoder
def test_a_tree_s_parameters_are_those_of_its_layers(encoder: EncoderConfig) -> None:
    """Built from shapes alone; every branch is counted without the others."""
    with torch.device("meta"):
        tree = Transducer(tree_of(encoder, SHARED), 9)
        single = Transducer(tree_of(encoder, TreeConfig(shared=1, depths=[4, 2])), 9)
    total = sum(p.numel() for p in tree.parameters())
    layer = sum(p.numel() for p in tree.encoder.layers[0].parameters())
    # All layers have equal sizes: 4 of the deepest branch, 2 and 1 of the others' own.
    assert total == sum(p.numel() for p in single.parameters()) + 2 * layer
    depths = [tree.count(Subnet(1.0, path)).params for path in tree.config.encoder.paths]
    assert [depths[0] - depth for depth in depths] == [0, layer, 2 * layer]
    assert depths[0] == tree.count().params == total - 3 * layer


@every_encoder
def test_units_belong_to_layers_of_all_branches(encoder: EncoderConfig) -> None:
    groups = random_model(tree_of(encoder, APART), WIDTHS).encoder.unit_groups()
    assert {int(name.split(".")[0]) for name in groups} == {0, 1, 2, 3}


def test_gains_go_by_the_place_in_the_path() -> None:
    """The second layer of every branch has the gain of a second layer, whatever its id."""
    config = EmformerConfig(num_layers=3, d_model=64, num_heads=4, ffn_dim=8, tree=TreeConfig(shared=1, depths=[3, 2]))
    model = Transducer(MODEL.model_copy(update={"encoder": config}), 9)
    assert config.paths == [(0, 1, 2), (0, 3)]
    for index, place in [(0, 0), (1, 1), (2, 2), (3, 1)]:
        layer = model.encoder.layers[index]
        assert isinstance(layer, EmformerLayer)
        bound = (6 / 128) ** 0.5 / (place + 1) ** 0.5
        assert 0.99 * bound < layer.parts["heads"].in_proj.weight.abs().max() <= bound


def test_exits_are_depths_of_the_deepest_path() -> None:
    paths = tree_of(ENCODER, SHARED).encoder.paths
    assert [subnet.head for subnet in branch_space(paths, [2, 3])] == [None, None, None]
    assert [subnet.head for subnet in branch_space(((0, 1, 2), (0, 1), (0, 3)), [2, 3])] == [None, "exit2", None]


def test_layers_of_a_branch_stream_like_those_of_the_extracted_model() -> None:
    encoder = ENCODERS[1].model_copy(update={"bidirectional": False})
    model = random_model(tree_of(encoder, SHARED), WIDTHS)
    x, lens = features((40, 40))
    for tree in (model, *(random_model(tree_of(encoder, SHARED), WIDTHS) for encoder in ENCODERS[2:])):
        for path in tree.config.encoder.paths:
            subnet, state = Subnet(1.0, path), tree.encoder.init_state(2, x.device, Subnet(1.0, path))
            parts = []
            for begin in range(0, 40, 8):
                out, state = tree.encoder.stream(x[:, begin : begin + 8], state, subnet, final=begin == 32)
                parts.append(out)
            torch.testing.assert_close(torch.cat(parts, dim=1), tree.encoder(x, lens, subnet).out, atol=1e-5, rtol=1e-4)
