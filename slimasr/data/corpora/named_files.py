"""Files that a recipe names besides the audio: dictionaries, language models and their texts.

A name that begins with ``corpus:`` is a path in the corpus's folder, so that a recipe does not depend on where the
corpus lies. Stage 1 records the folder.
"""

from __future__ import annotations

from glob import glob
from pathlib import Path
from typing import Any

from slimasr.data.files import DataFolder
from slimasr.errors import UserError
from slimasr.files import read_json, understanding, write_json_atomic

IN_CORPUS = "corpus:"
_STAGE = "stage 1 (slimasr-prepare)"


def record_corpus_folder(folder: DataFolder, corpus: Path) -> None:
    """Record where the corpus lies."""
    write_json_atomic(_record(folder), {"folder": str(corpus)})


def named_path(name: str, folder: DataFolder) -> Path:
    """The path that a recipe names.

    Raises:
        UserError: it lies in the corpus's folder, and stage 1 has not recorded this folder.
    """
    if not name.startswith(IN_CORPUS):
        return Path(name)
    record = _record(folder)
    if not record.is_file():
        raise UserError(f"{record} is missing: run {_STAGE} to find {name}")
    content: dict[str, Any] = read_json(record, f"run {_STAGE} again")
    with understanding(record, f"run {_STAGE} again"):
        return Path(content["folder"]) / name.removeprefix(IN_CORPUS)


def named_paths(name: str, folder: DataFolder, key: str) -> list[Path]:
    """The files that a recipe names with a pattern, sorted.

    Args:
        key: the key that holds the name, for the message.

    Raises:
        UserError: there is no such file; see also `named_path`.
    """
    pattern = named_path(name, folder)
    found = sorted(Path(path) for path in glob(str(pattern)) if Path(path).is_file())
    if not found:
        raise UserError(f"{key}: {pattern}: there is no such file")
    return found


def _record(folder: DataFolder) -> Path:
    return folder.root / "manifests" / "corpus.json"
