"""Sizes of models that can be compared: every size that follows from others is written out."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from slimasr.config.encoder_section import EncoderSection
from slimasr.config.encoders import ConformerConfig, EmformerConfig, EncoderConfig
from slimasr.config.load import first_different_key
from slimasr.config.model import ModelConfig

LISTS = ("layers", "head_counts", "ffn_dims", "ffn1_dims", "conv_dims")
"""Keys that list the sizes of single layers, in the sections of all encoders."""

OF_ALL_LAYERS = ("num_heads", "ffn_dim")
"""Keys that have no meaning where sizes of single layers are listed."""

Tree = dict[str, Any]


def first_different_size(a: ModelConfig, b: ModelConfig) -> str | None:
    """Return the first key on which the meaning of weights depends that differs, with both values; None without one.

    Keys that mean the same are equal, such as a size that is given and one that follows from others. What changes
    training alone, such as dropout, is left out.
    """
    listed = has_lists(a.encoder) or has_lists(b.encoder)
    return first_different_key(resolved_model(a, listed=listed), resolved_model(b, listed=listed), "model")


def has_lists(encoder: EncoderSection) -> bool:
    """Whether an encoder lists the sizes of single layers."""
    return any(getattr(encoder, key, None) is not None for key in LISTS)


def resolved_model(config: ModelConfig, *, listed: bool) -> Tree:
    """Return the sizes of a model as plain data, without dropout.

    Args:
        listed: whether the sizes of single layers are listed although all layers may be equal.
    """
    tree = config.model_dump(mode="json")
    return _without_dropout({**tree, "encoder": resolved_encoder(config.encoder, listed=listed)})


def resolved_encoder(config: EncoderConfig, *, listed: bool, without: Collection[str] = ()) -> Tree:
    """Return the sizes of an encoder as plain data, without dropout.

    Args:
        listed: see `resolved_model`.
        without: further keys that are left out.
    """
    tree = config.model_dump(mode="json", exclude={*LISTS, *without})
    if isinstance(config, ConformerConfig):
        tree["position_dim"] = config.position_dim or config.d_model
    if isinstance(config, EmformerConfig):
        tree["head_dim"] = config.head_channels
    if listed:
        for key in OF_ALL_LAYERS:
            tree.pop(key, None)
        tree["layers"] = {str(index): units for index, units in enumerate(config.layer_units)}
    return _without_dropout(tree)


def _without_dropout(tree: Tree) -> Tree:
    """Leave out what changes training alone, at any depth."""
    kept = {key: value for key, value in tree.items() if not key.endswith("dropout")}
    return {key: _without_dropout(value) if isinstance(value, dict) else value for key, value in kept.items()}
