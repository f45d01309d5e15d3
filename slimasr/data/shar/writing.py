"""Stage 2 of a training set with ``data.storage: shar``: its utterances, in random order, as shards.

``features/shar/<set>/`` is a folder in lhotse's Shar format, with ``cuts.<name>.jsonl.gz`` and ``features.<name>.tar``
or ``recording.<name>.tar``. The name of a shard has its number and a digest of everything on which its content depends:
it stays valid as long as nothing of this changes, and an interrupted stage resumes with what is missing.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lhotse import AudioSource, Fbank, Features, MonoCut, Recording
from lhotse.cut import Cut
from lhotse.shar import ArrayTarWriter, AudioTarWriter
from lhotse.utils import fastcopy

from slimasr.config.schema import Config
from slimasr.data.features.shards import (
    Shard,
    at_speed,
    compute_shard,
    extract_usable,
    make_extractor,
    read_result,
    write_shard,
)
from slimasr.data.files import BadUtterance, DataFolder, iterate_cuts, read_cuts, write_cuts
from slimasr.data.identity.digests import audio_identity, digest_of
from slimasr.data.shar.files import FIELDS, Content, ShardFiles
from slimasr.files import replacing

STAGE_1 = "stage 1 (slimasr-prepare)"


@dataclass(frozen=True)
class SharShard(Shard):
    """A shard of a training set that is read as a stream.

    Attributes:
        content: what it holds.
        folder: the Shar folder of the set.
    """

    content: Content = "features"
    folder: Path = Path()

    @property
    def manifest(self) -> Path:
        """The manifest of the shard's usable cuts."""
        return self.folder / f"cuts.{self.stem.name}.jsonl.gz"

    @property
    def archive(self) -> Path:
        """The archive of their features or audio."""
        return self.folder / f"{FIELDS[self.content]}.{self.stem.name}.tar"

    @property
    def files(self) -> ShardFiles:
        """The names of the two, relative to the features folder."""
        manifest, archive = (str(path.relative_to(self.root)) for path in (self.manifest, self.archive))
        return ShardFiles(manifest, archive, read_result(self).num_cuts)


def shar_folder(folder: DataFolder, set_name: str) -> Path:
    """The folder of a set's shards."""
    return folder.features / "shar" / set_name


def make_shar_shards(config: Config, folder: DataFolder, set_name: str) -> list[SharShard]:
    """Divide the raw cuts of a set into shards, each a random part of the set."""
    cuts = sorted(read_cuts(folder.raw_cuts(set_name), STAGE_1), key=lambda cut: _drawn(cut.id))
    content = config.data.shar.content
    speed = config.data.speeds[0] if content == "features" else 1.0
    settings = [config.features.num_mel_bins, config.data.sampling_rate, content, speed]
    work = folder.features / "shards" / f"{set_name}.shar-{digest_of(settings)}"
    size = config.data.shar.shard_cuts
    shards = []
    for number, start in enumerate(range(0, len(cuts), size)):
        part = cuts[start : start + size]
        # A shard holds transcripts and speakers, too.
        described = [[audio_identity(cut), [item.to_dict() for item in cut.supervisions]] for cut in part]
        shard = SharShard(
            stem=work / f"{number:06d}-{digest_of([settings, described])}",
            root=folder.features,
            speed=speed,
            sampling_rate=config.data.sampling_rate,
            num_mel_bins=config.features.num_mel_bins,
            store=True,
            content=content,
            folder=shar_folder(folder, set_name),
        )
        if not shard.done:
            write_cuts(shard.cuts, part)
        shards.append(shard)
    return shards


def _drawn(utterance: str) -> bytes:
    """A random number of an utterance, by which a set is put into an order that its corpus does not determine."""
    return hashlib.blake2b(utterance.encode(), digest_size=8).digest()


def compute_any(shard: Shard) -> Shard:
    """Compute a shard of either kind and return it."""
    if not isinstance(shard, SharShard):
        return compute_shard(shard)
    bad: list[BadUtterance] = []
    write_shard(shard, _stored(shard, bad), bad)
    return shard


def _stored(shard: SharShard, bad: list[BadUtterance]) -> Iterator[tuple[Cut, np.ndarray]]:
    """Write the archive of a shard; yield its usable cuts, as the manifest has them, with their features."""
    extractor = make_extractor(shard.num_mel_bins, shard.sampling_rate)
    # Under a temporary name, because a training run may be reading the existing archive.
    with replacing(shard.archive) as temporary:
        make = ArrayTarWriter if shard.content == "features" else AudioTarWriter
        with make(str(temporary), shard_size=None) as writer:
            for cut in iterate_cuts(shard.cuts, "stage 2 (slimasr-features)"):
                natural = at_speed(cut, shard.speed)
                extracted = extract_usable(extractor, natural, shard, bad)
                if extracted is None:
                    continue
                samples, features = extracted
                if shard.content == "features":
                    kept = _with_features(natural, features, extractor)
                    writer.write(cut.id, features, kept.features)
                else:
                    kept = _with_audio(natural, samples)
                    writer.write(cut.id, samples, natural.sampling_rate, kept.recording)
                yield kept, features
        # The writers begin a file with its first utterance.
        if not temporary.exists():
            tarfile.open(temporary, "w").close()


def _with_features(cut: Cut, features: np.ndarray, extractor: Fbank) -> Cut:
    """The cut as the manifest has it: its features are in the archive, and its audio is not."""
    manifest = Features(
        start=0,
        duration=cut.duration,
        type=extractor.name,
        num_frames=features.shape[0],
        num_features=features.shape[1],
        frame_shift=extractor.frame_shift,
        sampling_rate=cut.sampling_rate,
        channels=0,
        storage_type="shar",
        storage_path="",
        storage_key="",
        recording_id=cut.id,
    )
    return _alone(cut, features=manifest)


def _with_audio(cut: Cut, samples: np.ndarray) -> Cut:
    """The cut as the manifest has it: its own part of the audio is in the archive, as a recording of its length."""
    recording = Recording(
        id=cut.id,
        sources=[AudioSource(type="shar", channels=[0], source="")],
        sampling_rate=cut.sampling_rate,
        num_samples=samples.shape[1],
        duration=samples.shape[1] / cut.sampling_rate,
    )
    return _alone(cut, recording=recording)


def _alone(cut: Cut, features: Features | None = None, recording: Recording | None = None) -> Cut:
    """A cut that is all of its recording, which has one channel, also if it was a part or an average of another."""
    supervisions = [fastcopy(item, recording_id=cut.id, channel=0) for item in cut.supervisions]
    return MonoCut(cut.id, 0.0, cut.duration, 0, supervisions=supervisions, features=features, recording=recording)


def remove_stale(shards: Sequence[SharShard]) -> None:
    """Remove shards of the set that belong to other settings or other cuts."""
    kept = {path for shard in shards for path in (shard.manifest, shard.archive)}
    for path in shards[0].folder.iterdir():
        if path not in kept:
            path.unlink()
