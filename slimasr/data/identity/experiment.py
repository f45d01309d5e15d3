"""The identity of the data on which an experiment is trained and validated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slimasr.config.schema import Config
from slimasr.data.files import MUSAN_SET, NOISE_SET, ROOMS_SET, DataFolder
from slimasr.data.identity.digests import Identity, digest_of
from slimasr.data.identity.manifest_record import manifest_identity
from slimasr.data.identity.provenance import check_features, features_record, set_identity, speeds_of
from slimasr.data.sets import augmentation_sets


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
            if is_made and not features_record(folder, name, speed).is_file():
                unknown.append(name)
    if not unknown:
        return []
    return [
        f"{folder.features}: there is no record of what the features of {', '.join(dict.fromkeys(unknown))} were made "
        "from; run stage 2 again (slimasr-features) to create one"
    ]
