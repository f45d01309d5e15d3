"""What the readers of own data have in common: their settings, paths of audio, and ids where a list has none."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slimasr.config.corpora import OwnOptions
from slimasr.data.manifests.listing import unusable_character
from slimasr.errors import UserError

ROOT_KEY = "data.options.audio_root"
_DIGITS = 8
# Most names, which need no look at their single characters.
_PLAIN = re.compile(r"[A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Reading:
    """How a source is read.

    Attributes:
        options: ``data.options``.
        made: the folder that keeps audio which is no file, such as that of Shar folders.
        label: name of the source, with which ids begin that are made from file names.
    """

    options: OwnOptions
    made: Path
    label: str = ""


def find_audio(text: str, where: str, folder: Path, root: str, further: Sequence[Path] = ()) -> Path:
    """The audio file that a list names; whether it exists is checked later.

    Args:
        text: the path in the list.
        where: ``file:line``, for messages.
        folder: the folder of the list, against which relative paths are read.
        root: ``data.options.audio_root``; if it is given, it takes the place of ``folder``, and absolute paths that do
            not exist are looked for below it, with as few of their leading folders left out as possible.
        further: other folders for relative paths that are not in the first one.

    Raises:
        UserError: the path is empty, cannot be one, or leads out of the folder.
    """
    if not text.strip():
        raise UserError(f"{where}: names no audio file; complete the line, or remove it")
    if not _can_be_path(text):
        raise UserError(f"{where}: {text!r} holds a character that no path can hold; correct it")
    if os.path.isabs(text):
        return _moved(Path(text), Path(root)) if root and not os.path.exists(text) else Path(text)
    bases = [Path(root)] if root else [folder, *further]
    # A list that comes from elsewhere could otherwise name any file of this machine.
    if Path(os.path.normpath(text)).parts[:1] == (os.pardir,):
        raise UserError(
            f"{where}: the path {text} leads out of {bases[0]}; write it as an absolute path, or set {ROOT_KEY} to a "
            "folder that holds the audio"
        )
    found = next((base for base in bases if os.path.exists(base / text)), bases[0])
    return Path(os.path.abspath(found / text))


def _can_be_path(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _moved(path: Path, root: Path) -> Path:
    """The file below a folder whose path ends like ``path``, or ``path`` itself if there is none."""
    parts = path.parts[1:]
    candidates = (root.joinpath(*parts[start:]) for start in range(len(parts)))
    return next((Path(os.path.abspath(found)) for found in candidates if os.path.exists(found)), path)


@dataclass
class IdMaker:
    """Makes ids of utterances from the names of their audio files, all different.

    Attributes:
        label: what all ids begin with, so that sets may have files of equal names.
        folder: ids have the names of the folders below this one; of other files, the last folder alone.
    """

    label: str
    folder: Path
    _made: dict[str, tuple[Path, float]] = field(default_factory=dict)

    def make(self, audio: Path, start: float = 0.0, duration: float | None = None) -> str:
        """The id of a file or segment, ``train-speaker1-recording_1`` or with its times in ms at the end.

        The same segment of the same file gets the same id again, which is an error of the list.
        """
        prefix, path = f"{self.folder}{os.sep}", str(audio)
        # Texts, as objects of paths would take most of the time of long lists.
        parts = path.removeprefix(prefix).split(os.sep) if path.startswith(prefix) else path.split(os.sep)[-2:]
        words = [self.label, *parts[:-1], os.path.splitext(parts[-1])[0]]
        if start > 0.0:
            words += [f"{round(1000 * start):07d}"]
            words += [] if duration is None else [f"{round(1000 * (start + duration)):07d}"]
        name = "-".join(safe_name(word) for word in words if word)
        if self._made.setdefault(name, (audio, start)) != (audio, start):
            # Another file of this name, in a folder that is not part of the id, or with a replaced character.
            name = f"{name}-{hashlib.sha256(os.fsencode(audio)).hexdigest()[:_DIGITS]}"
        return name


def safe_name(name: str) -> str:
    """A name without characters that ids must not hold, which become ``_``."""
    if _PLAIN.fullmatch(name):
        return name
    return "".join("_" if character == "/" or unusable_character(character) else character for character in name)
