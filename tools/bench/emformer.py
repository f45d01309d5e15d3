"""Emformer layers against torchaudio's with equal weights, forward and backward, whole utterances.

Ours treat segments as a batch, each with the window of keys that it sees. torchaudio's attend from all frames to all
frames, of which they mask what a segment does not see: a dense matrix, so that its time grows with the square of the
length. Segments of 4 frames see 30 frames before them and 1 behind. One thread, processor time, float32; the sides take
turns, and the fastest turn of each counts.

    python tools/bench/emformer.py [--torchaudio DIR] [--tiny]
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import report
from step import fastest
from torch import Tensor
from torchaudio_parts import add_torchaudio_option, build_emformers, find_torchaudio, missing

from slimasr.config.encoders import EmformerConfig
from slimasr.elastic.emformer_layout import whole_layout
from slimasr.encoders.emformer import Emformer
from slimasr.encoders.emformer_layer import MODULES, into_segments

FILE = "models/emformer.py"
ALL_UNITS = dict.fromkeys(MODULES)


def sizes(d_model: int, num_layers: int) -> EmformerConfig:
    """Return the proportions of paper 3, without dropout."""
    return EmformerConfig(
        d_model=d_model, num_heads=8, ffn_dim=4 * d_model, num_layers=num_layers, position="none", dropout=0.0
    )


def run_ours(encoder: Emformer, x: Tensor) -> Tensor:
    """Run the layers on (N, T + r, C) frames, the last r of which are look-ahead -> (N, T, C)."""
    frames = x.shape[1] - encoder.window.right
    lens = torch.full((x.shape[0],), frames)
    layout = whole_layout(encoder.window, frames, lens)
    hidden = into_segments(x, layout)
    for layer in encoder.layers:
        hidden = layer(hidden, layout, 1.0, ALL_UNITS)
    return hidden.centre[:, :frames]


def run_theirs(layers: Any, x: Tensor) -> Tensor:
    """Do the same with torchaudio's."""
    out: Tensor = layers(x, torch.full((x.shape[0],), x.shape[1] - layers.right_context_length))[0]
    return out


def compare(path: Path, config: EmformerConfig, utterances: int, frames: int, turns: int, target: float) -> None:
    """Time both sides, and print ours against theirs and how far outputs differ where both define the same."""
    ours, theirs = build_emformers(path, config)
    x = torch.randn(utterances, frames + config.right_context, config.d_model, requires_grad=True)
    gradient = torch.randn(utterances, frames, config.d_model)
    with torch.no_grad():
        # The look-ahead of the last segment is the padding in torchaudio, and masked in ours.
        defined = (frames - 1) // config.segment * config.segment
        difference = float((run_ours(ours, x) - run_theirs(theirs, x))[:, :defined].abs().max())
    calls = [
        lambda: run_ours(ours, x).backward(gradient),
        lambda: run_theirs(theirs, x).backward(gradient),
    ]
    seconds = fastest(calls, turns)
    title = f"Emformer, {config.num_layers} layers, d {config.d_model}, N {utterances}, T {frames}"
    report(
        f"{title}, forward and backward against torchaudio's, processor seconds",
        seconds[0],
        seconds[1],
        seconds[0] / seconds[1],
        target,
        largest_difference=difference,
    )


def main() -> None:
    """Compare both lengths, or say that the peer is absent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_torchaudio_option(parser)
    parser.add_argument("--tiny", action="store_true", help="tiny models, to see whether everything runs")
    options = parser.parse_args()
    path = find_torchaudio(options.torchaudio, FILE)
    if path is None:
        print(f"emformer: {missing(options.torchaudio, FILE)}")
        return
    torch.set_num_threads(1)
    measure = partial(compare, path)
    if options.tiny:
        measure(sizes(16, 2), utterances=2, frames=30, turns=1, target=1.1)
        measure(sizes(16, 1), utterances=1, frames=200, turns=1, target=1 / 3)
        return
    measure(sizes(512, 4), utterances=4, frames=252, turns=10, target=1.1)
    measure(sizes(512, 1), utterances=1, frames=4000, turns=2, target=1 / 3)


if __name__ == "__main__":
    main()
