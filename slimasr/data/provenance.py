"""Records of what the data folder's products were made from, and checks that they still belong together.

::

    <data>/manifests/identity_<set>.json          stage 1: corpus, options, rate, `Identity` of the set
           features/identity_<set>[_sp<speed>].json   stage 2: identity of the manifest it read, feature settings
           features/stats.json                    stage 2: also the identities of the sets of the statistics
           lang_<kind>_<size>/identity.json       stage 3: see `slimasr.data.tokenizer_record`

A record is written after its product and contains the digest of the product's file, so that a product that was edited
or left by an interrupted run is detected. Products of versions without records count as unverified; `unverified_sets`
lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lhotse.cut import Cut

from slimasr.config.data import DataConfig
from slimasr.config.data_text import TextConfig
from slimasr.config.schema import Config
from slimasr.data.files import MUSAN_SET, NOISE_SET, ROOMS_SET, DataFolder, read_cuts, speed_suffix
from slimasr.data.identity import Identity, digest_of, identify, manifest_digest
from slimasr.data.normalise import Counts, text_settings
from slimasr.data.own.sources import sources_of
from slimasr.data.sets import augmentation_sets, check_same_sets, statistics_sets, streamed_sets
from slimasr.errors import UserError
from slimasr.files import read_json, understanding, write_json_atomic

DAMAGED = "remove it and run the stage that writes it again"
STAGE_1 = "stage 1 (slimasr-prepare)"
STAGE_2 = "stage 2 (slimasr-features)"
STAGE_3 = "stage 3 (slimasr-bpe)"

_BEFORE = text_settings(TextConfig())
"""The values that keys have stood for since before they were recorded."""


@dataclass(frozen=True)
class DataIdentity:
    """The data on which an experiment is trained and validated.

    Attributes:
        train: training set -> its identity.
        dev: identity of the dev set.
        musan: identity of the noise of MUSAN, None without it.
        noise: identity of the noise of ``data.noise``, None without it.
        rooms: identity of the recorded rooms of ``data.reverb``, None without them.
    """

    train: Mapping[str, Identity]
    dev: Identity
    musan: Identity | None = None
    noise: Identity | None = None
    rooms: Identity | None = None

    @property
    def fingerprint(self) -> str:
        """One digest of everything."""
        return digest_of(self.to_dict())

    def changes(self, now: DataIdentity) -> list[str]:
        """Describe in words what differs between this identity and the present one: ``"transcripts of train"``."""
        found = []
        for name in dict.fromkeys([*self.train, *now.train]):
            if name in self.train and name in now.train:
                found += [f"{what} of {name}" for what in self.train[name].changes(now.train[name])]
            else:
                found.append(f"training set {name}")
        found += [f"{what} of the dev set" for what in self.dev.changes(now.dev)]
        found += _changes_of(self.musan, now.musan, "noise", "data.musan")
        found += _changes_of(self.noise, now.noise, "noise", "data.noise")
        found += _changes_of(self.rooms, now.rooms, "rooms", "data.reverb.folder")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        # Folders of augmentation are left out if there are none, so that fingerprints of older records stay what they
        # are.
        return {key: value for key, value in asdict(self).items() if value is not None or key not in ("noise", "rooms")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DataIdentity:
        """Inverse of `to_dict`."""
        train = {name: Identity.from_dict(item) for name, item in values["train"].items()}
        dev = Identity.from_dict(values["dev"])
        # Older records lack some of these keys.
        others = [values.get(key) for key in ("musan", "noise", "rooms")]
        return cls(train, dev, *(None if item is None else Identity.from_dict(item) for item in others))


def _changes_of(before: Identity | None, now: Identity | None, what: str, key: str) -> list[str]:
    """Describe in words what differs in the audio that a key of the augmentation names."""
    if before is not None and now is not None:
        return [f"{changed} of {key}" for changed in before.changes(now)]
    # It was added or removed, or there is none.
    return [] if before is now else [f"{what} of {key}"]


def write_manifest_record(
    folder: DataFolder,
    set_name: str,
    config: DataConfig | None,
    cuts: Sequence[Cut],
    text: Counts | None = None,
    source: str = "",
    identity: Identity | None = None,
    utterances: int | None = None,
) -> None:
    """Record what stage 1 has written for a set.

    Args:
        config: the section from which it was made, None for sets that do not come from the corpus.
        cuts: the content of the manifest.
        text: the changes that ``data.text`` made.
        source: the folder of such a set, as the recipe names it, if it names one (see `check_source`).
        identity: identity of the set if the manifest has only a sample of it; None = that of the cuts.
        utterances: number of utterances of such a set; None = that of the cuts.
    """
    made_by = {"source": source} if source else {}
    if config is not None:
        made_by = _preparation(config, set_name)
    path = folder.raw_cuts(set_name)
    total = len(cuts) if utterances is None else utterances
    record = {
        **made_by,
        "utterances": total,
        # Of a sample, the whole set is as long as its utterances are on average.
        "seconds": round(sum(cut.duration for cut in cuts) * total / max(1, len(cuts)), 3),
        "text": (text or Counts()).to_dict(),
        "identity": (identity or identify(cuts)).to_dict(),
        "manifest": manifest_digest(path),
        "manifest_state": _state(path),
    }
    write_json_atomic(_manifest_record(folder, set_name), record)


def check_source(folder: DataFolder, set_name: str, source: str) -> None:
    """Check that the manifest of a set was made from the folder that the recipe names.

    Raises:
        UserError: it is missing, or was made from another folder.
    """
    path = folder.raw_cuts(set_name)
    made_from = (read_record(_manifest_record(folder, set_name)) or {}).get("source")
    if made_from is None:
        raise UserError(f"{path} is missing, which lists the audio of {source}: run {STAGE_1} first")
    if made_from != source:
        raise UserError(f"{path} was made from {made_from}, the recipe names {source}: run {STAGE_1} again")


def manifest_identity(folder: DataFolder, set_name: str) -> Identity:
    """The identity of a set as stage 1 wrote it, or as it was edited afterwards.

    Raises:
        UserError: stage 1 has not run.
    """
    path = folder.raw_cuts(set_name)
    record = read_record(_manifest_record(folder, set_name))
    # The recorded identity is valid only for the file that was recorded; computing it again reads all cuts.
    if path.is_file() and record is not None and _is_recorded(path, record):
        with understanding(_manifest_record(folder, set_name), DAMAGED):
            return Identity.from_dict(record["identity"])
    return identify(read_cuts(path, STAGE_1))


def manifest_text(folder: DataFolder, set_name: str) -> Counts:
    """How often ``data.text`` changed transcripts of a set."""
    return Counts.from_dict(read_product(_manifest_record(folder, set_name)).get("text", {}))


def _is_recorded(path: Path, record: Mapping[str, Any]) -> bool:
    """Whether a manifest is the one that its record was written for."""
    # Reading a large manifest for its digest takes long, and is needed only if the file has been touched.
    return record.get("manifest_state") == _state(path) or record.get("manifest") == manifest_digest(path)


def _state(path: Path) -> list[int]:
    """Size in bytes and modification time in nanoseconds."""
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]


def write_features_record(config: Config, folder: DataFolder, set_name: str, speed: float, made_from: Identity) -> None:
    """Record what stage 2 has written for a set at a speed.

    Args:
        made_from: identity of the manifest that it read.
    """
    manifest = manifest_digest(folder.cuts(set_name, speed))
    record = {**feature_settings(config), "made_from": made_from.to_dict(), "manifest": manifest}
    write_json_atomic(_features_record(folder, set_name, speed), record)


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
    record = read_record(_features_record(folder, set_name, speed))
    # Without a record, an older version wrote the features; stats.json has always held the settings.
    check_settings(config, path, record or read_record(stats_file(config, folder)) or {})
    if record is None:
        _check_transcripts(folder, set_name, path)
        return None
    with understanding(_features_record(folder, set_name, speed), DAMAGED):
        made_from = Identity.from_dict(record["made_from"])
    check_made_from(folder, set_name, path, made_from, identity_of)
    return record


def check_content(record: Mapping[str, Any] | None, path: Path, content: str) -> None:
    """Compare the content of a manifest with its record.

    Args:
        record: the record of the features; None = there is none.
        content: present digest of the content (`slimasr.data.identity.manifest_digest`).

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


def check_corpus(config: DataConfig, folder: DataFolder, set_name: str) -> None:
    """Check that a set was prepared from the corpus that the configuration names.

    Raises:
        UserError: the data folder belongs to another recipe.
    """
    record = read_record(_manifest_record(folder, set_name))
    # Noise and sets of other recipes do not come from this corpus.
    if record is None or set_name not in {*config.train, config.dev, *config.test}:
        return
    for key, value in _preparation(config, set_name).items():
        # Keys that were added later are missing from older records.
        made_with = record.get(key, _BEFORE.get(key, value))
        if made_with != value:
            raise UserError(
                f"{folder.raw_cuts(set_name)} was prepared with {key} {made_with}, the configuration has {value}: "
                f"run stage 1 (slimasr-prepare) and the stages after it again, or use another --data"
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
        record = read_record(_features_record(folder, set_name, speed))
        if record is not None:
            with understanding(_features_record(folder, set_name, speed), DAMAGED):
                return Identity.from_dict(record["made_from"])
    return identify(read_cuts(folder.cuts(set_name, speeds[0]), STAGE_2))


def checked_identity(config: Config, data_dir: Path, set_name: str) -> Identity:
    """The identity of a set, after checking that its features are up to date.

    Raises:
        UserError: see `check_features`.
    """
    folder = DataFolder(data_dir)
    speeds = speeds_of(config, set_name)
    check_features(config, folder, set_name, 1.0 if 1.0 in speeds else speeds[0])
    return set_identity(config, folder, set_name)


def data_identity(config: Config, data_dir: Path) -> DataIdentity:
    """The identity of the data on which a configuration trains and validates.

    Raises:
        UserError: a stage has not run.
    """
    folder = DataFolder(data_dir)
    train = {name: set_identity(config, folder, name) for name in config.data.train}
    found = {name: manifest_identity(folder, name) for name in augmentation_sets(config)}
    dev = set_identity(config, folder, config.data.dev)
    return DataIdentity(train, dev, found.get(MUSAN_SET), found.get(NOISE_SET), found.get(ROOMS_SET))


def unverified_sets(config: Config, data_dir: Path, set_names: Sequence[str]) -> list[str]:
    """Notes on sets that cannot be verified, because they were made before products had records."""
    folder = DataFolder(data_dir)
    unknown: list[str] = []
    for name in set_names:
        for speed in speeds_of(config, name):
            is_made = folder.cuts(name, speed).is_file()
            if is_made and not _features_record(folder, name, speed).is_file():
                unknown.append(name)
    if not unknown:
        return []
    return [
        f"{folder.features}: there is no record of what the features of {', '.join(dict.fromkeys(unknown))} were made "
        "from; run stage 2 again (slimasr-features) to create one"
    ]


def feature_settings(config: Config) -> dict[str, Any]:
    """The keys on which stored features depend."""
    return {
        "features.num_mel_bins": config.features.num_mel_bins,
        "data.sampling_rate": config.data.sampling_rate,
        # Sets that are not read as a stream of shards are stored as without shards.
        "data.storage": "precomputed" if config.data.storage == "shar" else config.data.storage,
    }


def _preparation(config: DataConfig, set_name: str) -> dict[str, Any]:
    """The keys on which the manifest of a set depends."""
    keys: dict[str, Any] = {
        "data.corpus": config.corpus,
        "data.options": dict(config.options),
        "data.sampling_rate": config.sampling_rate,
        **text_settings(config.text),
    }
    # Other corpora have no sources.
    sources = sources_of(config, set_name)
    return {**keys, "data.sources": sources} if sources else keys


def _manifest_record(folder: DataFolder, set_name: str) -> Path:
    return folder.raw_cuts(set_name).with_name(f"identity_{set_name}.json")


def _features_record(folder: DataFolder, set_name: str, speed: float) -> Path:
    return folder.features / f"identity_{set_name}{speed_suffix(speed)}.json"


def read_product(path: Path) -> dict[str, Any]:
    """Read the record of a product that may be made again; empty if it is missing or damaged."""
    try:
        return read_record(path) or {}
    except UserError:
        return {}


def read_record(path: Path) -> dict[str, Any] | None:
    """Read a record; None if there is none, as older versions wrote none.

    Raises:
        UserError: it is damaged.
    """
    return read_json(path, DAMAGED) if path.is_file() else None
