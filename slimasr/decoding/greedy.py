"""Batched greedy search of a transducer.

With ``max_symbols_per_frame=1`` this is what sherpa-onnx runs on a device: each frame emits its best symbol, except
``<unk>``, which counts as blank.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slimasr.decoding.searchable import Searchable
from slimasr.models.predictor import PredictorState

UNK_ID = 2
"""Id of ``<unk>`` in every tokenizer of this package."""


@torch.no_grad()
def greedy_search(model: Searchable, am: Tensor, lens: Tensor, max_symbols_per_frame: int = 1) -> list[list[int]]:
    """Find the label sequence that takes the best symbol at every step, for all utterances at once.

    The only loops are over frames and over symbols within a frame; the predictor runs only when some
    utterance emitted, and then for those utterances alone.

    Args:
        model: the transducer, in eval mode.
        am: (N, T, J) encoder output of the subnet, projected (`Transducer.project_encoder`).
        lens: (N,) int64, number of frames.
        max_symbols_per_frame: the search moves to the next frame after so many symbols.

    Returns:
        Token ids per utterance, without blank and ``<unk>``.
    """
    assert am.ndim == 3, am.shape
    assert lens.shape == am.shape[:1], lens.shape
    num_utterances = am.shape[0]
    num_frames = int(lens.max())
    joiner = model.joiner
    predictor = model.predictor
    # (T, N): whether an utterance still has audio at a frame
    running = torch.arange(num_frames, device=am.device).unsqueeze(1) < lens.to(am.device)
    state = predictor.init_state(num_utterances, am.device)
    blank = torch.full((num_utterances,), model.blank_id, dtype=torch.int64, device=am.device)
    out, state = predictor.step(blank, state)
    lm = joiner.project_predictor(out)
    # One (N,) tensor per step in which any utterance emitted; blank for the others
    emitted_symbols: list[Tensor] = []
    for t in range(num_frames):
        emits = running[t]
        for _ in range(max_symbols_per_frame):
            symbols = joiner(am[:, t], lm).argmax(-1)
            # An utterance that has not emitted at one step of a frame does not emit at the later ones either.
            emits = emits & (symbols != model.blank_id) & (symbols != UNK_ID)
            if not emits.any():
                break
            emitted_symbols.append(symbols.where(emits, blank))
            lm, state = step_emitting(model, symbols, emits, lm, state)
    if not emitted_symbols:
        return [[] for _ in range(num_utterances)]
    # (N, steps), moved to the CPU once instead of step by step
    symbols_by_utterance = torch.stack(emitted_symbols, dim=1).cpu()
    return [row[row != model.blank_id].tolist() for row in symbols_by_utterance]


def step_emitting(
    model: Searchable, symbols: Tensor, emits: Tensor, lm: Tensor, state: PredictorState
) -> tuple[Tensor, PredictorState]:
    """Feed the predictor the symbols of the hypotheses that emitted one; the others keep output and state.

    Args:
        model: the transducer.
        symbols: (n,) token ids.
        emits: (n,) bool, the hypotheses whose symbol is fed.
        lm: (n, J) projected predictor output so far.
        state: predictor state of n hypotheses.

    Returns:
        The next ``lm`` and ``state``.
    """
    rows = emits.nonzero().squeeze(1)
    if not len(rows):
        return lm, state
    # Emission is rare, so most rows are left out of the predictor's batch.
    out, stepped = model.predictor.step(symbols[rows], state.select(rows))
    pairs = zip(state.tensors, stepped.tensors, strict=True)
    state = PredictorState(tuple(old.index_copy(0, rows, new) for old, new in pairs))
    return lm.index_copy(0, rows, model.joiner.project_predictor(out)), state
