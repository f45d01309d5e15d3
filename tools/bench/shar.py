"""Shards read as a stream: utterances per second beside lhotse's own sampler and dataset, and memory.

The shards are made up: utterances of 1 to 5 s of random features, listed as often as needed under other ids.
Every figure comes from a fresh process.

    shar.py                     both of the following
    shar.py deliver             utterances per second with 0, 1 and 2 loader workers
    shar.py memory [PNG]        memory and time to the first batch with 12 k, 100 k and 1 M utterances, also as a plot
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import report, report_figures
from lhotse import CutSet, Features, MonoCut, SupervisionSegment
from lhotse.dataset import DynamicBucketingSampler, IterableDatasetWrapper, K2SpeechRecognitionDataset
from lhotse.dataset.input_strategies import PrecomputedFeatures
from lhotse.features.io import MemoryRawWriter
from lhotse.shar import SharWriter

from slimasr.config.load import parse_config
from slimasr.config.schema import Config
from slimasr.data.files import DataFolder
from slimasr.data.identity.digests import Identity
from slimasr.data.memory.sampling import RankInfo
from slimasr.data.shar.files import ShardFiles
from slimasr.data.shar.opening import open_reading
from slimasr.data.shar.record import write_shar_record
from slimasr.data.shar.source import ShardSource

SHARDS = 4
SHARD_CUTS = 1000
UTTERANCES = (12_000, 100_000, 1_000_000)
"""Sizes of the sets whose memory is measured: multiples of the utterances on disk, which are 4,000."""

MEL_BINS = 80
WARM_UP = 30
BATCHES = 80
MEGABYTE = 2**20
SHARE_AT_LEAST = 0.9
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "sleeps", "until", "noon")


class Letters:
    """A tokenizer of letters."""

    unk_id = 2
    vocab_size = 30

    def encode(self, text: str) -> list[int]:
        """Token ids."""
        return [3 + (ord(letter) - 97) % 27 for letter in text]


def config_of(num_workers: int) -> Config:
    """A recipe that reads shards of features."""
    data = {"corpus": "digits", "storage": "shar", "num_workers": num_workers, "batch_seconds": 100.0}
    return parse_config({"name": "bench", "data": data, "training": {"num_steps": 10**6}})


def write_shards(folder: Path) -> list[ShardFiles]:
    """The shards on disk."""
    rng = random.Random(0)
    noise = np.random.default_rng(0)
    with SharWriter(folder, fields={"features": "lilcom"}, shard_size=SHARD_CUTS) as writer:
        for number in range(SHARDS * SHARD_CUTS):
            writer.write(made_cut(f"utterance-{number:06d}", rng, noise))
    names = (folder / f"cuts.{index:06d}.jsonl.gz" for index in range(SHARDS))
    return [ShardFiles(str(name), str(archive_of(name)), SHARD_CUTS) for name in names]


def archive_of(manifest: Path) -> Path:
    """The archive that belongs to a manifest."""
    return manifest.with_name(manifest.name.replace("cuts.", "features.").replace(".jsonl.gz", ".tar"))


def made_cut(name: str, rng: random.Random, noise: np.random.Generator) -> MonoCut:
    """An utterance of random features."""
    frames = rng.randrange(100, 500)
    writer = MemoryRawWriter()
    values = noise.normal(-8.0, 3.0, (frames, MEL_BINS)).astype(np.float32)
    stored = {"storage_type": writer.name, "storage_path": "", "storage_key": writer.write(name, values)}
    shape = {"num_frames": frames, "num_features": MEL_BINS, "frame_shift": 0.01, "sampling_rate": 16000}
    features = Features(
        type="kaldi-fbank", start=0, duration=frames / 100, channels=0, recording_id=name, **shape, **stored
    )
    text = " ".join(rng.choices(WORDS, k=frames // 50))
    supervision = SupervisionSegment(name, name, 0.0, frames / 100, text=text)
    return MonoCut(name, 0.0, frames / 100, 0, supervisions=[supervision], features=features)


def record_set(root: Path, shards: list[ShardFiles], utterances: int) -> None:
    """Record a training set of this many utterances: the shards, again and again under other ids."""
    times = range(utterances // (len(shards) * SHARD_CUTS))
    listed = [ShardFiles(item.cuts, item.data, SHARD_CUTS, f"{again}-") for again in times for item in shards]
    write_shar_record(config_of(0), DataFolder(root), "train", listed, Identity("", "", "", ""))


def batches_of(root: Path, num_workers: int) -> Iterator[Any]:
    """The stream that a training reads."""
    config = config_of(num_workers)
    reading = open_reading(config, DataFolder(root), Letters(), lambda frames: frames // 4)  # type: ignore[arg-type]
    source = ShardSource(reading, RankInfo(), [1], lambda value: [value], lambda seen, bad: None)
    return source.batches_at(None)


def batches_of_lhotse(folder: Path, num_workers: int) -> Iterator[Any]:
    """lhotse's own way from the same shards to padded features and texts, in batches of the same size."""
    cuts = CutSet.from_shar(in_dir=folder, shuffle_shards=True, stateful_shuffle=True, split_for_dataloading=True)
    shar = config_of(0).data.shar
    # As `open_reading`: bins from a sample.
    sampler = DynamicBucketingSampler(
        cuts.repeat(),
        max_duration=100.0,
        num_buckets=10,
        shuffle=True,
        buffer_size=shar.buffer_cuts,
        num_cuts_for_bins_estimate=1000,
        rank=0,
        world_size=1,
    )
    dataset = K2SpeechRecognitionDataset(return_cuts=True, input_strategy=PrecomputedFeatures())
    wrapped = IterableDatasetWrapper(dataset, sampler)
    return iter(torch.utils.data.DataLoader(wrapped, batch_size=None, num_workers=num_workers))


def deliver(kind: str, folder: str, num_workers: str) -> dict[str, float]:
    """Utterances and frames per second after a warm-up."""
    torch.set_num_threads(1)
    make = batches_of if kind == "slimasr" else batches_of_lhotse
    batches = make(Path(folder), int(num_workers))
    for _ in islice(batches, WARM_UP):
        pass
    start, used = time.perf_counter(), processor_seconds()
    count = 0
    for batch in islice(batches, BATCHES):
        count += len(batch) if kind == "slimasr" else len(batch["supervisions"]["text"])
    seconds, used = time.perf_counter() - start, processor_seconds() - used
    return {"per_second": count / seconds, "per_processor_second": count / used}


def processor_seconds() -> float:
    """Processor time of this process and its workers, which other programs on the machine do not change."""
    ticks = os.sysconf("SC_CLK_TCK")
    seconds = time.process_time()
    for child in children():
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        # utime and stime, the 14th and 15th field of proc(5).
        seconds += (int(fields[11]) + int(fields[12])) / ticks
    return seconds


def memory(root: str, num_workers: str) -> dict[str, Any]:
    """Memory above that before the shards were opened, and seconds to the first batch."""
    torch.set_num_threads(1)
    before = resident(os.getpid())
    start = time.perf_counter()
    batches = batches_of(Path(root), int(num_workers))
    next(batches)
    first = time.perf_counter() - start
    own, others = 0, 0
    for number, _ in enumerate(islice(batches, BATCHES)):
        if number % 20 == 0:
            own = max(own, resident(os.getpid()) - before)
            others = max([others, *(private(child) for child in children())])
    return {"first": first, "own": own / MEGABYTE, "worker": others / MEGABYTE}


def resident(process: int) -> int:
    """Resident memory of a process in bytes."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def private(process: int) -> int:
    """Memory of a forked process in bytes that it does not share with the one that started it."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def children() -> list[int]:
    """The worker processes."""
    return [int(item) for item in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def in_child(*arguments: str) -> dict[str, Any]:
    """The result of a function of this module in a fresh process."""
    run = subprocess.run([sys.executable, __file__, "child", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return result


def compare_delivery() -> None:
    """Print utterances per second of both ways, which run in turn."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder = root / "shar"
        folder.mkdir()
        shards = write_shards(folder)
        record_set(root, shards, 4_000)
        for workers in (0, 1, 2):
            own, others = [], []
            for _ in range(3):
                others.append(in_child("deliver", "lhotse", str(folder), str(workers)))
                own.append(in_child("deliver", "slimasr", str(root), str(workers)))
            for figure in ("per_second", "per_processor_second"):
                best = [max(found[figure] for found in side) for side in (own, others)]
                name = f"utterances {figure.replace('_', ' ')}, {workers} workers"
                report(name, best[0], best[1], best[0] / best[1], SHARE_AT_LEAST)


def compare_memory(picture: str | None) -> None:
    """Print memory and seconds to the first batch for growing numbers of utterances."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder = root / "shar"
        folder.mkdir()
        shards = write_shards(folder)
        for utterances in UTTERANCES:
            record_set(root, shards, utterances)
            for workers in (0, 2):
                found = in_child("memory", str(root), str(workers))
                rows.append((utterances, workers, found))
                report_figures(f"{utterances} utterances, {workers} workers", **found)
    if picture is not None:
        plot(rows, picture)


def plot(rows: list[tuple[int, int, dict[str, Any]]], picture: str) -> None:
    """Draw memory against the number of utterances."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    alone = [(count, found["own"]) for count, workers, found in rows if workers == 0]
    worker = [(count, found["worker"]) for count, workers, found in rows if workers]
    for points, label in ((alone, "process without workers"), (worker, "loader worker")):
        pyplot.plot(*zip(*points, strict=True), marker="o", label=label)
    pyplot.xscale("log")
    pyplot.ylim(bottom=0)
    pyplot.xlabel("utterances")
    pyplot.ylabel("memory above an empty process (MB)")
    pyplot.legend()
    pyplot.savefig(picture)


def main() -> None:
    """Run what the command line asks for."""
    kind, *rest = sys.argv[1:] or ["all"]
    if kind == "child":
        functions: dict[str, Any] = {"deliver": deliver, "memory": memory}
        print(json.dumps(functions[rest[0]](*rest[1:])))
    if kind in ("deliver", "all"):
        compare_delivery()
    if kind in ("memory", "all"):
        compare_memory(rest[0] if rest else None)


if __name__ == "__main__":
    main()
