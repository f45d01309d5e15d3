"""One side of `data.py`: times and memory of the training data of whichever slimasr is installed or on PYTHONPATH.

It uses only what older revisions have too, perhaps in other modules, and prints one object of JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from common import resident_bytes
from lhotse.dataset import DynamicBucketingSampler, K2SpeechRecognitionDataset
from made_up_recipe import SET, recipe
from torch.utils.data import DataLoader

import slimasr
from slimasr.config.schema import Config
from slimasr.data.files import DataFolder

T = TypeVar("T")


def moved(name: str, *modules: str) -> Any:
    """Return what has this name in the first of some modules of ``slimasr.data`` that exists."""
    for module in modules:
        try:
            return getattr(importlib.import_module(f"slimasr.data.{module}"), name)
        except ModuleNotFoundError:
            continue
    raise SystemExit(f"no module has {name}: {', '.join(modules)}")


BatchSource = moved("BatchSource", "memory.dataloading", "dataloading")
read_feature_cuts = moved("read_feature_cuts", "memory.training_cuts", "training_cuts")
load_tokenizer = moved("load_tokenizer", "tokens.load", "tokenizer")


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


def lhotse_frames(data_dir: Path, config: Config) -> Iterator[int]:
    """Yield the frames of each batch of lhotse's own sampler and dataset, on the same features.

    Batches have equally many seconds, and the dataset pads features as our batches are padded.
    """
    sampler = DynamicBucketingSampler(
        read_feature_cuts(DataFolder(data_dir), SET),
        max_duration=config.data.batch_seconds,
        num_buckets=config.data.num_buckets,
        shuffle=True,
    )
    workers = config.data.num_workers
    loader = DataLoader(K2SpeechRecognitionDataset(), sampler=sampler, batch_size=None, num_workers=workers)
    return (int(batch["supervisions"]["num_frames"].sum()) for batch in loader)


def deliver(data_dir: Path, workers: int, turns: int = 6, batches: int = 12) -> dict[str, float | str]:
    """Utterances of 13 s per second of clock time that a loop receives from us and from lhotse.

    Both sides take turns of a few batches in one process, because other work disturbs the clock.
    """
    config = recipe(num_workers=workers, batch_seconds=100)
    tokenizer = load_tokenizer(data_dir / "lang_bpe_500")
    source = BatchSource(config, data_dir, tokenizer, encoder_frames=encoder_frames)
    sides = {
        "ours": (int(batch.x_lens.sum()) for batch in source.train_batches(1)),
        "lhotse": lhotse_frames(data_dir, config),
    }
    seconds = dict.fromkeys(sides, 0.0)
    frames = dict.fromkeys(sides, 0)
    # Workers start, and buckets fill, before the first batches arrive.
    for side in sides.values():
        sum(islice(side, 4))
    for _ in range(turns):
        for name, side in sides.items():
            start = time.perf_counter()
            frames[name] += sum(islice(side, batches))
            seconds[name] += time.perf_counter() - start
    rates = {name: frames[name] / seconds[name] / 1300 for name in sides}
    return {**rates, "code": str(Path(slimasr.__file__).parent)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("task", choices=["startup", "deliver"])
    parser.add_argument("--speeds", type=float, nargs="+", default=[1.0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--workers", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.task == "startup":
        print(json.dumps(start_up(arguments.data, arguments.speeds, arguments.epochs)))
    else:
        print(json.dumps(deliver(arguments.data, arguments.workers)))


if __name__ == "__main__":
    main()
