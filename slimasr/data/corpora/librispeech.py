"""LibriSpeech and mini LibriSpeech; sets are the corpus's parts (``train-clean-100``, ``dev-clean``, ...).

Native layout: ``PART/SPEAKER/CHAPTER/UTTERANCE.flac`` and ``SPEAKER-CHAPTER.trans.txt``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from slimasr.config.corpora import LibriSpeechOptions
from slimasr.data.corpora.base import (
    Corpus,
    ListedUtterance,
    Options,
    parse_options,
    read_lines,
    read_transcripts,
)
from slimasr.errors import UserError
from slimasr.files import matching
from slimasr.textfiles import Line

FULL_PARTS = (
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
)
MINI_PARTS = ("train-clean-5", "dev-clean-2")


def list_utterances(corpus_dir: Path, sets: Sequence[str], options: Options) -> dict[str, list[ListedUtterance]]:
    """List the parts; the utterances of a part are sorted by id."""
    shortest = parse_options(LibriSpeechOptions, options, "librispeech").shortest
    return {part: _keep(_read_part(corpus_dir, part), shortest) for part in sets}


def _keep(utterances: list[ListedUtterance], shortest: int) -> list[ListedUtterance]:
    if not shortest:
        return utterances
    # By characters of the transcript, as a substitute for durations, which would need the audio.
    by_length = sorted(utterances, key=lambda item: (len(item.text), item.id))
    return sorted(by_length[:shortest], key=lambda item: item.id)


def _read_part(corpus_dir: Path, part: str) -> list[ListedUtterance]:
    _check_known(part)
    utterances = [
        utterance for path in matching(corpus_dir / part, "*/*/*.trans.txt") for utterance in _read_chapter(path)
    ]
    if not utterances:
        raise UserError(f"{corpus_dir / part}: no transcripts; the part {part} is missing")
    return sorted(utterances, key=lambda item: item.id)


def _check_known(part: str) -> None:
    known = (*FULL_PARTS, *MINI_PARTS)
    if part not in known:
        raise UserError(f"data: librispeech has no part {part!r}; its parts are {', '.join(known)}")


def _read_chapter(path: Path) -> Iterator[ListedUtterance]:
    """The utterances of one ``SPEAKER-CHAPTER.trans.txt``.

    Raises:
        UserError: an id occurs twice, or is neither of this speaker and chapter nor the name of a file in the folder.
    """
    chapter = path.parent
    for name, (text, line) in read_transcripts(read_lines(path), _parse_line).items():
        audio = chapter / f"{name}.flac"
        # Audio may be missing, which is reported per utterance later; a line without an id is an error of the list.
        if not name.startswith(f"{chapter.parent.name}-{chapter.name}-") and not audio.is_file():
            raise UserError(
                f"{line.where}: expected '<utterance id> <word> <word> ...', but {chapter} has no audio file "
                f"{name}.flac: {line.text[:80]!r}"
            )
        yield ListedUtterance(name, audio, text, chapter.parent.name, source=line.where)


def _parse_line(line: Line) -> tuple[str, str]:
    name, *rest = line.text.split(maxsplit=1)
    return name, "".join(rest).strip()


def _holds(corpus_dir: Path, sets: Sequence[str], options: Options) -> bool:
    for part in sets:
        _check_known(part)
    return all((corpus_dir / part).is_dir() for part in sets)


def _archives(sets: Sequence[str], options: Options) -> list[str]:
    # The numbers of LibriSpeech and mini LibriSpeech at OpenSLR.
    numbers = {part: 12 if part in FULL_PARTS else 31 for part in sets}
    return [f"https://www.openslr.org/resources/{number}/{part}.tar.gz" for part, number in numbers.items()]


CORPUS = Corpus(
    "librispeech",
    ("LibriSpeech", "librispeech/LibriSpeech", "librispeech", "librispeech_mini/LibriSpeech"),
    "*/*/*/*.trans.txt",
    list_utterances,
    _archives,
    _holds,
)
