"""Folders of audio with a transcript beside each file, ``x.wav`` and ``x.txt`` or ``x.lab``, or with lists of them.

A list of LibriSpeech, ``*.trans.txt``, has lines ``ID TEXT`` for the files ``ID.flac`` beside it. The folder of a file
is its speaker: the first one below the source, or what comes before the first ``-`` in the name of a list.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from slimasr.data.audio.file import CONVERTED, READ
from slimasr.data.corpora.base import ListedUtterance
from slimasr.data.own.reading import IdMaker, Reading
from slimasr.errors import UserError
from slimasr.files import matching
from slimasr.files import walk as walk_folders
from slimasr.textfiles import read_lines, read_text

AUDIO = (*READ, *CONVERTED)
TRANSCRIPTS = (".txt", ".lab")
TRANSCRIPT_LISTS = ".trans.txt"


def read(path: Path, reading: Reading) -> Iterator[ListedUtterance]:
    """Yield the utterances of a folder and those in it, in the order of their paths.

    Raises:
        UserError: two files of audio or of transcripts belong to one name, a list cannot be parsed, or there is no
            audio.
    """
    if not path.is_dir():
        raise UserError(f"{path}: is no folder of audio with transcripts")
    ids = IdMaker(reading.label, Path(os.path.abspath(path)))
    num_found = 0
    listed: dict[Path, set[str]] = {}
    for file in walk(Path(os.path.abspath(path))):
        if file.name.endswith(TRANSCRIPT_LISTS):
            found = list(_of_list(file))
        elif file.suffix.lower() in AUDIO and not _is_listed(file, listed):
            found = [_of_file(file, ids)]
        else:
            continue
        num_found += len(found)
        yield from found
    if not num_found:
        raise UserError(f"{path}: holds no audio")


def walk(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and the folders in it, sorted, without hidden ones.

    Raises:
        UserError: a folder cannot be read.
    """
    seen: set[str] = set()
    for root, folders, files in walk_folders(folder, follow_links=True):
        # Links may lead back to a folder above.
        real = os.path.realpath(root)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))
        seen.add(real)


def has_transcript(file: Path) -> bool:
    """Whether a file is audio with a transcript beside it."""
    return file.suffix.lower() in AUDIO and any(file.with_suffix(ending).is_file() for ending in TRANSCRIPTS)


def _of_file(audio: Path, ids: IdMaker) -> ListedUtterance:
    texts = [audio.with_suffix(ending) for ending in TRANSCRIPTS if audio.with_suffix(ending).is_file()]
    if len(texts) > 1:
        raise UserError(f"{audio}: has two transcripts, {texts[0].name} and {texts[1].name}; keep one of them")
    twin = next((name for name in _names(audio.parent, audio.stem) if name != audio.name), None)
    if twin is not None:
        raise UserError(f"{audio}: {twin} has the same name and therefore the same transcript; keep one of them")
    folders = audio.parent.relative_to(ids.folder).parts
    missing = f"{audio} ({_why_without(audio)})"
    return ListedUtterance(
        id=ids.make(audio),
        audio=audio,
        # Without a transcript the text is empty, which is reported as any other empty transcript.
        text=" ".join(read_text(texts[0]).split()) if texts else "",
        speaker=folders[0] if folders else "",
        language="",
        source=str(texts[0]) if texts else missing,
    )


def _why_without(audio: Path) -> str:
    """Return why audio has no transcript; a broken link, a folder or a pipe may have the name of one."""
    beside = [audio.with_suffix(ending) for ending in TRANSCRIPTS]
    broken = next((path.name for path in beside if os.path.lexists(path)), None)
    if broken is not None:
        return f"{broken} beside it is no file; replace it by one"
    return f"without {audio.stem}.txt or {audio.stem}.lab beside it"


def _names(folder: Path, stem: str) -> list[str]:
    """The names of the audio files of this name, which differ in their endings."""
    paths = (folder / f"{stem}{ending}" for ending in AUDIO)
    return [path.name for path in paths if path.is_file()]


def _is_listed(audio: Path, listed: dict[Path, set[str]]) -> bool:
    """Whether a list of LibriSpeech in the same folder names the file, as its transcripts are nowhere else.

    Args:
        listed: folder -> the names in its lists, as far as they have been read; is completed.
    """
    if has_transcript(audio):
        return False
    folder = audio.parent
    if folder not in listed:
        lists = matching(folder, f"[!.]*{TRANSCRIPT_LISTS}")
        listed[folder] = {line.text.split()[0] for path in lists for line in read_lines(path) if line.text.strip()}
    return audio.stem in listed[folder]


def _of_list(path: Path) -> Iterator[ListedUtterance]:
    for line in read_lines(path):
        if not line.text.strip():
            continue
        name, *rest = line.text.split(maxsplit=1)
        if "/" in name:
            raise UserError(f"{line.where}: the id {name} must be the name of a file in this folder, without /")
        found = _names(path.parent, name)
        speaker, separator, _ = path.name.removesuffix(TRANSCRIPT_LISTS).partition("-")
        yield ListedUtterance(
            id=name,
            audio=path.parent / (found[0] if found else f"{name}.flac"),
            text=rest[0] if rest else "",
            speaker=speaker if separator else path.parent.name,
            language="",
            source=line.where,
        )
