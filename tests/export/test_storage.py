"""Bytes of stored pathways against the tensors of checkpoints, and against a zip file."""

from __future__ import annotations

import io
import zipfile

import pytest
import torch

from slimasr.export.int8 import quantized_weights
from slimasr.export.storage import ALL_IN_ONE, ONE_EACH, StoredBytes, storage
from slimasr.models.base import SpeechModel
from slimasr.models.packed import PACKED, pathway_weights
from slimasr.models.pathways import prunable_matrices
from slimasr.supernet.subnet import Subnet
from tests.models.pathway_kit import LANGUAGES, pathway_model


@pytest.fixture(scope="module")
def model() -> SpeechModel:
    return pathway_model()


def test_float_bytes_of_a_pathway_are_those_of_its_checkpoint(model: SpeechModel) -> None:
    alone = model.extract(Subnet(pathway="fr"))
    content = pathway_weights(model, "fr", alone)
    tensors = [*content["model"].values(), content[PACKED]["bits"], content[PACKED]["values"]]
    found = storage(model)["fr"].floats
    assert found.packed == sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    dense = b"".join(tensor.numpy().tobytes() for tensor in alone.state_dict().values())
    assert found.dense == len(dense)
    with zipfile.ZipFile(io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights", dense)
        # A zip file has its own header in place of that of zlib.
        assert abs(archive.infolist()[0].compress_size - found.zipped) < 16


def test_int8_bytes_of_a_pathway_are_its_cost_and_the_buffers(model: SpeechModel) -> None:
    cost = model.count(Subnet(pathway="fr"))
    # Feature statistics and other buffers are no parameters.
    buffers = sum(buffer.numel() * 4 for buffer in model.extract(Subnet()).buffers())
    assert storage(model)["fr"].int8.packed == cost.int8_bytes + buffers


def test_all_pathways_together(model: SpeechModel) -> None:
    assert model.pathways is not None
    found = storage(model)
    assert list(found) == [*LANGUAGES, ALL_IN_ONE, ONE_EACH]
    for kind in ("floats", "int8"):
        sizes: list[StoredBytes] = [getattr(found[name], kind) for name in LANGUAGES]
        assert getattr(found[ONE_EACH], kind).packed == sum(size.packed for size in sizes)
        assert getattr(found[ONE_EACH], kind).packed_zipped == sum(size.packed_zipped for size in sizes)
    used = bits = blocks = dense = 0
    for matrix, weight in prunable_matrices(model).items():
        masks = torch.stack([model.pathways.expanded(name)[matrix] for name in LANGUAGES])
        used += int(masks.any(dim=0).sum())
        dense += weight.numel()
        number = model.pathways.masks(matrix)[0].numel()
        # The union's own bits, and those of the three masks
        bits += -(-number // 8) + -(-3 * number // 8)
        blocks += 3 * number
    together = found[ALL_IN_ONE].floats
    assert together.dense - together.packed == 4 * (dense - used) + blocks - bits
    # In int8, each quantised weight takes one byte.
    names = {name for name, _ in quantized_weights(model)}
    assert prunable_matrices(model).keys() <= names
    rounded = found[ALL_IN_ONE].int8
    assert rounded.dense - rounded.packed == dense - used + blocks - bits
    assert together.packed < found[ONE_EACH].floats.packed
