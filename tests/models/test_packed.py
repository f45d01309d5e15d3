"""The packed form of checkpoints: every bit comes back, and only what is kept takes room."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor

from slimasr.elastic.blocks import union
from slimasr.models.base import SpeechModel
from slimasr.models.packed import PACKED, pathway_weights, unpacked, weights_of
from slimasr.models.pathways import prunable_matrices
from slimasr.supernet.subnet import Subnet
from tests.models.pathway_kit import CTC, LANGUAGES, TRANSDUCERS, pathway_model


def through_a_file(content: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def assert_same_bits(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape, name
        assert found[name].numpy().tobytes() == value.numpy().tobytes(), name


def zero_outside_the_union(model: SpeechModel) -> None:
    """As a training leaves the weights."""
    assert model.pathways is not None
    masks = [model.pathways.expanded(name) for name in LANGUAGES]
    with torch.no_grad():
        for matrix, weight in prunable_matrices(model).items():
            weight.masked_fill_(~union(torch.stack([mask[matrix] for mask in masks])), 0.0)


@pytest.mark.parametrize("config", [*TRANSDUCERS.values(), CTC], ids=[*TRANSDUCERS, "ctc"])
def test_a_model_with_pathways_comes_back_bit_for_bit(config: Any) -> None:
    model = pathway_model(config)
    assert model.pathways is not None
    zero_outside_the_union(model)
    with torch.no_grad():
        for weight in prunable_matrices(model).values():
            # A kept block of zeros, and one whose only bit is a sign
            weight[:8, 0] = 0.0
            weight[:8, 1] = -0.0
    content = weights_of(model)
    assert_same_bits(unpacked(through_a_file(content))["model"], model.state_dict())
    used = sum(int(((weight != 0) | weight.signbit()).sum()) for weight in prunable_matrices(model).values())
    size = sum(weight.numel() for weight in prunable_matrices(model).values())
    # Short blocks apart, no zero is stored: zeros within used blocks alone.
    assert used <= len(content[PACKED]["values"]) < 0.75 * size
    plain = weights_of(model.extract(Subnet()))
    assert PACKED not in plain and unpacked(plain) == plain
    alone = model.extract(Subnet(pathway="fr"))
    assert_same_bits(unpacked(through_a_file(weights_of(alone)))["model"], alone.state_dict())


def test_weights_that_no_pathway_keeps_are_not_lost() -> None:
    """As in best.pt of a training that still trains all of them."""
    model = pathway_model()
    assert_same_bits(unpacked(weights_of(model))["model"], model.state_dict())


@pytest.mark.parametrize("block", [(8, 1), (4, 3)])
def test_a_pathway_comes_back_bit_for_bit(block: tuple[int, int]) -> None:
    model = pathway_model(block=block)
    alone = model.extract(Subnet(pathway="fr"))
    content = through_a_file(pathway_weights(model, "fr", alone))
    assert_same_bits(unpacked(content)["model"], alone.state_dict())
    kept = sum(int((weight != 0).sum()) for weight in prunable_matrices(alone).values())
    assert len(content[PACKED]["values"]) == kept


def test_packed_matrices_take_no_more_than_kept_weights_and_bits() -> None:
    """At 70 % at most 0.31 of the dense bytes, as 8 x 1 blocks have one bit for 8 floats."""
    model = pathway_model(sparsity=0.7)
    alone = model.extract(Subnet(pathway="fr"))
    content = pathway_weights(model, "fr", alone)[PACKED]
    dense = sum(4 * weight.numel() for weight in prunable_matrices(alone).values())
    assert 4 * len(content["values"]) + len(content["bits"]) <= 0.31 * dense


@pytest.mark.parametrize("damage", ["values", "bits", "matrices", "masks"])
def test_damaged_packed_parts_are_refused(damage: str) -> None:
    content = weights_of(pathway_model())
    part = content[PACKED]
    part[damage] = part[damage][1:] if isinstance(part[damage], Tensor) else {"a": [3, 3], **part[damage]}
    with pytest.raises(ValueError, match=r"values|bytes"):
        unpacked(content)
    del part[damage]
    with pytest.raises(KeyError):
        unpacked(content)
