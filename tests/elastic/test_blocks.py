"""Masks of blocks: selection against torch's own sparsifier, sets of blocks by enumeration, packed forms by numpy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.ao.pruning import WeightNormSparsifier

from slimasr.elastic.blocks import (
    Block,
    block_norms,
    block_sizes,
    expand,
    keep_count,
    kept_weights,
    pack,
    pack_bits,
    residual,
    select,
    union,
    unpack,
    unpack_bits,
)

SHAPES: list[tuple[tuple[int, int], Block]] = [
    ((24, 5), (8, 1)),
    ((13, 7), (8, 1)),
    ((9, 10), (4, 3)),
    ((5, 3), (8, 4)),
]
"""Shapes of weights with blocks; all but the first have short blocks."""


def block_slices(shape: tuple[int, int], block: Block) -> list[tuple[slice, slice]]:
    """The entries of every block, in row order."""
    return [
        (slice(row, min(row + block[0], shape[0])), slice(column, min(column + block[1], shape[1])))
        for row in range(0, shape[0], block[0])
        for column in range(0, shape[1], block[1])
    ]


def loop_norms(weight: Tensor, block: Block) -> list[float]:
    """The norms of all blocks in Python, those of short blocks by their root mean square."""
    norms = []
    for place in block_slices((weight.shape[0], weight.shape[1]), block):
        values = weight[place].flatten().tolist()
        mean = math.fsum(value * value for value in values) / len(values)
        norms.append(math.sqrt(mean * block[0] * block[1]))
    return norms


@pytest.mark.parametrize(("shape", "block"), SHAPES)
def test_norms_equal_those_of_a_loop(shape: tuple[int, int], block: Block) -> None:
    weight = torch.randn(shape, dtype=torch.float64)
    expected = loop_norms(weight, block)
    assert block_norms(weight, block).flatten().tolist() == pytest.approx(expected, rel=1e-12)
    assert block_norms(weight.float(), block).flatten().tolist() == pytest.approx(expected, rel=1e-5)
    sizes = [weight[place].numel() for place in block_slices(shape, block)]
    assert block_sizes(shape, block).flatten().tolist() == sizes


@pytest.mark.parametrize("sparsity", [0.0, 0.2, 0.5, 0.7, 0.96])
@pytest.mark.parametrize("shape", [(64, 48), (96, 33)])
def test_selection_is_that_of_the_sparsifier_of_torch(shape: tuple[int, int], sparsity: float) -> None:
    layer = nn.Linear(shape[1], shape[0])
    theirs = WeightNormSparsifier(sparsity, sparse_block_shape=(8, 1), zeros_per_block=8, norm=2)
    theirs.prepare(nn.Sequential(layer), [{"tensor_fqn": "0.weight"}])
    weight = layer.parametrizations.weight.original.detach()  # type: ignore[union-attr]
    theirs.step()
    expected = layer.parametrizations.weight[0].mask.bool()  # type: ignore[union-attr, index]
    assert torch.equal(expand(select(weight, sparsity, (8, 1)), shape, (8, 1)), expected)


@pytest.mark.parametrize(("shape", "block"), SHAPES)
def test_selection_is_that_of_a_sort(shape: tuple[int, int], block: Block) -> None:
    # Few different values, so that many norms are equal: then the first blocks in row order are kept.
    weight = torch.randint(-1, 2, shape).float()
    norms = loop_norms(weight, block)
    order = sorted(range(len(norms)), key=lambda number: (-round(norms[number], 4), number))
    for allowed_share, sparsity in itertools.product((0.0, 0.4, 1.0), (0.0, 0.3, 0.5, 0.8, 1.0)):
        allowed = torch.rand(len(norms)) < allowed_share
        candidates = [number for number in order if allowed[number]]
        kept = candidates[: keep_count((len(norms),), sparsity)]
        mask = select(weight, sparsity, block, allowed.view_as(block_norms(weight, block)))
        assert mask.flatten().nonzero().flatten().tolist() == sorted(kept)


def test_number_of_kept_blocks() -> None:
    assert keep_count((4, 8), 0.7) == 10 and keep_count((4, 8), 0.0) == 32 and keep_count((4, 8), 1.0) == 0
    for sparsity in (0.2, 0.36, 0.488, 0.7):
        assert int(select(torch.randn(40, 31), sparsity, (8, 1)).sum()) == keep_count((5, 31), sparsity)


@pytest.mark.parametrize(("shape", "block"), SHAPES)
def test_expanded_masks_cover_the_entries_of_their_blocks(shape: tuple[int, int], block: Block) -> None:
    mask = torch.rand(block_sizes(shape, block).shape) < 0.5
    expected = torch.zeros(shape, dtype=torch.bool)
    for place, kept in zip(block_slices(shape, block), mask.flatten().tolist(), strict=True):
        expected[place] = kept
    assert torch.equal(expand(mask, shape, block), expected)
    assert kept_weights(mask, shape, block) == int(expected.sum())


def test_residual_of_all_masks_of_three_pathways_on_two_blocks() -> None:
    """By enumeration: it holds the own mask, nothing that only others keep, and all that nobody keeps."""
    for bits in itertools.product([False, True], repeat=6):
        masks = torch.tensor(bits).view(3, 2)
        for own in range(3):
            others = [other for other in range(3) if other != own]
            expected = [bool(masks[own, i]) or not any(bool(masks[other, i]) for other in others) for i in range(2)]
            assert residual(masks, own).tolist() == expected
        assert union(masks).tolist() == [any(masks[:, i].tolist()) for i in range(2)]
    same = torch.rand(7) < 0.3
    # Masks that are equal for all languages leave every weight to each of them.
    assert residual(same.expand(4, 7), 2).all()
    assert residual(same.unsqueeze(0), 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int8])
@pytest.mark.parametrize(("shape", "block"), SHAPES)
def test_packing_keeps_every_bit(shape: tuple[int, int], block: Block, dtype: torch.dtype) -> None:
    mask = torch.rand(block_sizes(shape, block).shape) < 0.4
    entries = expand(mask, shape, block)
    weight = (torch.randn(shape) * 40).to(dtype)
    if dtype != torch.int8:
        # Zeros of kept blocks stay what they are, with their sign.
        weight[torch.rand(shape) < 0.3] = -0.0
    bits, values = pack(weight, mask, block)
    assert len(values) == int(entries.sum()) and values.dtype == dtype
    assert bits.tolist() == np.packbits(mask.flatten().numpy(), bitorder="little").tolist()
    again = unpack(bits, values, shape, block)
    expected = weight.masked_fill(~entries, 0)
    assert again.numpy().tobytes() == expected.numpy().tobytes()
    assert torch.equal(unpack_bits(pack_bits(mask), mask.shape), mask)


def test_packed_values_of_another_shape_are_refused() -> None:
    bits, values = pack(torch.ones(16, 3), torch.ones(2, 3, dtype=torch.bool), (8, 1))
    with pytest.raises(ValueError, match="47 values do not fill the 48 entries"):
        unpack(bits, values[1:], (16, 3), (8, 1))
    with pytest.raises(ValueError, match="do not fit 4 x 3 blocks"):
        unpack(bits, values, (32, 3), (8, 1))
