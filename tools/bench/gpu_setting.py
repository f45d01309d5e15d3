"""Where `gpu` runs, on which models and batches, and for how long."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from common import report_figures
from steps import noise_batch

from slimasr.config.load import load_config
from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.training.distributed import World

EGS = Path(__file__).resolve().parents[2] / "egs"
PRESET = EGS / "librispeech/conf/slimmable_30M_bpe500.yaml"


@dataclass(frozen=True)
class Size:
    """A Conformer supernet: what differs from the preset, and the smaller sizes of the space of layers."""

    name: str
    depths: list[int]
    ffn: list[int]
    changes: tuple[str, ...] = ()

    def config(self, method: str, *more: str) -> Config:
        """Return the recipe of a training method at this size."""
        units = f"{{ffn1: {self.ffn}, ffn2: {self.ffn}}}"
        of_method = {
            "separate": ("method.kind=separate", "method.subnet='1.0'"),
            "slimmable": (),
            "sandwich": (
                "method.kind=todm",
                "space.kind=layers",
                f"space.depths={self.depths}",
                f"space.units={units}",
            ),
        }
        return load_config(PRESET, (*self.changes, *of_method[method], *more))


LARGE = ("model.encoder.d_model=512", "model.encoder.num_heads=8", "model.encoder.ffn_dim=2048")
TINY = (
    *("model.encoder.d_model=16", "model.encoder.num_layers=3", "model.encoder.num_heads=4"),
    *("model.encoder.head_dim=4", "model.encoder.ffn_dim=32", "model.encoder.kernel_size=3"),
    *("model.frontend.channels=4", "model.joiner.dim=8", "tokenizer.vocab_size=20"),
    *("model.predictor.dim=8", "model.predictor.embedding_dim=8", "model.predictor.num_layers=1"),
)


@dataclass(frozen=True)
class Setting:
    """Where the benchmark runs, and on what.

    Attributes:
        device: the device.
        sizes: models, the smallest first.
        utterances: utterances of a batch.
        seconds: their length.
        precisions: ``training.precision`` and the type of its matrix products.
        repeats: steps that are timed.
        products: sizes of the square matrices whose product gives the device's speed.
        data: folder with AN4's features, None = without real batches.
    """

    device: torch.device
    sizes: tuple[Size, ...]
    utterances: int
    seconds: float
    precisions: dict[str, torch.dtype]
    repeats: int
    products: tuple[int, ...]
    data: Path | None

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    @property
    def world(self) -> World:
        """One process on the device."""
        return World(device=self.device)

    def batch(self, config: Config) -> Batch:
        """Make the batch of noise."""
        return noise_batch(config, self.utterances, self.seconds)

    def wait(self) -> None:
        """Wait for all work queued on the device."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def time(self, call: Callable[[], object], repeats: int, warm_ups: int = 2) -> float:
        """Return the median seconds of a call, with the work that it queues."""
        for _ in range(warm_ups):
            call()
        seconds = []
        for _ in range(repeats):
            self.wait()
            start = time.perf_counter()
            call()
            self.wait()
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)


def setting_of(device: str, data: Path | None) -> Setting:
    """Return sizes for a GPU, or small ones for a CPU, whose whole run takes less than a minute."""
    precisions = {"float32": torch.float32, "bf16": torch.bfloat16}
    if device == "cpu":
        # Several threads lose more than they gain on tiny models, and much more beside other processes.
        torch.set_num_threads(1)
        tiny = Size("tiny", [3, 2], [32, 16], TINY)
        return Setting(torch.device("cpu"), (tiny,), 2, 1.0, precisions, 1, (128,), data)
    precisions["fp16"] = torch.float16
    sizes = (
        Size("30M", [16, 12, 8], [1024, 512, 256]),
        Size("100M", [16, 12, 8], [2048, 1024, 512], (*LARGE, "model.frontend.channels=128")),
    )
    return Setting(torch.device("cuda", 0), sizes, 32, 12.0, precisions, 5, (2048, 4096, 8192), data)


class Clock:
    """The time that is left for a part of the benchmark."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.end - time.monotonic()

    def allows(self, name: str) -> bool:
        """Whether there is time for a measurement; if not, its line says so."""
        if self.left > 0:
            return True
        report_figures(name, skipped="no time left")
        return False


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Report a lack of memory in the block as the result of a measurement, and go on."""
    try:
        yield
    except torch.OutOfMemoryError:
        report_figures(name, failed="out of memory")
        torch.cuda.empty_cache()
