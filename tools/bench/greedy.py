"""Greedy search for 32 utterances at once against the same search for one utterance after the other.

Only the search is measured: encoder output is random, and the bias of blank is such that a frame emits as often as in
real speech. Predictor, joiner and vocabulary are those of two presets: AN4 has a stateless predictor, the kind that
devices run; LibriSpeech (30 M parameters) has an LSTM predictor, whose arithmetic takes most of the time, so that it
has no target.
"""

from __future__ import annotations

from pathlib import Path

import torch
from common import median_seconds, report
from torch import Tensor
from untrained import let_emit

from slimasr.config.load import load_config
from slimasr.decoding.searches.greedy import greedy_search
from slimasr.models.build import build_model
from slimasr.models.transducer import Transducer

EGS = Path(__file__).resolve().parents[2] / "egs"
NUM_UTTERANCES = 32
NUM_FRAMES = 250
TARGET = 8.0


def emitting_model(preset: Path, out: Tensor, lens: Tensor) -> Transducer:
    """Build the preset's predictor and joiner, with random weights that emit.

    The encoder is not used and has one layer only.
    """
    config = load_config(preset)
    encoder = config.model.encoder.model_copy(update={"num_layers": 1})
    torch.manual_seed(0)
    vocab_size = config.tokenizer.vocab_size
    model = build_model(config.model.model_copy(update={"encoder": encoder}), None, vocab_size, [1.0]).eval()
    assert isinstance(model, Transducer)
    # Two utterances of 100 frames each
    with torch.no_grad():
        am = model.project_encoder(out[:2, :100])
    let_emit(model, am, lens[:2].clamp(max=100))
    return model


def measure(name: str, preset: Path, target: float | None) -> None:
    """Time both sides and print the result."""
    width = load_config(preset).model.encoder.d_model
    torch.manual_seed(1)
    out = torch.randn(NUM_UTTERANCES, NUM_FRAMES, width)
    lens = torch.full((NUM_UTTERANCES,), NUM_FRAMES)
    model = emitting_model(preset, out, lens)

    def batched() -> list[list[int]]:
        return greedy_search(model, model.project_encoder(out), lens)

    def one_by_one() -> list[list[int]]:
        rows = zip(out.split(1), lens.split(1), strict=True)
        return [hyp for row, row_lens in rows for hyp in greedy_search(model, model.project_encoder(row), row_lens)]

    hyps = batched()
    if hyps != one_by_one():
        raise SystemExit(f"{name}: batched and single search differ")
    ours = median_seconds(batched)
    other = median_seconds(one_by_one, repeats=3, warm_ups=0)
    rate = sum(map(len, hyps)) / out[..., 0].numel()
    report(name, ours, other, other / ours, target, threads=torch.get_num_threads(), symbols_per_frame=rate)


if __name__ == "__main__":
    # One thread: a frame of the search is too small a piece of work to share.
    torch.set_num_threads(1)
    measure("greedy search at N 32, AN4 preset, seconds", EGS / "an4/conf/slimmable.yaml", TARGET)
    measure("greedy search at N 32, 30M preset, seconds", EGS / "librispeech/conf/slimmable_30M.yaml", None)
