"""Best paths against the enumeration of all alignments."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from slimasr.losses.transducer.alignment import best_alignment

RNNT_TYPES = ("regular", "modified", "constrained")
BLANK = 2
UNITS = 5


def alignments(log_probs: Tensor, symbols: list[int], rnnt_type: str) -> Iterator[tuple[float, list[int]]]:
    """Score and emission frames of every path through one utterance's lattice, given (T, U + 1, C)."""
    num_frames = log_probs.shape[0]

    def extend(t: int, u: int, score: float, frames: list[int]) -> Iterator[tuple[float, list[int]]]:
        if (t, u) == (num_frames, len(symbols)):
            yield score, frames
        if t == num_frames:
            return
        yield from extend(t + 1, u, score + float(log_probs[t, u, BLANK]), frames)
        if u < len(symbols):
            emit = score + float(log_probs[t, u, symbols[u]])
            if rnnt_type == "constrained":
                emit += float(log_probs[t, u + 1, BLANK])
            yield from extend(t if rnnt_type == "regular" else t + 1, u + 1, emit, [*frames, t])

    yield from extend(0, 0, 0.0, [])


def best(log_probs: Tensor, symbols: list[int], rnnt_type: str) -> list[int]:
    return max(alignments(log_probs, symbols, rnnt_type))[1]


def random_lattices(y_lens: list[int], x_lens: list[int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (len(y_lens), max(x_lens), max(y_lens) + 1, UNITS)
    logits = 2.0 * torch.randn(shape, generator=generator, dtype=torch.float64)
    symbols = torch.randint(UNITS - 1, (len(y_lens), max(y_lens)), generator=generator)
    boundary = torch.tensor([[0, 0, u, t] for u, t in zip(y_lens, x_lens, strict=True)])
    return logits, symbols + (symbols >= BLANK), boundary


@pytest.mark.parametrize("rnnt_type", RNNT_TYPES)
@pytest.mark.parametrize("seed", range(10))
def test_best_path_is_the_best_of_all_enumerated_ones(rnnt_type: str, seed: int) -> None:
    y_lens, x_lens = [3, 0, 1, 2, 4, 1], [4, 3, 1, 6, 5, 5]
    logits, symbols, boundary = random_lattices(y_lens, x_lens, seed)
    frames = best_alignment(logits, symbols, boundary, rnnt_type, BLANK)  # type: ignore[arg-type]
    assert frames.dtype == torch.int64 and frames.shape == symbols.shape
    for n, (u, t) in enumerate(zip(y_lens, x_lens, strict=True)):
        expected = best(logits[n, :t, : u + 1].log_softmax(dim=-1), symbols[n, :u].tolist(), rnnt_type)
        assert frames[n].tolist() == expected + [-1] * (4 - u)
    single = best_alignment(logits.float(), symbols, boundary, rnnt_type, BLANK)  # type: ignore[arg-type]
    assert torch.equal(single, frames)


def test_a_frame_may_emit_several_symbols_in_the_regular_lattice_only() -> None:
    logits, symbols, _ = random_lattices([3], [2], 0)
    logits[0, 1, :, :] = 0.0
    logits[0, 1].scatter_(1, torch.cat([symbols[0], torch.tensor([BLANK])]).unsqueeze(1), 30.0)
    logits[0, 0, 0, BLANK] = 30.0
    assert best_alignment(logits, symbols, termination_symbol=BLANK).tolist() == [[1, 1, 1]]
    for rnnt_type in ("modified", "constrained"):
        none = best_alignment(logits, symbols, None, rnnt_type, BLANK)  # type: ignore[arg-type]
        assert none.tolist() == [[-1, -1, -1]], "three symbols do not fit into two frames"


def test_utterances_without_an_alignment_leave_the_others_alone() -> None:
    logits, symbols, boundary = random_lattices([3, 3], [2, 5], 1)
    frames = best_alignment(logits, symbols, boundary, "modified", BLANK)
    assert frames[0].tolist() == [-1, -1, -1]
    assert frames[1].tolist() == best(logits[1].log_softmax(dim=-1), symbols[1].tolist(), "modified")


def test_impossible_boundaries_are_refused() -> None:
    logits, symbols, _ = random_lattices([2], [4], 0)
    with pytest.raises(ValueError, match="outside of a lattice"):
        best_alignment(logits, symbols, torch.tensor([[0, 0, 3, 4]]))
    with pytest.raises(ValueError, match="begin at symbol 0"):
        best_alignment(logits, symbols, torch.tensor([[1, 0, 2, 4]]))
    with pytest.raises(ValueError, match="rnnt_type"):
        best_alignment(logits, symbols, rnnt_type="other")  # type: ignore[arg-type]
