"""MH-SSM encoders in onnxruntime: blocks against the FFT form in torch and direct sums, and how time grows with length.

The encoder is that of AN4's preset with random weights, on one utterance with one thread. All sides take turns, and a
side's figure is the smallest processor time of its turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from common import report, report_figures

from slimasr.config.load import load_config
from slimasr.config.schema import Config
from slimasr.export.parts import encoder_part
from slimasr.export.trace import traced
from slimasr.measure.runtime import noise_features
from slimasr.models.base import SpeechModel
from slimasr.models.build import build_model
from slimasr.supernet.subnet import Subnet

PRESET = Path(__file__).resolve().parents[2] / "egs/an4/conf/todm.yaml"
SHORT, LONG = 10.0, 30.0
AGAINST_FFT = 1.2
AGAINST_SHORT = 4.0
KINDS = ("fft", "blocked", "real")

Call = Callable[[torch.Tensor], object]


def models(config: Config) -> dict[str, SpeechModel]:
    """Build a recipe's model with each form of the convolution, with equal weights."""
    built = {}
    for kind in KINDS:
        torch.manual_seed(0)
        encoder = config.model.encoder.model_copy(update={"convolution": kind})
        model_config = config.model.model_copy(update={"encoder": encoder})
        built[kind] = build_model(model_config, None, config.tokenizer.vocab_size, (1.0,)).eval()
    return built


def in_torch(model: SpeechModel) -> Call:
    """Return a function that encodes (T, F) features in torch."""

    def run(x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            encoded = model.encode(x.unsqueeze(0), torch.tensor([len(x)]))
            return model.project_encoder(encoded.out)  # type: ignore[operator]

    return run


def in_onnxruntime(model: SpeechModel) -> tuple[Call, dict[str, float]]:
    """Export the encoder; return a function that encodes (T, F) features in onnxruntime, and figures of the file."""
    proto = traced(encoder_part(model, Subnet()))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    before = resident_megabytes()
    start = time.process_time()
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    load = time.process_time() - start

    def run(x: torch.Tensor) -> torch.Tensor:
        feeds: dict[str, Any] = {"x": x.unsqueeze(0).numpy(), "x_lens": np.array([len(x)])}
        return torch.from_numpy(session.run(None, feeds)[0])

    added = resident_megabytes() - before
    return run, {"nodes": len(proto.graph.node), "megabytes": proto.ByteSize() / 1e6, "load": load, "resident": added}


def resident_megabytes() -> float:
    """Return the resident memory of this process (Linux)."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024 / 1e6


def smallest_seconds(calls: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Return the smallest processor time of every call, which take turns."""
    found = dict.fromkeys(calls, float("inf"))
    for _ in range(turns):
        for name, call in calls.items():
            start = time.process_time()
            call()
            found[name] = min(found[name], time.process_time() - start)
    return found


def compare(config: Config, turns: int, short: float = SHORT, long: float = LONG) -> None:
    """Report the times of the forms on utterances of two lengths in seconds."""
    built = models(config)
    sides: dict[str, Call] = {"fft": in_torch(built["fft"])}
    for kind in ("blocked", "real"):
        sides[kind], figures = in_onnxruntime(built[kind])
        report_figures(
            f"MH-SSM encoder in onnxruntime, {kind}: the file, seconds to load, megabytes resident", **figures
        )
    times = {}
    for seconds in (short, long):
        x = noise_features(built["fft"], seconds)
        want = sides["fft"](x)
        for kind in ("blocked", "real"):
            torch.testing.assert_close(sides[kind](x)[0], want[0], atol=1e-3, rtol=1e-3)  # type: ignore[index]
        times[seconds] = smallest_seconds({kind: partial(side, x) for kind, side in sides.items()}, turns)
        ours, other = times[seconds]["blocked"], times[seconds]["fft"]
        target = AGAINST_FFT if seconds == short else None
        name = f"MH-SSM encoder, {seconds:g} s of speech, blocks in onnxruntime against FFT in torch, seconds"
        report(name, ours, other, ours / other, target, direct_sums=times[seconds]["real"])
    ours, other = (times[seconds]["blocked"] for seconds in (long, short))
    direct = times[long]["real"] / times[short]["real"]
    name = f"MH-SSM encoder in blocks, {long:g} s against {short:g} s of speech, seconds"
    report(name, ours, other, ours / other, AGAINST_SHORT, direct_sums_ratio=direct)


def main() -> None:
    """Measure the preset's encoder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    compare(load_config(PRESET), options.turns)


if __name__ == "__main__":
    main()
