"""One side of `data.py`: times and memory of the training data of whichever slimasr is installed or on PYTHONPATH.

It uses only what older revisions have too, and prints one object of JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from common import resident_bytes
from made_up_data import recipe

import slimasr
from slimasr.data.dataloading import BatchSource
from slimasr.data.tokenizer import load_tokenizer

T = TypeVar("T")


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """Return what a call returns, and its processor seconds."""
    start = time.process_time()
    result = call()
    return result, time.process_time() - start


def encoder_frames(num_frames: int) -> int:
    """Encoder frames of the usual front end, two convolutions of stride 2."""
    return max(0, ((num_frames - 1) // 2 - 1) // 2)


def start_up(data_dir: Path, speeds: list[float], epochs: int) -> dict[str, float | str]:
    """Open the training data, count the steps of epochs, and plan an epoch until its first batch."""
    config = recipe(speeds=speeds, storage="on_the_fly" if len(speeds) > 1 else "precomputed")
    tokenizer = load_tokenizer(data_dir / "lang_bpe_500")
    megabytes = {"empty_mb": resident_bytes("VmRSS") / 1e6}
    source, opened = timed(lambda: BatchSource(config, data_dir, tokenizer, encoder_frames=encoder_frames))
    megabytes["opened_mb"] = resident_bytes("VmRSS") / 1e6
    _, counted = timed(lambda: [source.num_train_batches(epoch) for epoch in range(1, epochs + 1)])
    batches = source.train_batches(1)
    _, planned = timed(lambda: next(batches))
    megabytes["planned_mb"] = resident_bytes("VmRSS") / 1e6
    megabytes["peak_mb"] = resident_bytes("VmHWM") / 1e6
    seconds = {"open_s": opened, "count_s_of_an_epoch": counted / epochs, "plan_s": planned}
    return {**seconds, **megabytes, "code": str(Path(slimasr.__file__).parent)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--speeds", type=float, nargs="+", default=[1.0])
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(start_up(arguments.data, arguments.speeds, arguments.epochs)))


if __name__ == "__main__":
    main()
