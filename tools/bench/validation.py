"""Validation of pathways on dev sets of their languages against that of one dense model on the same sets.

A transducer with an LSTM predictor, of the size of `egs/multilingual`, recognises noise in four languages and computes
its losses. The masks of the four pathways are equal and keep 30 % of the blocks; both sides emit as often as on real
speech. One thread, processor time; the sides take turns, and the fastest turn of each counts.

    python tools/bench/validation.py [--turns N] [--tiny]
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from common import report
from step import fastest
from steps import noise_batch
from untrained import let_emit, letter_tokenizer

from slimasr.config.load import parse_config
from slimasr.config.schema import Config
from slimasr.config.search import DecodingConfig
from slimasr.data.batches.batch import Batch
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.elastic.blocks import select
from slimasr.methods import build_method
from slimasr.methods.base import Method, StepContext
from slimasr.models.build import build_model, head_names, pathway_spec
from slimasr.models.pathways import prunable_matrices
from slimasr.models.prepared import prepare
from slimasr.models.transducer import Transducer
from slimasr.objective.objective import Objective
from slimasr.supernet.build import build_space
from slimasr.training.distributed import World
from slimasr.training.validation import validate

LANGUAGES = ("en", "fr", "it", "nl")
SPARSITY = 0.7
TARGET = 1.3
VOCAB_SIZE = 29
"""The letters, and three special tokens."""

SIZES = {"d_model": 64, "num_layers": 4, "num_heads": 4, "head_dim": 16, "ffn_dim": 256, "kernel_size": 15}
TINY = {"d_model": 16, "num_layers": 1, "num_heads": 2, "head_dim": 8, "ffn_dim": 32, "kernel_size": 3}


def recipe(tiny: bool, **sections: Any) -> Config:
    """The recipe of a side."""
    model = {
        "encoder": {"kind": "conformer", "conv_norm": "layer", **(TINY if tiny else SIZES)},
        "frontend": {"channels": 4 if tiny else 32},
        "predictor": {"kind": "lstm", "dim": 64, "num_layers": 1, "embedding_dim": 64},
        "joiner": {"dim": 64},
    }
    loss = {"transducer": "full", "ctc_weight": 1.0}
    tokenizer = {"kind": "char", "vocab_size": VOCAB_SIZE}
    tree = {"name": "validation", "data": {"corpus": "digits"}, "model": model, "loss": loss, "tokenizer": tokenizer}
    return parse_config({**tree, **sections})


def side(config: Config, tokenizer: Tokenizer, batch: Batch) -> tuple[Objective, Method]:
    """Model and method of a recipe, whose random weights emit on ``batch`` as often as those of a trained model do."""
    torch.manual_seed(0)
    space = build_space(config)
    model = build_model(
        config.model, config.loss, tokenizer.vocab_size, space.widths, head_names(config), pathway_spec(config)
    ).eval()
    assert isinstance(model, Transducer)
    draw_masks(model)
    subnet = next(iter(space))
    with torch.no_grad():
        prepared = prepare(model, subnet)
        encoder = prepared.model.encode(batch.x, batch.x_lens, prepared.active)
        emitting = prepared.model
        assert isinstance(emitting, Transducer)
        let_emit(emitting, emitting.project_encoder(encoder.out, prepared.active), encoder.lens)
        # Outputs are shared by all pathways.
        model.joiner.load_state_dict(emitting.joiner.state_dict())
    return Objective(model, config.loss).eval(), build_method(config, space, model).eval()


def draw_masks(model: Transducer) -> None:
    """Draw masks, if the model has pathways; they are the same for all of these, so that all emit alike."""
    pathways = model.pathways
    if pathways is None:
        return
    torch.manual_seed(1)
    for matrix, weight in prunable_matrices(model).items():
        kept = select(torch.rand(weight.shape), SPARSITY, pathways.block)
        for name in pathways.names:
            pathways.set_mask(name, matrix, kept)


def run(objective: Objective, method: Method, batches: Sequence[Batch], tokenizer: Tokenizer) -> dict[str, float]:
    """Validate once."""
    context = StepContext(0, 1, 100, random.Random(0))
    return validate(objective, method, batches, tokenizer, DecodingConfig(), context, World())


def dev_batches(config: Config, tiny: bool) -> list[Batch]:
    """Two batches of noise in each language."""
    batch = noise_batch(config, *((2, 1.0) if tiny else (16, 3.0)))
    said = replace(batch, texts=("A B C",) * len(batch))
    return [replace(said, language=language) for language in LANGUAGES for _ in range(2)]


def compare(turns: int, tiny: bool) -> None:
    """Time both sides and print the result."""
    masked = recipe(
        tiny,
        space={"kind": "pathways", "languages": list(LANGUAGES)},
        method={"kind": "pathways", "levels": []},
        training={"average_start": 0.9},
    )
    dense = recipe(tiny, space={"widths": [1.0]}, method={"kind": "separate", "subnet": "1.0"})
    batches = dev_batches(dense, tiny)
    with TemporaryDirectory() as folder:
        tokenizer = letter_tokenizer(Path(folder) / "lang")
    ours, other = (partial(run, *side(config, tokenizer, batches[0]), batches, tokenizer) for config in (masked, dense))
    assert {f"{language}/wer" for language in LANGUAGES} <= ours().keys()
    seconds, dense_seconds = fastest([ours, other], turns)
    name = "validation of four pathways, each on its language, against a dense model, s"
    report(name, ours=seconds, other=dense_seconds, ratio=seconds / dense_seconds, target=TARGET)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    compare(arguments.turns, arguments.tiny)


if __name__ == "__main__":
    main()
