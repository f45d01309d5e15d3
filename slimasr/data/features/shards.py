"""One shard of the feature stage: a unit of work that is completed as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lhotse import Fbank, FbankConfig, Features, LilcomChunkyWriter
from lhotse.cut import Cut
from lhotse.utils import fastcopy

from slimasr.config.schema import Config
from slimasr.data.audio.recordings import AudioError, audio_path, load_samples
from slimasr.data.features.frames import extract_frames
from slimasr.data.files import (
    BadUtterance,
    DataFolder,
    iterate_cuts,
    read_cuts,
    speed_suffix,
    write_cuts,
)
from slimasr.data.identity.digests import audio_identity, digest_of, manifest_digest
from slimasr.files import read_json, replacing, understanding, write_json_atomic

SHARD_CUTS = 250


@dataclass(frozen=True)
class Shard:
    """A part of one set at one speed.

    Attributes:
        stem: path of the shard's files, without suffix.
        root: the features folder, to which paths in manifests are relative.
        store: whether features are written, or only checked and summed.
        keep_short: whether audio without a feature frame stays in the manifest, without features; otherwise it counts
            as bad.
    """

    stem: Path
    root: Path
    speed: float
    sampling_rate: int
    num_mel_bins: int
    store: bool
    keep_short: bool = False

    @property
    def cuts(self) -> Path:
        """The manifest of the shard's cuts from stage 1."""
        return self.stem.with_name(f"{self.stem.name}.raw.jsonl.gz")

    @property
    def manifest(self) -> Path:
        """The manifest of the shard's usable cuts, with features."""
        return self.stem.with_name(f"{self.stem.name}.jsonl.gz")

    @property
    def archive(self) -> Path:
        """The archive of the shard's features, with the name that lhotse's writer uses."""
        return self.stem.with_name(f"{self.stem.name}.lca")

    @property
    def result(self) -> Path:
        """The `ShardResult` as JSON, which is written last."""
        return self.stem.with_name(f"{self.stem.name}.json")

    @property
    def done(self) -> bool:
        """Whether the shard needs no more work.

        A shard with bad audio is computed again, because files may have been repaired; so is a shard whose files were
        damaged or removed.
        """
        if not self.result.is_file():
            return False
        result = read_result(self)
        return not result.bad and result.files == self.file_states()

    def file_states(self) -> list[str | int]:
        """Digest of the manifest and size of the archive of features in bytes, 0 if there is none."""
        size = self.archive.stat().st_size if self.store and self.archive.is_file() else 0
        return [manifest_digest(self.manifest), size]


@dataclass(frozen=True)
class ShardResult:
    """Sums over a shard's frames per mel bin, the unusable utterances, and `Shard.file_states` after the work."""

    num_cuts: int
    num_frames: int
    total: list[float]
    total_square: list[float]
    bad: list[BadUtterance]
    files: list[str | int] = field(default_factory=list)


def make_extractor(num_mel_bins: int, sampling_rate: int) -> Fbank:
    """lhotse's filter banks with their default settings, which device runtimes compute."""
    return Fbank(FbankConfig(sampling_rate=sampling_rate, num_mel_bins=num_mel_bins))


def at_speed(cut: Cut, speed: float) -> Cut:
    """The cut at ``speed`` times its natural speed, with the same id."""
    return cut if speed == 1.0 else cut.perturb_speed(speed, affix_id=False)


def make_shards(config: Config, folder: DataFolder, set_name: str, speed: float) -> list[Shard]:
    """Split the raw cuts of a set into shards.

    The folder's name contains a digest of the settings, a shard's name a digest of its audio. A shard therefore stays
    valid when other utterances, transcripts, or the location of the audio change.
    """
    cuts = list(read_cuts(folder.raw_cuts(set_name), "stage 1 (slimasr-prepare)"))
    keep_short = set_name in (config.data.dev, *config.data.test) and set_name not in config.data.train
    # Everything besides the audio on which the content of a shard depends; the statistics' sets and name do not count.
    features = config.features.model_dump(exclude={"sets", "name"})
    # Sets that are not read as a stream of shards are stored as without shards.
    storage = "precomputed" if config.data.storage == "shar" else config.data.storage
    settings = [features, config.data.sampling_rate, storage, speed, keep_short]
    shard_dir = folder.features / "shards" / f"{set_name}{speed_suffix(speed)}-{digest_of(settings)}"
    shards = []
    for number, start in enumerate(range(0, len(cuts), SHARD_CUTS)):
        part = cuts[start : start + SHARD_CUTS]
        shard = Shard(
            stem=shard_dir / f"{number:05d}-{digest_of([audio_identity(cut) for cut in part])}",
            root=folder.features,
            speed=speed,
            sampling_rate=config.data.sampling_rate,
            num_mel_bins=config.features.num_mel_bins,
            store=storage == "precomputed",
            keep_short=keep_short,
        )
        # The manifest of a shard that is done must keep matching its features.
        if not shard.done:
            write_cuts(shard.cuts, part)
        shards.append(shard)
    return shards


def attach_features(shard: Shard, cuts: Sequence[Cut]) -> Iterator[Cut]:
    """The usable cuts of a shard at its speed, with their present supervisions and their features.

    Args:
        cuts: the whole set, from the present manifest of stage 1.
    """
    made = {cut.id: cut for cut in iterate_cuts(shard.manifest, "stage 2 (slimasr-features)")}
    # The name starts with the shard's number, from which its cuts follow.
    start = SHARD_CUTS * int(shard.stem.name.partition("-")[0])
    for cut in cuts[start : start + SHARD_CUTS]:
        if cut.id in made:
            # Transcripts and speakers come from stage 1's present manifest, which may have changed since the shard.
            perturbed = at_speed(cut, shard.speed)
            yield fastcopy(perturbed, features=made[cut.id].features) if made[cut.id].has_features else perturbed


def compute_shard(shard: Shard) -> Shard:
    """Compute a shard (write features, then the manifest, then the result) and return it."""
    bad: list[BadUtterance] = []
    write_shard(shard, _extract_all(shard, bad), bad)
    return shard


def write_shard(shard: Shard, extracted: Iterable[tuple[Cut, np.ndarray]], bad: list[BadUtterance]) -> None:
    """Write the manifest and the result of a shard.

    Args:
        shard: where they belong.
        extracted: usable cuts with what is stored of them, and their (T, F) features.
        bad: the other utterances, complete when ``extracted`` has ended.
    """
    total = np.zeros(shard.num_mel_bins)
    total_square = np.zeros(shard.num_mel_bins)
    num_frames = 0
    usable: list[Cut] = []
    for cut, features in extracted:
        # float64, because sums of many frames exceed the precision of float32.
        total += features.sum(axis=0, dtype=np.float64)
        total_square += np.square(features, dtype=np.float64).sum(axis=0)
        num_frames += len(features)
        usable.append(cut)
    write_cuts(shard.manifest, usable)
    result = ShardResult(len(usable), num_frames, total.tolist(), total_square.tolist(), bad, shard.file_states())
    # Written last: a shard with a result is done.
    write_json_atomic(shard.result, asdict(result))


def read_result(shard: Shard) -> ShardResult:
    """The result that `compute_shard` wrote."""
    advice = "remove it and run stage 2 (slimasr-features) again"
    content: dict[str, Any] = read_json(shard.result, advice)
    with understanding(shard.result, advice):
        bad = [BadUtterance(**item) for item in content.pop("bad")]
        return ShardResult(bad=bad, **content)


def _extract_all(shard: Shard, bad: list[BadUtterance]) -> Iterator[tuple[Cut, np.ndarray]]:
    """Yield usable cuts (with stored features if requested) and their (T, F) features; add the others to ``bad``."""
    extractor = make_extractor(shard.num_mel_bins, shard.sampling_rate)
    cuts = iterate_cuts(shard.cuts, "stage 2 (slimasr-features)")
    if not shard.store:
        for cut in cuts:
            extracted = extract_usable(extractor, cut, shard, bad)
            if extracted is not None:
                yield cut, extracted[1]
        return
    # Under a temporary name, because a training run may be reading the existing archive.
    with replacing(shard.archive) as temporary:
        writer = LilcomChunkyWriter(str(temporary))
        try:
            for cut in cuts:
                perturbed = at_speed(cut, shard.speed)
                extracted = extract_usable(extractor, perturbed, shard, bad)
                if extracted is None:
                    continue
                _, features = extracted
                # A cut without a frame stays in the manifest without features.
                kept = _store(extractor, writer, perturbed, features, shard) if len(features) else perturbed
                yield kept, features
        finally:
            # Closed inside the block, because closing writes buffered data and may fail, too.
            writer.close()


def extract_usable(
    extractor: Fbank, cut: Cut, shard: Shard, bad: list[BadUtterance]
) -> tuple[np.ndarray, np.ndarray] | None:
    """(1, num_samples) audio and its (T, F) features; None for an utterance that is added to ``bad``.

    T is 0 for audio without a frame if the shard keeps such audio.
    """
    try:
        samples = load_samples(cut)
    except AudioError as error:
        bad.append(BadUtterance(cut.id, str(error)))
        return None
    features = extract_frames(extractor, samples, cut.sampling_rate, cut.duration)
    if len(features) or shard.keep_short:
        return samples, features
    bad.append(BadUtterance(cut.id, f"{audio_path(cut)}: shorter than one feature frame ({samples.shape[1]} samples)"))
    return None


def _store(extractor: Fbank, writer: LilcomChunkyWriter, cut: Cut, features: np.ndarray, shard: Shard) -> Cut:
    """Write features and attach them to the cut, with a path relative to the features folder."""
    manifest = Features(
        start=cut.start,
        duration=cut.duration,
        type=extractor.name,
        num_frames=features.shape[0],
        num_features=features.shape[1],
        frame_shift=extractor.frame_shift,
        sampling_rate=cut.sampling_rate,
        channels=cut.channel,
        storage_type=writer.name,
        # The final name: the temporary file is renamed to it.
        storage_path=str(shard.archive.relative_to(shard.root)),
        storage_key=writer.write(cut.id, features),
        recording_id=cut.recording.id,
    )
    return fastcopy(cut, features=manifest)
