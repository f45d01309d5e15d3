"""Reads any source of own data, whatever its format."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from slimasr.config.corpora import AVERAGE, OwnOptions
from slimasr.data.corpora.base import ListedUtterance
from slimasr.data.own import folder, jsonl, kaldi, lhotse_manifests, shar, table
from slimasr.data.own.find import find_format
from slimasr.data.own.pipes import run_commands
from slimasr.data.own.reading import ROOT_KEY, Reading, safe_name
from slimasr.errors import UserError
from slimasr.progress import Progress

READERS: dict[str, Callable[[Path, Reading], Iterator[ListedUtterance]]] = {
    "kaldi": kaldi.read,
    "lhotse": lhotse_manifests.read,
    "shar": shar.read,
    "jsonl": jsonl.read,
    "csv": table.read,
    "folder": folder.read,
}
"""``data.options.format`` -> reader."""

FEW = 10
"""If so many files at the beginning of a list are missing, it is taken for a list of files that have moved."""


def make_audio(path: Path, options: OwnOptions, made: Path, progress: Progress) -> None:
    """Write the audio of a source that is no file to ``made``: that of Shar folders, and the output of commands.

    What is there already is kept, so that nothing is done twice.

    Raises:
        UserError: see the readers, `shar.extract` and `run_commands`.
    """
    name = find_format(path, options).name
    if name == "shar":
        shar.extract(path, made, progress)
    elif options.allow_pipes and name in ("kaldi", "lhotse"):
        run_commands(list(READERS[name](path, Reading(options, made))), progress)


def read_source(path: Path, options: OwnOptions, made: Path, label: str = "") -> Iterator[ListedUtterance]:
    """Yield the utterances of a source whose audio is in files (`make_audio`).

    Args:
        made: the folder of `make_audio`.
        label: what ids begin with that are made from file names; empty = the name of the path.

    Raises:
        UserError: the format is not known, a list cannot be read, or all of its first audio files are missing.
    """
    reader = READERS[find_format(path, options).name]
    reading = Reading(options, made, label or default_label(path))
    for utterance in _check_not_moved(reader(path, reading), options):
        yield _completed(utterance, options)


def default_label(path: Path) -> str:
    """The name of a source without its endings: ``train`` for ``my/train.jsonl.gz``."""
    name = Path(os.path.abspath(path)).name
    return safe_name(name if path.is_dir() else name.split(".")[0])


def _completed(utterance: ListedUtterance, options: OwnOptions) -> ListedUtterance:
    """The utterance with what options say about all of them, and a speaker name without spaces and slashes."""
    # Names of folders and people may hold spaces.
    speaker = safe_name(utterance.speaker)
    if speaker != utterance.speaker:
        utterance = replace(utterance, speaker=speaker)
    if not utterance.language:
        utterance = replace(utterance, language=options.language)
    # The list's own channel counts unless options name one.
    if options.channel == AVERAGE:
        return replace(utterance, channel=None, average_channels=True)
    return replace(utterance, channel=int(options.channel)) if options.channel else utterance


def _check_not_moved(utterances: Iterable[ListedUtterance], options: OwnOptions) -> Iterator[ListedUtterance]:
    iterator = iter(utterances)
    first = list(islice(iterator, FEW))
    if first and not any(item.audio.exists() for item in first):
        more = f", nor are the {len(first) - 1} that follow" if len(first) > 1 else ""
        advice = f"{ROOT_KEY} ({options.audio_root}) holds them neither" if options.audio_root else f"set {ROOT_KEY}"
        raise UserError(
            f"{first[0].source}: {first[0].audio} is not there{more}; correct the paths, or if the audio has moved: "
            f"{advice}"
        )
    return chain(first, iterator)
