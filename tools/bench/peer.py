"""The layers of our Conformer against those of torchaudio's, forward and backward, in CPU time of one thread.

Both have equal sizes, dropout and input: as many frames as the front end makes of N utterances with T feature frames
each, with some padding. Ours run at full width, with relative positions and without any, as torchaudio's have none.
torchaudio's layers, but not ours, also drop attention weights.

torchaudio is found as `torchaudio_parts.py` says:

    tools/bench/peer.py [--torchaudio DIR]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import report
from torch import Tensor, nn
from torchaudio_parts import add_torchaudio_option, find_torchaudio, load_alone, missing

from slimasr.config.encoders import ConformerConfig
from slimasr.config.load import load_config
from slimasr.config.model import ModelConfig
from slimasr.encoders.base import EncoderOutput
from slimasr.encoders.conformer import Conformer

EGS = Path(__file__).resolve().parents[2] / "egs"
UTTERANCES = 8
TARGET = 0.9
FILE = "models/conformer.py"

Run = Callable[[Tensor], Tensor]


def build_theirs(path: Path, config: ConformerConfig) -> nn.Module:
    """Build torchaudio's Conformer with the sizes of ours."""
    theirs: nn.Module = load_alone(path).Conformer(
        config.d_model, config.num_heads, config.ffn_dim, config.num_layers, config.kernel_size, config.dropout
    )
    return theirs.train()


def build_ours(model: ModelConfig, attention: str) -> Conformer:
    """Build our encoder, of which only the layers run."""
    encoder = model.encoder.model_copy(update={"attention": attention})
    assert isinstance(encoder, ConformerConfig)
    ours = Conformer(encoder, model.frontend, model.num_mel_bins, (1.0,))
    ours.train()
    return ours


def run_ours(ours: Conformer, lens: Tensor) -> Run:
    """Return a function that runs our layers."""
    return lambda x: ours.run_layers(EncoderOutput(x, lens), range(ours.num_layers)).out


def parameters(*modules: nn.Module) -> int:
    """Count the parameters of modules."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def cpu_seconds(run: Run, x: Tensor, gradient: Tensor) -> float:
    """Return the CPU seconds of one forward and backward pass."""
    start = time.process_time()
    run(x).backward(gradient)
    return time.process_time() - start


def measure(name: str, preset: Path, frames: int, rounds: int, path: Path) -> None:
    """Time the three encoders in turn and print ours against theirs."""
    model = load_config(preset).model
    config = model.encoder
    assert isinstance(config, ConformerConfig)
    torch.manual_seed(0)
    relative = build_ours(model, "relative")
    plain = build_ours(model, "plain")
    theirs = build_theirs(path, config)
    hidden_frames = relative.output_frames(frames)
    # The shortest utterance has half of the longest.
    lens = torch.linspace(hidden_frames / 2, hidden_frames, UTTERANCES).long()
    x = torch.randn(UTTERANCES, hidden_frames, config.d_model, requires_grad=True)
    gradient = torch.randn_like(x)
    runs: dict[str, Run] = {
        "relative": run_ours(relative, lens),
        "without": run_ours(plain, lens),
        "torchaudio": lambda x: theirs(x, lens)[0],
    }
    seconds: dict[str, list[float]] = {side: [] for side in runs}
    # The first round warms up.
    for _ in range(rounds + 1):
        for side, run in runs.items():
            seconds[side].append(cpu_seconds(run, x, gradient))
    other = seconds["torchaudio"][1:]
    sides = (("relative positions", "relative", relative), ("no positions", "without", plain))
    for title, side, encoder in sides:
        ours = seconds[side][1:]
        report(
            f"Conformer layers, forward and backward, {name}, {title}, CPU seconds",
            statistics.median(ours),
            statistics.median(other),
            # Neighbours in time, so that other load on the machine meets both.
            statistics.median(a / b for a, b in zip(ours, other, strict=True)),
            TARGET,
            ratio_of_fastest=min(ours) / min(other),
            frames=hidden_frames,
            parameters=parameters(encoder.layers),
            parameters_torchaudio=parameters(theirs),
        )


def main() -> None:
    """Measure both sizes, or say that the peer is absent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_torchaudio_option(parser)
    package = parser.parse_args().torchaudio
    path = find_torchaudio(package, FILE)
    if path is None:
        print(f"peer: {missing(package, FILE)}")
        return
    torch.set_num_threads(1)
    measure("AN4 size, N 8, T 300", EGS / "an4/conf/slimmable.yaml", 300, 40, path)
    measure("30 M preset, N 8, T 1000", EGS / "librispeech/conf/slimmable_30M_bpe500.yaml", 1000, 8, path)


if __name__ == "__main__":
    main()
