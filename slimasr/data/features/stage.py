"""Stage 2: log-mel filter banks of every set and training speed, and the statistics of the training data.

The work is divided into shards (``shards.py``). A shard is done once its result file has been renamed into place, so a
run that was killed resumes with the missing shards.
"""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slimasr.config.schema import Config
from slimasr.data.corpora import Progress
from slimasr.data.features.shards import Shard, ShardResult, attach_features, make_shards, read_result
from slimasr.data.files import (
    BadUtterance,
    DataFolder,
    check_bad_share,
    left_out_notes,
    read_cuts,
    write_bad,
    write_cuts,
)
from slimasr.data.identity.digests import Identity, check_audio_unchanged, identify
from slimasr.data.identity.manifest_record import STAGE_1, check_corpus
from slimasr.data.identity.provenance import (
    check_settings,
    check_statistics,
    check_statistics_sets,
    feature_settings,
    speeds_of,
    statistics_source,
    stats_file,
    write_features_record,
)
from slimasr.data.sets import noise_sets, sets_with_features, statistics_sets, stored_sets, streamed_sets
from slimasr.data.shar.record import record_path
from slimasr.data.shar.stage import make_streams, record_streams
from slimasr.data.shar.writing import compute_any
from slimasr.errors import UserError
from slimasr.files import read_json, remove_unfinished, understanding, write_json_atomic
from slimasr.locking import Lock, folder_lock, refuse_while_locked

# Lower bound on the standard deviation of a bin, so that a constant bin (band-limited audio) is not amplified.
MIN_STD = 1e-2
STAGE = "stage 2 (slimasr-features)"
AGAIN = f"run {STAGE} again"


def compute_features(config: Config, data_dir: Path, num_jobs: int, progress: Progress) -> dict[str, int]:
    """Write ``features/cuts_<set>[_sp<speed>].jsonl.gz``, ``bad_<set>.json`` and ``stats.json``.

    With ``data.storage: on_the_fly``, all audio is read once for checks and statistics, and no features are stored.
    With ``data.storage: shar``, training sets become shards (`slimasr.data.shar`), and a record of them.

    Returns:
        Manifest name -> number of cuts.

    Raises:
        UserError: stage 1 has not run or is running; a dev or test set has unusable audio, or a training set too much
            of it; there are statistics of other sets; another process computes features in this data folder.
    """
    folder = DataFolder(data_dir)
    refuse_while_locked(folder.lock("manifests"), "slimasr-features")
    with folder_lock(folder.lock("features"), "slimasr-features") as lock:
        return _write_features(config, data_dir, num_jobs, progress, lock)


def _write_features(config: Config, data_dir: Path, num_jobs: int, progress: Progress, lock: Lock) -> dict[str, int]:
    folder = DataFolder(data_dir)
    shards_of: dict[tuple[str, float], list[Shard]] = {}
    # All checks come before the first shard, which may take hours.
    check_statistics_sets(config, folder)
    for set_name in sets_with_features(config) + noise_sets(config):
        check_corpus(config.data, folder, set_name)
        check_audio_unchanged(read_cuts(folder.raw_cuts(set_name), STAGE_1), set_name)
    for set_name in stored_sets(config) + noise_sets(config):
        for speed in speeds_of(config, set_name):
            shards_of[set_name, speed] = make_shards(config, folder, set_name, speed)
    streams = make_streams(config, folder)
    # The shards of all sets and speeds are one pool of work.
    all_shards = chain(chain.from_iterable(shards_of.values()), streams.shards)
    missing = [shard for shard in all_shards if not shard.done]
    for _ in progress(_run(missing, num_jobs), len(missing), "features"):
        lock.check()
    # From here on manifests are replaced, so the lock is read from disk again.
    lock.verify()
    counts: dict[str, int] = {}
    results: dict[str, list[ShardResult]] = {}
    bad: dict[str, dict[str, BadUtterance]] = {}
    for (set_name, speed), shards in shards_of.items():
        found = [read_result(shard) for shard in shards]
        _check_bad(config, set_name, found)
        # An utterance may be too short at one speed only; training leaves it out at all speeds.
        bad.setdefault(set_name, {}).update((item.id, item) for result in found for item in result.bad)
        write_bad(folder.bad(set_name), bad[set_name].values())
        made_from = write_feature_cuts(folder, set_name, speed, shards)
        counts[folder.cuts(set_name, speed).name] = sum(result.num_cuts for result in found)
        write_features_record(config, folder, set_name, speed, made_from)
        results.setdefault(set_name, []).extend(found)
    for set_name, found in record_streams(config, folder, streams).items():
        _check_bad(config, set_name, found)
        write_bad(folder.bad(set_name), [item for result in found for item in result.bad])
        counts[record_path(folder, set_name).name] = sum(result.num_cuts for result in found)
        # A set that is also a dev set counts once.
        results[set_name] = found
    # The statistics are those of their sets at all speeds, in this order: recipes that share them get equal sums.
    counted = [result for set_name in statistics_sets(config) for result in results[set_name]]
    write_json_atomic(stats_file(config, folder), _statistics(config, folder, counted))
    _remove_stale([*shards_of.values(), *streams.written.values()])
    remove_unfinished(folder.features)
    return counts


def write_feature_cuts(folder: DataFolder, set_name: str, speed: float, shards: Sequence[Shard]) -> Identity:
    """Write the manifest of a set: the present cuts of stage 1 with the features of the set's shards.

    Returns:
        The identity of the manifest of stage 1 that was read.
    """
    cuts = list(read_cuts(folder.raw_cuts(set_name), STAGE_1))
    write_cuts(folder.cuts(set_name, speed), (cut for shard in shards for cut in attach_features(shard, cuts)))
    return identify(cuts)


def feature_notes(config: Config, data_dir: Path, counts: Mapping[str, int]) -> list[str]:
    """Return one line for each set with utterances that were left out.

    Args:
        counts: the numbers of cuts that `compute_features` returns.
    """
    folder = DataFolder(data_dir)
    usable: dict[str, int] = {}
    for name in config.data.train:
        # Utterances are shortest, and most of them are too short, at the highest speed, which comes last.
        highest = speeds_of(config, name)[-1]
        manifest = record_path(folder, name) if name in streamed_sets(config) else folder.cuts(name, highest)
        usable[name] = counts[manifest.name]
    return left_out_notes(usable, folder.bad)


def read_stats(config: Config, data_dir: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Read the mean and standard deviation per mel bin over the training data, (F,) float32 each.

    Raises:
        UserError: stage 2 has not run, or ran with another configuration of the features.
    """
    folder = DataFolder(data_dir)
    path = stats_file(config, folder)
    if not path.is_file():
        raise UserError(f"{path} is missing: run stage 2 (slimasr-features) first")
    stats: dict[str, Any] = read_json(path, AGAIN)
    check_settings(config, path, stats)
    check_statistics(config, folder)
    with understanding(path, AGAIN):
        mean = torch.tensor(stats["mean"])
        std = torch.tensor(stats["std"])
        check_stats(mean, std, config.features.num_mel_bins)
    return mean, std


def check_stats(mean: torch.Tensor, std: torch.Tensor, num_mel_bins: int) -> None:
    """Raise `ValueError` unless features can be normalised with these statistics, (F,) each."""
    if mean.shape != (num_mel_bins,) or std.shape != (num_mel_bins,):
        raise ValueError(f"mean and std need {num_mel_bins} values each")
    if not (mean.isfinite().all() and std.isfinite().all() and bool((std > 0).all())):
        raise ValueError("mean and std must be finite, and std above 0")


def _run(shards: Sequence[Shard], num_jobs: int) -> Iterator[Shard]:
    """Compute shards in this process or in ``num_jobs`` others, and yield each one when it is done."""
    if num_jobs <= 1 or len(shards) <= 1:
        yield from map(compute_any, shards)
        return
    # A forked child would inherit torch's locked thread pool.
    context = multiprocessing.get_context("spawn")
    workers = min(num_jobs, len(shards))
    with ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield from pool.map(compute_any, shards)
        except BrokenProcessPool:
            raise UserError("a process of stage 2 was killed, possibly out of memory: try fewer --num-jobs") from None


def _check_bad(config: Config, set_name: str, results: Sequence[ShardResult]) -> None:
    bad: list[BadUtterance] = [item for result in results for item in result.bad]
    if bad and set_name not in {*config.data.train, *statistics_sets(config)}:
        raise UserError(f"{set_name}: {bad[0].id}: {bad[0].reason}")
    num_listed = len(bad) + sum(result.num_cuts for result in results)
    check_bad_share(bad, num_listed, config.data.max_bad_share, set_name)


def _statistics(config: Config, folder: DataFolder, results: Sequence[ShardResult]) -> dict[str, Any]:
    frames = sum(result.num_frames for result in results)
    if frames == 0:
        raise UserError("the sets of the feature statistics have no audio, so there are none")
    mean = np.sum([result.total for result in results], axis=0) / frames
    square = np.sum([result.total_square for result in results], axis=0) / frames
    # E[x^2] - E[x]^2 of sums in float64; rounding may make the variance of a constant bin negative.
    std = np.sqrt(np.maximum(square - mean**2, MIN_STD**2))
    made_from = {**feature_settings(config), "made_from": statistics_source(config, folder)}
    return {**made_from, "frames": frames, "mean": mean.tolist(), "std": std.tolist()}


def _remove_stale(groups: Sequence[Sequence[Shard]]) -> None:
    """Remove shards of these sets and speeds that belong to other settings or other cuts."""
    for shards in groups:
        # Folders are named <set and speed>-<digest of the settings>, files <number>-<digest of the audio>.<ending>.
        current = shards[0].stem.parent
        prefix = current.name.rpartition("-")[0]
        for folder in current.parent.iterdir():
            if folder != current and folder.name.rpartition("-")[0] == prefix:
                shutil.rmtree(folder)
        kept = {shard.stem.name for shard in shards}
        for path in current.iterdir():
            if path.name.split(".", 1)[0] not in kept:
                path.unlink()
