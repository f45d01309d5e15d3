"""Masks of blocks of a matrix (paper 5): selection by norm, sets of blocks, and a packed form of the blocks that stay.

A block holds ``block`` = (outputs, inputs) consecutive entries of an (O, I) weight; blocks at the ends of rows and
columns may be shorter. A mask of blocks is bool, (ceil(O / outputs), ceil(I / inputs)), True for a block that is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Block = tuple[int, int]
"""Outputs and inputs of a block."""

BITS = 8
"""Bits of a byte of the packed form."""


def blocks_of(shape: Sequence[int], block: Block) -> tuple[int, int]:
    """Return the numbers of rows and columns of blocks of an (O, I) weight."""
    return math.ceil(shape[0] / block[0]), math.ceil(shape[1] / block[1])


def block_sizes(shape: Sequence[int], block: Block) -> Tensor:
    """Return the int64 numbers of entries of all blocks of an (O, I) weight; short blocks have fewer."""
    rows, columns = (
        (size - step * torch.arange(number)).clamp(max=step)
        for size, step, number in zip(shape, block, blocks_of(shape, block), strict=True)
    )
    return rows.unsqueeze(1) * columns


def block_norms(weight: Tensor, block: Block) -> Tensor:
    """Return the L2 norms of all blocks, float32 or wider; a short block counts as a full one of equal mean square."""
    wide = weight if weight.dtype == torch.float64 else weight.float()
    squares = _split(wide, block).square().sum(dim=(1, 3))
    sizes = block_sizes(weight.shape, block).to(squares)
    return (squares * (block[0] * block[1] / sizes)).sqrt()


def keep_count(blocks: Sequence[int], sparsity: float) -> int:
    """Return how many blocks of a matrix are kept.

    Args:
        blocks: numbers of rows and columns of blocks (`blocks_of`).
        sparsity: share of all blocks that is pruned, 0 to 1.
    """
    return round((1 - sparsity) * math.prod(blocks))


def select(weight: Tensor, sparsity: float, block: Block, allowed: Tensor | None = None) -> Tensor:
    """Choose the blocks of the largest norms (paper 5, section 2.1); of equal norms the first in row order are kept.

    Args:
        weight: (O, I).
        sparsity: share of all blocks that is pruned.
        block: outputs and inputs of a block.
        allowed: mask of the blocks that may be chosen, None = all. If they are fewer than are to be kept, all of them
            are.

    Returns:
        The mask, on the device of the weight.
    """
    norms = block_norms(weight, block)
    count = keep_count(norms.shape, sparsity)
    if allowed is not None:
        if int(allowed.sum()) <= count:
            return allowed.clone()
        norms = norms.masked_fill(~allowed, -1.0)
    flat = norms.flatten()
    if count == 0:
        return torch.zeros_like(norms, dtype=torch.bool)
    # The smallest norm that is kept. A sort of all norms would take ten times as long.
    last = flat.kthvalue(flat.numel() - count + 1).values
    above = flat > last
    # Of the blocks with exactly this norm, the first ones fill the remaining places.
    equal = flat == last
    kept = above | (equal & (equal.cumsum(0) <= count - above.sum()))
    return kept.view_as(norms)


def expand(mask: Tensor, shape: Sequence[int], block: Block) -> Tensor:
    """Return the bool (O, I) mask of the entries of a weight of this shape."""
    entries = mask.repeat_interleave(block[0], dim=0).repeat_interleave(block[1], dim=1)
    return entries[: shape[0], : shape[1]]


def used_blocks(entries: Tensor, block: Block) -> Tensor:
    """Return the mask of the blocks that hold a True entry of a bool (O, I) tensor; the inverse of `expand`."""
    return _split(entries, block).any(dim=3).any(dim=1)


def kept_weights(mask: Tensor, shape: Sequence[int], block: Block) -> int:
    """Count the entries of the blocks that a mask keeps."""
    return int(block_sizes(shape, block)[mask.cpu()].sum())


def union(masks: Tensor) -> Tensor:
    """(L, ...) masks -> the (...) mask of what any of them keeps."""
    return masks.any(dim=0)


def residual(masks: Tensor, index: int) -> Tensor:
    """Return the blocks that training of a pathway may use: its own, and those of no other one (paper 5, equation 1).

    Args:
        masks: (L, ...) of all pathways.
        index: the number of the pathway.
    """
    others = torch.cat([masks[:index], masks[index + 1 :]])
    return masks[index] | ~union(others)


def pack_bits(mask: Tensor) -> Tensor:
    """Bool tensor -> uint8 (ceil(entries / 8),): entry 8 i + j is bit j of byte i."""
    flat = mask.flatten()
    padded = F.pad(flat, (0, -len(flat) % BITS)).view(-1, BITS)
    return (padded.to(torch.uint8) << _positions(mask.device)).sum(dim=1, dtype=torch.uint8)


def unpack_bits(bits: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the bool tensor of this shape of which `pack_bits` made ``bits``.

    Raises:
        ValueError: there are too many or too few bits.
    """
    if len(bits) != math.ceil(math.prod(shape) / BITS):
        raise ValueError(f"{len(bits)} bytes of a mask do not fit {' x '.join(map(str, shape))} blocks")
    flat = (bits.unsqueeze(1) >> _positions(bits.device)) & 1
    return flat.flatten()[: math.prod(shape)].view(*shape).bool()


def pack(weight: Tensor, mask: Tensor, block: Block) -> tuple[Tensor, Tensor]:
    """Return the packed form of the blocks that a mask keeps.

    Args:
        weight: (O, I) of any type.
        mask: mask of its blocks.
        block: outputs and inputs of a block.

    Returns:
        The mask by `pack_bits`, and the values of the kept blocks one block after the other in row order; within a
        block in row order as well.
    """
    inside = _inside(weight.shape, block, weight.device)
    return pack_bits(mask), _by_blocks(weight, block)[mask.unsqueeze(-1) & inside]


def unpack(bits: Tensor, values: Tensor, shape: Sequence[int], block: Block) -> Tensor:
    """Return the (O, I) weight of which `pack` made this, with zeros elsewhere.

    Raises:
        ValueError: the numbers of bits or values do not fit the shape.
    """
    rows, columns = blocks_of(shape, block)
    kept = unpack_bits(bits, (rows, columns)).unsqueeze(-1) & _inside(shape, block, bits.device)
    if int(kept.sum()) != len(values):
        raise ValueError(f"{len(values)} values do not fill the {int(kept.sum())} entries that the mask keeps")
    by_blocks = values.new_zeros(rows, columns, block[0] * block[1])
    by_blocks[kept] = values
    whole = by_blocks.view(rows, columns, *block).transpose(1, 2).reshape(rows * block[0], columns * block[1])
    return whole[: shape[0], : shape[1]].contiguous()


def _inside(shape: Sequence[int], block: Block, device: torch.device) -> Tensor:
    """Return which entries of full blocks lie inside an (O, I) weight: bool (rows, columns, entries of a block)."""
    return _by_blocks(torch.ones(*shape, dtype=torch.bool, device=device), block)


def _by_blocks(weight: Tensor, block: Block) -> Tensor:
    """(O, I) -> (rows, columns, entries of a block), with zeros in what short blocks lack."""
    return _split(weight, block).transpose(1, 2).flatten(2)


def _split(weight: Tensor, block: Block) -> Tensor:
    """(O, I) -> (rows, outputs of a block, columns, inputs of a block), with zeros in what short blocks lack."""
    rows, columns = blocks_of(weight.shape, block)
    # From the last dimension to the first, as `pad` wants it
    missing = (0, columns * block[1] - weight.shape[1], 0, rows * block[0] - weight.shape[0])
    whole = F.pad(weight, missing) if any(missing) else weight
    return whole.reshape(rows, block[0], columns, block[1])


def _positions(device: torch.device) -> Tensor:
    return torch.arange(BITS, dtype=torch.uint8, device=device)
