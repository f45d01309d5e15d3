"""Streaming encoders in onnxruntime: the time of a chunk must not grow with what has been heard before.

The encoders are those of AN4's presets with random weights, at their largest size, as `slimasr-export --streaming`
writes them. A chunk at the beginning of a stream and one after many others take turns on one thread; a side's figure is
the smallest processor time of its turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from common import report
from torch import Tensor

from slimasr.config.load import load_config
from slimasr.export.session import Session
from slimasr.export.streaming import Stream, stream_of, streaming_part
from slimasr.export.trace import deployable, traced
from slimasr.models.base import FRAMES_PER_SECOND
from slimasr.models.build import build_model
from slimasr.models.transducer import Transducer
from slimasr.supernet.build import build_space
from slimasr.supernet.subnet import Subnet

CONF = Path(__file__).resolve().parents[2] / "egs" / "an4" / "conf"
PRESETS = {"MH-SSM": CONF / "streaming.yaml", "Emformer": CONF / "collaborative.yaml"}
OLD = 250
"""Chunks before the later one."""
OLD_AGAINST_NEW = 1.1


@dataclass(frozen=True)
class Deployed:
    """A streaming encoder in onnxruntime, and how it is fed."""

    session: Session
    stream: Stream
    bins: int

    def chunk(self, states: Sequence[Tensor], chunks_before: int) -> list[Tensor]:
        """Encode one chunk of noise; return the next states."""
        seen = [torch.tensor([chunks_before * self.stream.chunk_frames])] if self.stream.carrier == "conformer" else []
        return self.session.run(torch.randn(1, self.stream.window_frames, self.bins), *states, *seen)[1:]


def deploy(preset: Path, folder: Path) -> Deployed:
    """Export the largest size of a preset with random weights."""
    config = load_config(preset)
    torch.manual_seed(0)
    built = build_model(config.model, None, config.tokenizer.vocab_size, build_space(config).widths).eval()
    model = deployable(built)
    assert isinstance(model, Transducer)
    path = folder / "encoder.onnx"
    path.write_bytes(traced(streaming_part(model, Subnet())).SerializeToString())
    return Deployed(Session(path), stream_of(model, Subnet()), model.config.num_mel_bins)


def compare_ages(name: str, deployed: Deployed, old: int, turns: int) -> None:
    """Report the time of a chunk after ``old`` others against that of the first one."""
    states = {0: [torch.zeros(shape) for shape in deployed.stream.states]}
    later = states[0]
    for number in range(old):
        later = deployed.chunk(later, number)
    states[old] = later
    fastest = dict.fromkeys(states, float("inf"))
    for _ in range(turns):
        for age, before in states.items():
            start = time.process_time()
            deployed.chunk(before, age)
            fastest[age] = min(fastest[age], 1e3 * (time.process_time() - start))
    seconds = deployed.stream.chunk_frames / FRAMES_PER_SECOND
    title = f"{name} as a stream in onnxruntime, ms of a chunk of {1e3 * seconds:g} ms after {old} others and at first"
    report(title, fastest[old], fastest[0], fastest[old] / fastest[0], OLD_AGAINST_NEW)


def main() -> None:
    """Measure both encoders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=50)
    parser.add_argument("--chunks", type=int, default=OLD, help="chunks before the later one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, preset in PRESETS.items():
        with TemporaryDirectory(prefix="slimasr-") as folder:
            compare_ages(name, deploy(preset, Path(folder)), options.chunks, options.turns)


if __name__ == "__main__":
    main()
