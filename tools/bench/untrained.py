"""Experiments with random weights, and a bias of blank with which a model emits like a trained one; for benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from slimasr.config.data import TokenizerConfig
from slimasr.config.load import load_config
from slimasr.data.tokens.load import load_tokenizer
from slimasr.data.tokens.subwords import MODEL_FILE, train_model
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.decoding.searches.greedy import greedy_search
from slimasr.experiment import Experiment
from slimasr.experiment.checkpoints import structure_in_words
from slimasr.experiment.record import write_record
from slimasr.models.base import SpeechModel
from slimasr.models.build import build_model, head_names
from slimasr.models.packed import weights_of
from slimasr.models.transducer import Transducer
from slimasr.results.schema import Results
from slimasr.supernet.build import build_space

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


def write_experiment(folder: Path, preset: Path, change: Callable[[SpeechModel], object] | None = None) -> Experiment:
    """Write an experiment with random weights, as training leaves it, and open it.

    Args:
        folder: of the experiment; its tokenizer is written to ``lang`` beside it.
        preset: the recipe.
        change: changes the model, in evaluation mode, before it is written.
    """
    config = load_config(preset)
    tokenizer = letter_tokenizer(folder.parent / "lang")
    write_record(folder, config, folder.parent / "lang", Results())
    torch.manual_seed(0)
    widths = build_space(config).widths
    model = build_model(config.model, None, tokenizer.vocab_size, widths, head_names(config)).eval()
    if change is not None:
        change(model)
    made_for = {"tokenizer": tokenizer.fingerprint, "training_heads": False, **structure_in_words(model)}
    torch.save({**weights_of(model), **made_for}, folder / "final.pt")
    return Experiment.open(folder)


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
