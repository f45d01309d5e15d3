"""Real-time factor and peak memory of a stand-alone model, measured in a separate process.

A new process can use one thread without changing the caller's thread count, and its memory peak is not affected by the
caller's other work. Loading the libraries takes such a process much longer than the measurement itself. So one process
loads them, and then copies itself (fork) for every model.
"""

from __future__ import annotations

import contextlib
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
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slimasr.config.model import ModelConfig, TransducerConfig, read_model
from slimasr.config.search import DecodingConfig
from slimasr.decoding.searches.label_search import search_whole
from slimasr.decoding.searches.label_searches import label_input, label_search
from slimasr.errors import UserError
from slimasr.files import to_json, writing
from slimasr.models.base import FRAMES_PER_SECOND, SpeechModel
from slimasr.models.build import build_model

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


class RuntimeMeter:
    """A process that measures one model after the other, each in a copy of itself.

    It ends when this object is no longer used.
    """

    def __init__(self, threads: int = 1) -> None:
        """Start the process; ``threads`` is the number of threads that it uses."""
        with contextlib.ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slimasr-")))
            # What the process writes on errors. It is read here meanwhile, so that writing must always append.
            self._said = stack.enter_context(tempfile.TemporaryFile("a+"))
            # Numerical libraries read their thread count when they are loaded.
            environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
            command = [sys.executable, "-m", "slimasr.measure.runtime"]
            pipe = subprocess.PIPE
            # Without a buffer, so that nothing is left to be written when a process that was killed is closed.
            process = subprocess.Popen(command, 0, env=environment, stdin=pipe, stdout=pipe, stderr=self._said)
            # `Popen` closes the input, with which the process ends, and waits for that.
            self._process = stack.enter_context(process)
            self._finalizer = weakref.finalize(self, stack.pop_all().close)

    def measure(
        self, model: SpeechModel, features: Tensor, *, max_symbols_per_frame: int = 1, repeats: int = REPEATS
    ) -> Runtime:
        """Measure a stand-alone model.

        Args:
            model: a result of `SpeechModel.extract`, on the CPU.
            features: (T, F) log-mel features of the audio, on the CPU.
            max_symbols_per_frame: limit of the greedy search.
            repeats: how many times the audio is recognised and timed.

        Raises:
            UserError: the measuring process failed.
        """
        path = self._folder / "model.pt"
        with writing(path):
            # torch.save itself reports a full disk as a RuntimeError; writing bytes raises the OSError of `writing`.
            content = io.BytesIO()
            torch.save(_payload(model, features, max_symbols_per_frame, repeats), content)
            path.write_bytes(content.getbuffer())
        answer = self._ask(path)
        path.unlink()
        return answer

    def _ask(self, path: Path) -> Runtime:
        """Let the process measure the model of a file."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        before = self._said.seek(0, io.SEEK_END)
        # A process that has ended takes no input, and its output is empty.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{path}\n".encode())
        answer = self._process.stdout.readline().decode()
        if answer.startswith("{"):
            return Runtime(**json.loads(answer))
        self._said.seek(before)
        # The last line of a traceback is the error itself.
        lines = self._said.read().strip().splitlines()
        reason = lines[-1] if lines else answer.strip() or f"exit status {self._process.wait()}"
        raise UserError(f"RTF could not be measured: {reason}")


def noise_features(model: SpeechModel, seconds: float) -> Tensor:
    """Draw (T, F) random features with the mean and variance that the model expects, for timing without data."""
    frames = round(seconds * FRAMES_PER_SECOND)
    noise = torch.randn(frames, model.config.num_mel_bins, generator=torch.Generator().manual_seed(0))
    return noise * model.feature_std.cpu() + model.feature_mean.cpu()


def _serve(threads: int) -> None:
    """Run the measuring process: answer every line of the input, which names a file, with a line of JSON.

    Every model is measured in a copy of this process, which itself never computes: a process with threads of its own
    cannot be copied, and memory that a model has used stays with a process.
    """
    # Libraries may print, too: what they print goes where errors go.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        copy = os.fork()
        if copy == 0:
            torch.set_num_threads(threads)
            answers.write(to_json(_measure(Path(line.strip()))) + "\n")
            answers.flush()
            # Without the clean-up of the original, which goes on.
            os._exit(0)
        _, status = os.waitpid(copy, 0)
        if status:
            answers.write(f"exit status {os.waitstatus_to_exitcode(status)}\n")
            answers.flush()


def _measure(path: Path) -> dict[str, float]:
    """Run in the measuring process: warm up on a tiny model, then load, run and time the real one."""
    tiny, silence, _, _ = _read(_write_tiny(path.with_name("tiny.pt")))
    _recognise(tiny, silence, 1)
    before = _memory("VmRSS")
    model, features, symbols, repeats = _read(path)
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


def _read(path: Path) -> tuple[SpeechModel, Tensor, int, int]:
    """Read model, features, most symbols per frame and repeats, so that memory holds the weights only once."""
    # Mapped, so that reading the file does not hold a second copy of the weights.
    payload = torch.load(path, weights_only=True, mmap=True)
    model = build_model(read_model(payload["config"]), None, payload["vocab_size"], (1.0,))
    # Weights and features are copied: pages of the mapped file count as resident memory as long as it is mapped.
    model.load_state_dict(payload["model"])
    return model.eval(), payload["features"].clone(), payload["max_symbols_per_frame"], payload["repeats"]


def _write_tiny(path: Path) -> Path:
    """Write a model just large enough to load every library function that the real one needs, and silence."""
    model = build_model(_tiny_model(), None, 8, (1.0,))
    torch.save(_payload(model, torch.zeros(FRAMES_PER_SECOND, 80), 1, 1), path)
    return path


def _payload(model: SpeechModel, features: Tensor, max_symbols_per_frame: int, repeats: int) -> dict[str, Any]:
    """Return what `_read` reads: only tensors and plain values, which torch loads without running code."""
    return {
        "config": model.config.model_dump(mode="json"),
        "vocab_size": model.vocab_size,
        "model": model.state_dict(),
        "features": features,
        "max_symbols_per_frame": max_symbols_per_frame,
        "repeats": repeats,
    }


@torch.inference_mode()
def _recognise(model: SpeechModel, features: Tensor, max_symbols_per_frame: int) -> None:
    """Run encoder and greedy search on (T, F) features, as a batch of one utterance."""
    output = model.encode(features.unsqueeze(0), torch.tensor([features.shape[0]]))
    search = label_search(model, DecodingConfig(max_symbols_per_frame=max_symbols_per_frame))
    search_whole(search, label_input(model, output.out), output.lens)


def _timed(model: SpeechModel, features: Tensor, max_symbols_per_frame: int) -> float:
    """Return the seconds that recognition takes."""
    start = time.perf_counter()
    _recognise(model, features, max_symbols_per_frame)
    return time.perf_counter() - start


def _tiny_model() -> ModelConfig:
    """Configure a model just large enough to load every kernel that the real one needs before memory is measured."""
    encoder = {"d_model": 8, "num_layers": 1, "num_heads": 1, "head_dim": 8, "ffn_dim": 8, "kernel_size": 3}
    return TransducerConfig.model_validate(
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
    # `RuntimeMeter` starts this.
    _serve(int(os.environ["OMP_NUM_THREADS"]))
