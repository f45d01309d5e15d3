"""Batched greedy search of a transducer.

With ``max_symbols_per_frame=1`` this is what sherpa-onnx runs on a device: per frame the best symbol, and
never ``<unk>``, which counts as blank.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slimasr.decoding.searchable import Searchable
from slimasr.models.predictor import PredictorState

UNK_ID = 2


@torch.no_grad()
def greedy_search(model: Searchable, am: Tensor, lens: Tensor, max_symbols_per_frame: int = 1) -> list[list[int]]:
    """The label sequence that takes the best symbol at every step, for all utterances at once.

    The only loops are over frames and over symbols within a frame; the predictor runs only when some
    utterance emitted, and then for those utterances alone.

    Args:
        model: the transducer, in eval mode.
        am: (N, T, J) encoder output of the subnet, projected (`Transducer.project_encoder`).
        lens: (N,) int64, frames of it.
        max_symbols_per_frame: after so many symbols the search moves to the next frame.

    Returns:
        Token ids per utterance, without blank and ``<unk>``.
    """
    assert am.ndim == 3, am.shape
    assert lens.shape == am.shape[:1], lens.shape
    num_utterances = am.shape[0]
    num_frames = int(lens.max())
    joiner = model.joiner
    predictor = model.predictor
    running = torch.arange(num_frames, device=am.device).unsqueeze(1) < lens.to(am.device)
    state = predictor.init_state(num_utterances, am.device)
    blank = torch.full((num_utterances,), model.blank_id, dtype=torch.int64, device=am.device)
    out, state = predictor.step(blank, state)
    lm = joiner.project_predictor(out)
    emitted_symbols: list[Tensor] = []
    for t in range(num_frames):
        emits = running[t]
        for _ in range(max_symbols_per_frame):
            symbols = joiner(am[:, t], lm).argmax(-1)
            emits = emits & (symbols != model.blank_id) & (symbols != UNK_ID)
            if not emits.any():
                break
            emitted_symbols.append(symbols.where(emits, blank))
            lm, state = step_emitting(model, symbols, emits, lm, state)
    if not emitted_symbols:
        return [[] for _ in range(num_utterances)]
    return [row[row != model.blank_id].tolist() for row in torch.stack(emitted_symbols, dim=1).cpu()]


def step_emitting(
    model: Searchable, symbols: Tensor, emits: Tensor, lm: Tensor, state: PredictorState
) -> tuple[Tensor, PredictorState]:
    """Feed the predictor the symbols of the hypotheses that emitted one; the others keep what they have.

    Args:
        model: the transducer.
        symbols: (n,) token ids.
        emits: (n,) bool.
        lm: (n, J) projected predictor output so far.
        state: of n hypotheses.

    Returns:
        The next ``lm`` and ``state``.
    """
    rows = emits.nonzero().squeeze(1)
    if not len(rows):
        return lm, state
    out, stepped = model.predictor.step(symbols[rows], state.select(rows))
    pairs = zip(state.tensors, stepped.tensors, strict=True)
    state = PredictorState(tuple(old.index_copy(0, rows, new) for old, new in pairs))
    return lm.index_copy(0, rows, model.joiner.project_predictor(out)), state
