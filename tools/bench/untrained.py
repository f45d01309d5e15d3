"""A tokenizer and a bias of blank with which a model with random weights emits like a trained one; for benchmarks."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from slimasr.config.data import TokenizerConfig
from slimasr.data.tokens.load import load_tokenizer
from slimasr.data.tokens.subwords import MODEL_FILE, train_model
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.decoding.searches.greedy import greedy_search
from slimasr.models.transducer import Transducer

# With the mark of a word and the three special tokens, as many tokens as the presets of AN4 have.
LETTERS = " ".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
SYMBOLS_PER_FRAME = 0.2
STEPS = 12


def letter_tokenizer(folder: Path) -> Tokenizer:
    """Write a tokenizer of the letters A to Z into a new folder, and load it."""
    folder.mkdir()
    config = TokenizerConfig(kind="char", vocab_size=len(LETTERS))
    (folder / MODEL_FILE).write_bytes(train_model([LETTERS], config))
    return load_tokenizer(folder)


@torch.no_grad()
def let_emit(model: Transducer, am: Tensor, lens: Tensor) -> None:
    """Set the bias of blank by bisection, so that a frame emits as often as in real speech.

    Args:
        model: a model with random weights, in evaluation mode.
        am: (N, T, J) projected encoder output.
        lens: (N,) number of frames.
    """
    # Random weights give nearly equal scores; larger ones let tokens differ as after training.
    model.joiner.output.weight.mul_(5)
    low = 0.0
    high = 50.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        model.joiner.output.bias[model.blank_id] = middle
        hyps = greedy_search(model, am, lens)
        # A larger bias of blank makes frames emit less.
        if sum(map(len, hyps)) / int(lens.sum()) > SYMBOLS_PER_FRAME:
            low = middle
        else:
            high = middle
