"""AN4, the CMU census database: spelled names, numbers and commands (948 + 130 utterances, 16 kHz).

Native layout: ``etc/an4_{train,test}.{fileids,transcription}`` and ``wav/<fileid>.{sph,wav,flac}``. The
folder above an utterance is its speaker.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from slimasr.config.corpora import An4Options
from slimasr.data.corpora.base import (
    Corpus,
    ListedUtterance,
    Options,
    only_sets,
    parse_options,
    read_lines,
    read_transcripts,
    refuse_contradictions,
)
from slimasr.errors import UserError
from slimasr.textfiles import Line

SUFFIXES = (".sph", ".wav", ".flac")
# Every ninth speaker in alphabetical order from the fifth on, which keeps the ratio of women (f...) to men (m...).
DEV_FIRST = 4
DEV_EVERY = 9
TRANSCRIPT = re.compile(r"^(?P<text>.*)\((?P<id>[^()]+)\)\s*$")


def list_utterances(corpus_dir: Path, sets: Sequence[str], options: Options) -> dict[str, list[ListedUtterance]]:
    """List the sets ``train`` and ``dev`` (held-out training speakers), and ``test``."""
    parse_options(An4Options, options, "an4")
    listed = _read_part(corpus_dir, "train")
    held_out = dev_speakers({item.speaker for item in listed})
    found = {
        "train": [item for item in listed if item.speaker not in held_out],
        "dev": [item for item in listed if item.speaker in held_out],
        "test": _read_part(corpus_dir, "test"),
    }
    refuse_contradictions(found)
    return only_sets(found, sets, "an4")


def dev_speakers(speakers: set[str]) -> set[str]:
    """The training speakers held out for dev. Names that differ only in a digit (mdcs, mdcs2) stay in one set."""
    # Sorted names, not the set itself, whose order changes from process to process.
    people = sorted({speaker.rstrip("0123456789") for speaker in speakers})
    chosen = set(people[DEV_FIRST::DEV_EVERY])
    return {speaker for speaker in speakers if speaker.rstrip("0123456789") in chosen}


def _read_part(corpus_dir: Path, part: str) -> list[ListedUtterance]:
    fileids, transcription = (corpus_dir / "etc" / f"an4_{part}.{end}" for end in ("fileids", "transcription"))
    texts = read_transcripts(read_lines(transcription), _parse_line)
    utterances = []
    for line in read_lines(fileids):
        fileid = line.text.strip()
        stem = Path(fileid)
        # Without a transcript the text is empty, which is reported as any other empty transcript.
        text, source = texts.get(stem.name, ("", line))
        audio = _find_audio(corpus_dir / "wav", fileid)
        utterances.append(ListedUtterance(stem.name, audio, text, stem.parent.name, source=source.where))
    return utterances


def _parse_line(line: Line) -> tuple[str, str]:
    match = TRANSCRIPT.match(line.text)
    if match is None:
        raise UserError(f"{line.where}: expected '<word> <word> ... (<utterance id>)', not {line.text!r}")
    # Lines of the training set are enclosed in <s> </s>, those of the test set are not.
    words = [word for word in match["text"].split() if word not in ("<s>", "</s>")]
    return match["id"].strip(), " ".join(words)


def _find_audio(wav_dir: Path, fileid: str) -> Path:
    candidates = [wav_dir / f"{fileid}{suffix}" for suffix in SUFFIXES]
    # If there is no file, the message about it names the corpus's native format.
    return next((path for path in candidates if path.is_file()), candidates[0])


def _archives(sets: Sequence[str], options: Options) -> list[str]:
    return ["http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz"]


CORPUS = Corpus("an4", ("an4",), "etc/an4_train.fileids", list_utterances, _archives)
