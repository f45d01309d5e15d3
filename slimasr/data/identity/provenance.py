"""Records of what the data folder's products were made from, and checks that they still belong together.

::

    <data>/manifests/identity_<set>.json          stage 1: corpus, options, rate, `Identity` of the set
           features/identity_<set>[_sp<speed>].json   stage 2: identity of the manifest it read, feature settings
           features/stats.json                    stage 2: also the identities of the sets of the statistics
           lang_<kind>_<size>/identity.json       stage 3: see `slimasr.data.tokens.record`

A record is written after its product and contains the digest of the product's file, so that a product that was edited
or left by an interrupted run is detected. Products of versions without records count as unverified; `unverified_sets`
lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slimasr.config.schema import Config
from slimasr.data.files import DataFolder, read_cuts, speed_suffix
from slimasr.data.identity.digests import Identity, identify, manifest_digest
from slimasr.data.identity.manifest_record import (
    DAMAGED,
    STAGE_1,
    STAGE_2,
    check_corpus,
    manifest_identity,
    read_product,
    read_record,
)
from slimasr.data.sets import check_same_sets, statistics_sets, streamed_sets
from slimasr.errors import UserError
from slimasr.files import read_json, understanding, write_json_atomic


def write_features_record(config: Config, folder: DataFolder, set_name: str, speed: float, made_from: Identity) -> None:
    """Record what stage 2 has written for a set at a speed.

    Args:
        made_from: identity of the manifest that it read.
    """
    manifest = manifest_digest(folder.cuts(set_name, speed))
    record = {**feature_settings(config), "made_from": made_from.to_dict(), "manifest": manifest}
    write_json_atomic(features_record(folder, set_name, speed), record)


def check_features(config: Config, folder: DataFolder, set_name: str, speed: float = 1.0) -> None:
    """Check that the features of a set match the configuration and the present manifests.

    Raises:
        UserError: they are missing or edited, or belong to another manifest, other settings or another corpus; the
            message names the stage to run again.
    """
    record = check_origin(config, folder, set_name, speed)
    path = folder.cuts(set_name, speed)
    # Last, because changed transcripts are the more helpful message.
    check_content(record, path, manifest_digest(path))


def check_origin(
    config: Config,
    folder: DataFolder,
    set_name: str,
    speed: float,
    identity_of: Callable[[DataFolder, str], Identity] = manifest_identity,
) -> dict[str, Any] | None:
    """All checks of `check_features` but the one of the content of their manifest (`check_content`).

    Args:
        identity_of: returns the present identity of a set, as `manifest_identity` does.

    Returns:
        The record of the features; None if an older version wrote them.
    """
    path = folder.cuts(set_name, speed)
    if not path.is_file():
        raise UserError(f"{path} is missing: run {STAGE_2} first")
    check_corpus(config.data, folder, set_name)
    record = read_record(features_record(folder, set_name, speed))
    # Without a record, an older version wrote the features; stats.json has always held the settings.
    check_settings(config, path, record or read_record(stats_file(config, folder)) or {})
    if record is None:
        _check_transcripts(folder, set_name, path)
        return None
    with understanding(features_record(folder, set_name, speed), DAMAGED):
        made_from = Identity.from_dict(record["made_from"])
    check_made_from(folder, set_name, path, made_from, identity_of)
    return record


def check_content(record: Mapping[str, Any] | None, path: Path, content: str) -> None:
    """Compare the content of a manifest with its record.

    Args:
        record: the record of the features; None = there is none.
        content: present digest of the content (`slimasr.data.identity.digests.manifest_digest`).

    Raises:
        UserError: it is not what stage 2 wrote.
    """
    if record is not None and record.get("manifest") != content:
        raise UserError(f"{path} has changed since stage 2 wrote it: run stage 2 again (slimasr-features)")


def check_made_from(
    folder: DataFolder,
    set_name: str,
    path: Path,
    made_from: Identity,
    identity_of: Callable[[DataFolder, str], Identity] = manifest_identity,
) -> None:
    """Check that a product of stage 2 was made from the present manifest of its set.

    Args:
        path: the product, for the message.
        made_from: the identity of the set when the product was made.
        identity_of: returns the present identity of a set.

    Raises:
        UserError: the manifest has changed.
    """
    # A folder that holds only features, copied from elsewhere, has no manifest to compare with.
    if not folder.raw_cuts(set_name).is_file():
        return
    changes = made_from.changes(identity_of(folder, set_name))
    if changes:
        raise UserError(
            f"{path}: the {' and '.join(changes)} of {set_name} have changed since these features were made: "
            "run stage 2 again (slimasr-features)"
        )


def _check_transcripts(folder: DataFolder, set_name: str, path: Path) -> None:
    """Compare features without a record with the manifest of stage 1.

    Raises:
        UserError: an utterance has another text in the manifest, or is missing from it.
    """
    if not folder.raw_cuts(set_name).is_file():
        return
    raw = read_cuts(folder.raw_cuts(set_name), STAGE_1)
    texts = {cut.id: [item.text for item in cut.supervisions] for cut in raw}
    for cut in read_cuts(path, STAGE_2):
        if texts.get(cut.id) != [item.text for item in cut.supervisions]:
            raise UserError(
                f"{path}: {cut.id} has another transcript than in stage 1: run stage 2 again (slimasr-features)"
            )


def check_settings(config: Config, path: Path, made_with: Mapping[str, Any]) -> None:
    """Check that features were made with the settings of the configuration.

    Args:
        path: the product, for the message.
        made_with: key -> value; keys that it lacks are not checked.

    Raises:
        UserError: a setting differs; the message names the first key.
    """
    for key, value in feature_settings(config).items():
        if made_with.get(key, value) != value:
            raise UserError(
                f"{key} is {value}, but {path} was made with {made_with[key]}: run stage 2 again (slimasr-features)"
            )


def check_statistics(config: Config, folder: DataFolder) -> None:
    """Check that stats.json was computed from the present training sets, at the speeds of the configuration.

    Raises:
        UserError: it was computed by another recipe or from earlier data.
    """
    check_statistics_sets(config, folder)
    path = stats_file(config, folder)
    stats: dict[str, Any] = read_json(path, DAMAGED)
    made_from = stats.get("made_from")
    # Older versions did not record the source of the statistics.
    if made_from is not None and made_from != statistics_source(config, folder):
        raise UserError(
            f"{path} was computed from other training data (sets, speeds or content) than those of this "
            "configuration: run stage 2 again (slimasr-features)"
        )


def check_statistics_sets(config: Config, folder: DataFolder) -> None:
    """Check that stats.json, if there is one, was computed over the sets that the recipe names for it.

    Raises:
        UserError: it was computed over other sets, and other recipes may need it.
    """
    path = stats_file(config, folder)
    stats = read_product(path)
    # Older versions did not record the source of the statistics.
    if "made_from" in stats:
        check_same_sets(path, stats["made_from"].get("sets", {}), statistics_sets(config), "features.sets")


def stats_file(config: Config, folder: DataFolder) -> Path:
    """Return the file of a recipe's feature statistics."""
    return folder.stats_of(config.features.name)


def statistics_source(config: Config, folder: DataFolder) -> dict[str, Any]:
    """The data from which stats.json is computed, as plain JSON data."""
    sets = {name: set_identity(config, folder, name).fingerprint for name in statistics_sets(config)}
    return {"sets": sets, "speeds": sorted(stored_speeds(config))}


def speeds_of(config: Config, set_name: str) -> list[float]:
    """The speeds at which stage 2 keeps a set: those of training, and speed 1 for evaluation."""
    if set_name not in {*config.data.train, *statistics_sets(config)} or set_name in streamed_sets(config):
        return [1.0]
    # A training set may be a dev or test set too (`data.allow_overlap`).
    evaluated = [1.0] if set_name in (config.data.dev, *config.data.test) else []
    return sorted({*stored_speeds(config), *evaluated})


def stored_speeds(config: Config) -> list[float]:
    """The speeds at which stage 2 keeps a training set, each once."""
    return list(dict.fromkeys(stored_speed(config, speed) for speed in config.data.speeds))


def stored_speed(config: Config, speed: float) -> float:
    """The speed at which stage 2 keeps what training reads at ``speed``."""
    # On-the-fly features are made from the audio of speed 1, so only its manifest is kept.
    return 1.0 if config.data.reads_audio else speed


def set_identity(config: Config, folder: DataFolder, set_name: str) -> Identity:
    """The identity of a set, after checking that its features are up to date (`check_features`).

    It is the identity of the manifest, or if only features were copied to this folder, of the manifest they came from.

    Raises:
        UserError: neither stage 1 nor stage 2 has run for the set.
    """
    if folder.raw_cuts(set_name).is_file():
        return manifest_identity(folder, set_name)
    # All speeds are made from the same manifest, so any record of a speed has its identity.
    speeds = speeds_of(config, set_name)
    for speed in speeds:
        record = read_record(features_record(folder, set_name, speed))
        if record is not None:
            with understanding(features_record(folder, set_name, speed), DAMAGED):
                return Identity.from_dict(record["made_from"])
    return identify(read_cuts(folder.cuts(set_name, speeds[0]), STAGE_2))


def feature_settings(config: Config) -> dict[str, Any]:
    """The keys on which stored features depend."""
    return {
        "features.num_mel_bins": config.features.num_mel_bins,
        "data.sampling_rate": config.data.sampling_rate,
        # Sets that are not read as a stream of shards are stored as without shards.
        "data.storage": "precomputed" if config.data.storage == "shar" else config.data.storage,
    }


def features_record(folder: DataFolder, set_name: str, speed: float) -> Path:
    return folder.features / f"identity_{set_name}{speed_suffix(speed)}.json"
