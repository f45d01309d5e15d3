"""Real-time factor and peak memory of a stand-alone model, measured in a separate process.

A new process can use one thread without changing the caller's thread count, and its memory peak is not affected by the
caller's other work.
"""

from __future__ import annotations

import io
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slimasr.config.model import ModelConfig
from slimasr.decoding.greedy import greedy_search
from slimasr.errors import UserError
from slimasr.files import to_json, writing
from slimasr.models.build import build_model
from slimasr.models.transducer import FRAMES_PER_SECOND, Transducer

REPEATS = 7
"""How many times the audio is recognised and timed, after one time that is not timed."""
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Runtime:
    """Speed and memory of encoder and greedy search at batch 1; features are computed beforehand.

    Attributes:
        rtf: seconds of computation per second of audio, median over the repeats.
        rtf_p90: 90th percentile over the repeats.
        peak_memory: highest resident memory in bytes while audio is recognised, minus that of the same process after
            warm-up without the model. This includes weights, activations and memory kept by the allocator, but not
            the library itself.
    """

    rtf: float
    rtf_p90: float
    peak_memory: int

    def to_dict(self) -> dict[str, float]:
        """Return the values as costs of a subnet."""
        return {"rtf": self.rtf, "rtf_p90": self.rtf_p90, "peak_memory": self.peak_memory}


def measure_runtime(
    model: Transducer,
    features: Tensor,
    *,
    threads: int = 1,
    max_symbols_per_frame: int = 1,
    repeats: int = REPEATS,
) -> Runtime:
    """Measure a stand-alone model in a new process.

    Args:
        model: a result of `Transducer.extract`, on the CPU.
        features: (T, F) log-mel features of the audio, on the CPU.
        threads: number of threads that the process uses.
        max_symbols_per_frame: limit of the greedy search.
        repeats: how many times the audio is recognised and timed.

    Raises:
        UserError: the measuring process failed.
    """
    with tempfile.TemporaryDirectory(prefix="slimasr-") as folder:
        path = Path(folder) / "model.pt"
        # Only tensors and plain values, which torch loads without running code.
        payload = {
            "config": model.config.model_dump(mode="json"),
            "vocab_size": model.vocab_size,
            "model": model.state_dict(),
            "features": features,
            "max_symbols_per_frame": max_symbols_per_frame,
            "repeats": repeats,
        }
        with writing(path):
            # torch.save itself reports a full disk as a RuntimeError; writing bytes raises the OSError of `writing`.
            content = io.BytesIO()
            torch.save(payload, content)
            path.write_bytes(content.getbuffer())
        # Numerical libraries read their thread count when they are loaded, before `_measure` could set it.
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "slimasr.measure.runtime", str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        # The last line of a traceback is the error itself.
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"exit status {done.returncode}"
        raise UserError(f"RTF could not be measured: {reason}")
    # Libraries may print before the result.
    return Runtime(**json.loads(done.stdout.splitlines()[-1]))


def noise_features(model: Transducer, seconds: float) -> Tensor:
    """Draw (T, F) random features with the mean and variance that the model expects, for timing without data."""
    frames = round(seconds * FRAMES_PER_SECOND)
    noise = torch.randn(frames, model.config.num_mel_bins, generator=torch.Generator().manual_seed(0))
    return noise * model.feature_std.cpu() + model.feature_mean.cpu()


def _measure(path: Path) -> dict[str, float]:
    """Run in the measuring process: warm up on a tiny model, then load, run and time the real one."""
    _recognise(build_model(_tiny_model(), None, 8, (1.0,)).eval(), torch.zeros(FRAMES_PER_SECOND, 80), 1)
    before = _memory("VmRSS")
    # Mapped, so that reading the file does not hold a second copy of the weights.
    payload = torch.load(path, weights_only=True, mmap=True)
    model = _load(payload)
    features = payload["features"].clone()
    symbols = payload["max_symbols_per_frame"]
    repeats = payload["repeats"]
    # Pages of the mapped file count as resident memory as long as it is mapped.
    del payload
    # Building the model may take more memory than running it, so the peak begins here.
    _forget_peak()
    # Not timed: the first pass allocates memory that the others reuse.
    _recognise(model, features, symbols)
    times = sorted(_timed(model, features, symbols) for _ in range(repeats))
    seconds = features.shape[0] / FRAMES_PER_SECOND
    # The nearest rank: with 7 repeats, the sixth.
    p90 = times[round(0.9 * (len(times) - 1))]
    return {
        "rtf": statistics.median(times) / seconds,
        "rtf_p90": p90 / seconds,
        "peak_memory": max(0, _memory("VmHWM") - before),
    }


def _load(payload: dict[str, Any]) -> Transducer:
    """Load the model; its weights are copied from the mapped file, so that memory holds them only once."""
    model = build_model(ModelConfig.model_validate(payload["config"]), None, payload["vocab_size"], (1.0,))
    model.load_state_dict(payload["model"])
    return model.eval()


@torch.inference_mode()
def _recognise(model: Transducer, features: Tensor, max_symbols_per_frame: int) -> None:
    """Run encoder and greedy search on (T, F) features, as a batch of one utterance."""
    output = model.encode(features.unsqueeze(0), torch.tensor([features.shape[0]]))
    greedy_search(model, model.project_encoder(output.out), output.lens, max_symbols_per_frame)


def _timed(model: Transducer, features: Tensor, max_symbols_per_frame: int) -> float:
    """Return the seconds that recognition takes."""
    start = time.perf_counter()
    _recognise(model, features, max_symbols_per_frame)
    return time.perf_counter() - start


def _tiny_model() -> ModelConfig:
    """Configure a model just large enough to load every kernel that the real one needs before memory is measured."""
    encoder = {"d_model": 8, "num_layers": 1, "num_heads": 1, "head_dim": 8, "ffn_dim": 8, "kernel_size": 3}
    return ModelConfig.model_validate(
        {
            "frontend": {"kind": "conv", "channels": 4},
            "encoder": {"kind": "conformer", **encoder},
            "predictor": {"kind": "stateless", "dim": 8},
            "joiner": {"dim": 8},
        }
    )


def _forget_peak() -> None:
    """Reset the kernel's high-water mark of resident memory to its present value (Linux)."""
    try:
        # The value 5 resets VmHWM alone (proc(5)).
        _CLEAR_REFS.write_text("5")
    except OSError:
        # Without this file the peak includes loading, so it is an upper bound.
        return


def _memory(field: str) -> int:
    """Return the bytes resident now (``VmRSS``) or at the peak (``VmHWM``); without /proc, the peak for both."""
    if _STATUS.exists():
        found = re.search(rf"{field}:\s+(\d+) kB", _STATUS.read_text())
        if found:
            return int(found.group(1)) * 1024
    # macOS counts bytes, other systems kB.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    # `measure_runtime` starts this and reads the last line of the output.
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    print(to_json(_measure(Path(sys.argv[1]))))
