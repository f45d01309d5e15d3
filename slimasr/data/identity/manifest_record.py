"""Records of what the manifests of stage 1 were made from.

`slimasr.data.identity.provenance` describes all records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lhotse.cut import Cut

from slimasr.config.data import DataConfig
from slimasr.config.data_text import TextConfig
from slimasr.data.files import DataFolder, read_cuts
from slimasr.data.identity.digests import Identity, identify, manifest_digest
from slimasr.data.manifests.normalise import Counts, text_settings
from slimasr.data.own.sources import sources_of
from slimasr.errors import UserError
from slimasr.files import read_json, understanding, write_json_atomic

DAMAGED = "remove it and run the stage that writes it again"
STAGE_1 = "stage 1 (slimasr-prepare)"
STAGE_2 = "stage 2 (slimasr-features)"
STAGE_3 = "stage 3 (slimasr-bpe)"

_BEFORE = text_settings(TextConfig())
"""The values that keys have stood for since before they were recorded."""


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
