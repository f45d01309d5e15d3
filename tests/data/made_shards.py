"""Made-up shards, written by lhotse's own writer, and a recipe that reads them."""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from lhotse import Features, MonoCut, MultiCut, Recording, SupervisionSegment
from lhotse.features.io import MemoryRawWriter
from lhotse.shar import SharWriter

from slimasr.config.schema import Config
from slimasr.data.augmentation.augment import AugmentationSource
from slimasr.data.files import BadUtterance
from slimasr.data.manifests.normalise import read_rules
from slimasr.data.memory.sampling import RankInfo
from slimasr.data.shar.buckets import DurationBuckets
from slimasr.data.shar.files import ShardFiles, read_listed
from slimasr.data.shar.found import shards_of
from slimasr.data.shar.opening import BlockCollators
from slimasr.data.shar.order import make_pools
from slimasr.data.shar.reader import Reading
from slimasr.data.shar.source import ShardSource
from tests.training.kit import MEL_BINS, SENTENCES, tiny_config, tiny_tokenizer


def made_cut(
    name: str, rng: random.Random, *, text: str | None = None, bins: int = MEL_BINS, rate: int = 16000
) -> MonoCut:
    """An utterance of noise of 0.6 to 1.2 s with a sentence of the made-up language."""
    frames = rng.randrange(60, 120)
    writer = MemoryRawWriter()
    values = np.full((frames, bins), rng.random(), dtype=np.float32)
    features = Features(
        type="kaldi-fbank",
        num_frames=frames,
        num_features=bins,
        frame_shift=0.01,
        sampling_rate=rate,
        start=0,
        duration=frames / 100,
        storage_type=writer.name,
        storage_path="",
        storage_key=writer.write(name, values),
        channels=0,
    )
    spoken = rng.choice(SENTENCES) if text is None else text
    supervision = SupervisionSegment(name, name, 0.0, frames / 100, text=spoken)
    return MonoCut(name, 0.0, frames / 100, 0, supervisions=[supervision], features=features)


def heard_cut(path: Path, rng: random.Random, *, channels: int = 1, rate: int = 16000) -> MonoCut | MultiCut:
    """An utterance as `made_cut` makes them, with a file of audio; its second channel has half the level."""
    frames = rng.randrange(60, 120)
    noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(frames * rate // 100)
    soundfile.write(path, np.stack([0.1 * noise / (1 + channel) for channel in range(channels)], axis=1), rate)
    cut = Recording.from_file(path, recording_id=path.stem).to_cut()
    cut.supervisions = [SupervisionSegment(path.stem, path.stem, 0.0, cut.duration, text=rng.choice(SENTENCES))]
    return cut


def write_shards(
    folder: Path, sizes: Sequence[int], prefix: str = "u", *, audio: bool = False, first: int = 0, **options: Any
) -> Path:
    """A Shar folder with shards of these sizes and the utterances u0, u1 and so on, as features or as audio."""
    rng = random.Random(first)
    number = first
    folder.mkdir(parents=True)
    fields = {"recording": "flac"} if audio else {"features": "lilcom"}
    files = folder.with_name(f"{folder.name}-audio")
    files.mkdir(exist_ok=True)
    for index, size in enumerate(sizes):
        with SharWriter(folder, fields=fields, shard_size=size, shard_offset=index) as writer:
            for _ in range(size):
                name = f"{prefix}{number}"
                made = heard_cut(files / f"{name}.wav", rng, **options) if audio else made_cut(name, rng, **options)
                writer.write(made)
                number += 1
    return folder


def spoil_utterances(archive: Path, names: Sequence[str]) -> None:
    """Damage the features or the audio of some utterances; the archive stays as it is otherwise."""
    with tarfile.open(archive) as before:
        members = [(member, before.extractfile(member).read()) for member in before.getmembers()]  # type: ignore[union-attr]
    with tarfile.open(archive, "w") as after:
        for member, content in members:
            stem, _, ending = member.name.rpartition(".")
            if stem in names and ending != "json":
                middle = len(content) // 2
                content = content[:middle] + bytes(255 - value for value in content[middle:])
            member.size = len(content)
            after.addfile(member, io.BytesIO(content))


def shards_in(folder: Path, config: Config) -> list[ShardFiles]:
    """The shards of a folder, with their numbers of utterances."""
    return [
        ShardFiles(shard.cuts, shard.data, len(list(read_listed(shard)))) for _, shard in shards_of(folder, config.data)
    ]


def recipe(**data: Any) -> Config:
    """A recipe that reads shards of features."""
    shar = {"buffer_cuts": 12, **data.pop("shar", {})}
    options = {"corpus": "digits", "storage": "shar", "batch_seconds": 3.0, "num_buckets": 3, "max_cut_seconds": 5.0}
    return tiny_config(data={**options, **data, "shar": shar}, training={"num_epochs": None, "num_steps": 10})


def source_of(
    config: Config,
    sets: dict[str, list[ShardFiles]],
    *,
    process: RankInfo = RankInfo(),
    gather: Callable[[Any], list[Any]] = lambda value: [value],
    on_block: Callable[[int, Sequence[BadUtterance]], None] = lambda seen, bad: None,
    durations: Sequence[float] = (0.6, 0.7, 0.8, 1.0, 1.2),
) -> ShardSource:
    """The source of one process."""
    tokenizer = tiny_tokenizer()
    pools = make_pools(sets, config.data.set_weights)
    buckets = DurationBuckets.of(durations, config.data)
    augmentation = None if config.data.gain is None else AugmentationSource(config.data)
    collators = BlockCollators(config, tokenizer, augmentation=augmentation)
    rules = read_rules(config.data.text)
    reading = Reading(config, tokenizer, lambda frames: frames // 4, pools, buckets, rules, config.seed, collators)
    return ShardSource(reading, process, [10], gather, on_block)
