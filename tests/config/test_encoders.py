"""The tree of an encoder's layers: paths and their ids, and trees that cannot be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from slimasr.config.encoder_section import EncoderSection
from slimasr.config.encoders import EmformerConfig
from slimasr.config.load import load_config, parse_config, save_config
from slimasr.errors import UserError

KINDS = ["conformer", "mh_ssm", "emformer"]


def recipe(**keys: Any) -> dict[str, Any]:
    """A recipe with this encoder, and with the space that a tree needs."""
    space = {"kind": "branches" if "tree" in keys else "widths"}
    return {"name": "test", "data": {"corpus": "an4"}, "model": {"encoder": keys}, "space": space}


def encoder(**keys: Any) -> EncoderSection:
    return parse_config(recipe(**keys)).model.encoder


def error_of(folder: Path, **keys: Any) -> str:
    """What is said of a recipe with this encoder."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe(**keys)))
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_deepest_branch_has_the_first_ids(kind: str) -> None:
    tree = encoder(kind=kind, num_layers=6, tree={"shared": 2, "depths": [6, 4, 3]})
    assert tree.paths == [(0, 1, 2, 3, 4, 5), (0, 1, 6, 7), (0, 1, 8)]
    assert tree.total_layers == len(tree.layer_units) == 9
    apart = encoder(kind=kind, num_layers=3, tree={"shared": 0, "depths": [3, 1]})
    assert apart.paths == [(0, 1, 2), (3,)]
    without = encoder(kind=kind, num_layers=3)
    assert without.paths == [(0, 1, 2)]
    assert without.total_layers == len(without.layer_units) == 3


@pytest.mark.parametrize(("shared", "depths", "total"), [(6, [20, 18, 14, 10], 44), (0, [20, 18, 14, 10], 62)])
def test_every_layer_is_on_a_path_and_only_the_first_ones_on_several(
    shared: int, depths: list[int], total: int
) -> None:
    section = encoder(num_layers=20, tree={"shared": shared, "depths": depths})
    assert [len(path) for path in section.paths] == depths
    uses = [sum(index in path for path in section.paths) for index in range(section.total_layers)]
    assert uses == [len(depths)] * shared + [1] * (total - shared)


def test_a_tree_is_read_again_as_it_was_written(tmp_path: Path) -> None:
    config = parse_config(recipe(num_layers=4, tree={"shared": 1, "depths": [4, 2]}))
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"shared": 2, "depths": [4, 2]}, "model.encoder.tree.shared: must be below the smallest depth, 2"),
        ({"shared": 3, "depths": [4, 2]}, "model.encoder.tree.shared: must be below the smallest depth, 2"),
        ({"shared": -1, "depths": [4, 2]}, "model.encoder.tree.shared: must be at least 0, got -1"),
        ({"shared": 0, "depths": [4, 4]}, "model.encoder.tree.depths: needs at least two depths, all different"),
        ({"shared": 0, "depths": [2, 4]}, "model.encoder.tree.depths: .* the deepest first"),
        ({"shared": 0, "depths": [4]}, "model.encoder.tree.depths: needs at least two depths"),
        ({"shared": 0, "depths": []}, "model.encoder.tree.depths: needs at least two depths"),
        ({"shared": 0, "depths": [4, 0]}, "model.encoder.tree.depths.1: must be at least 1, got 0"),
        ({"shared": 0, "depths": [5, 2]}, r"model.encoder.tree.depths: the first must be .* \(num_layers\), 4"),
        ({"shared": 1}, "model.encoder.tree.depths: this key is needed"),
        ({"shard": 1, "depths": [4, 2]}, r"model.encoder.tree.shard: unknown key \(did you mean shared\?\)"),
    ],
)
def test_trees_that_cannot_be_are_named_by_key(tmp_path: Path, kind: str, tree: dict[str, Any], message: str) -> None:
    assert re.search(message, error_of(tmp_path, kind=kind, num_layers=4, tree=tree))


def test_sizes_of_single_layers_are_those_of_all_branches(tmp_path: Path) -> None:
    tree = {"shared": 0, "depths": [2, 1]}
    assert encoder(kind="mh_ssm", num_layers=2, tree=tree, ffn_dims=[8, 4, 0]).layer_units[2] == {"ffn": 0}
    message = error_of(tmp_path, kind="mh_ssm", num_layers=2, tree=tree, ffn_dims=[8, 4])
    assert "model.encoder.ffn_dims: needs one entry per encoder layer, 3" in message


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"num_heads": 5}, "model.encoder.d_model: must be a multiple of num_heads, unless head_dim is given"),
        ({"segment": 0}, "model.encoder.segment: must be at least 1, got 0"),
        ({"left_context": -1}, "model.encoder.left_context: must be at least 0, got -1"),
        ({"right_context": -1}, "model.encoder.right_context: must be at least 0, got -1"),
        ({"memory": -2}, "model.encoder.memory: must be at least 0, got -2"),
        ({"memory_squash": "relu"}, "model.encoder.memory_squash: input should be 'tanh' or 'clamp', got 'relu'"),
        ({"head_counts": [4]}, "model.encoder.head_counts: needs one entry per encoder layer, 2"),
        ({"ffn_dims": [4, 4, 4]}, "model.encoder.ffn_dims: needs one entry per encoder layer, 2"),
        ({"conv_kernel": 0}, "model.encoder.conv_kernel: must be at least 1, got 0"),
        ({"conv_kernel": 3, "conv_dims": [4]}, "model.encoder.conv_dims: needs one entry per encoder layer, 2"),
        ({"conv_dims": [4, 4]}, "model.encoder.conv_dims: needs conv_kernel, without which"),
        ({"macaron": True, "ffn1_dims": [4]}, "model.encoder.ffn1_dims: needs one entry per encoder layer, 2"),
        ({"ffn1_dims": [4, 4]}, "model.encoder.ffn1_dims: needs macaron: true, without which"),
    ],
)
def test_emformers_that_cannot_be_are_named_by_key(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    assert message in error_of(tmp_path, kind="emformer", num_layers=2, **keys)


def test_the_size_of_a_head() -> None:
    for keys, channels in [({}, 64), ({"num_heads": 4}, 128), ({"num_heads": 5, "head_dim": 7}, 7)]:
        section = encoder(kind="emformer", **keys)
        assert isinstance(section, EmformerConfig)
        assert section.head_channels == channels
