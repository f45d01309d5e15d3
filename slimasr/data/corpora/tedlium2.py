"""TED-LIUM release 2: talks and the times and texts of their segments; sets ``train``, ``dev`` and ``test``.

Native layout: ``{train,dev,test}/sph/TALK.sph`` and ``stm/TALK.stm``, ``TEDLIUM.152k.dic`` (pronunciations) and
``LM/*.en.gz`` (texts). A line of an STM file is ``TALK CHANNEL SPEAKER START END <LABELS> WORD WORD ...``.

lhotse's recipe reads the corpus. Texts lose the marks of pronunciation variants, ``word(2)``, and of noises, and words
that were split at apostrophes are joined, as in Kaldi's recipe.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lhotse.audio.backend import LibsndfileBackend, get_current_audio_backend, set_current_audio_backend
from lhotse.recipes import prepare_tedlium2
from lhotse.recipes.utils import normalize_text_tedlium

from slimasr.config.corpora import TedLium2Options
from slimasr.data.corpora.base import (
    Corpus,
    ListedUtterance,
    Options,
    only_sets,
    parse_options,
    read_lines,
    refuse_contradictions,
)
from slimasr.errors import UserError
from slimasr.files import matching
from slimasr.textfiles import Line

SETS = ("train", "dev", "test")
# What lhotse leaves out: stretches without a transcript.
IGNORED = "ignore_time_segment_in_scoring"
_FIELDS = 6
# Marks of pronunciation variants, and noises as STM files and lhotse write them.
_MARKS = re.compile(r"\(\d+\)|\{[^}]*\}|\[[^\]]*\]|<sil>|<unk>")


@dataclass(frozen=True)
class StmSegment:
    """A line of an STM file; times in seconds."""

    line: Line
    start: float
    end: float
    text: str


def list_utterances(corpus_dir: Path, sets: Sequence[str], options: Options) -> dict[str, list[ListedUtterance]]:
    """List the segments of the talks; a talk is a speaker."""
    parse_options(TedLium2Options, options, "tedlium2")
    wanted = [name for name in SETS if name in sets]
    found = {name: _read_set(corpus_dir, name) for name in wanted}
    refuse_contradictions(found)
    return only_sets({name: found.get(name, []) for name in SETS}, sets, "tedlium2")


def normalise(text: str) -> str:
    """The words of a segment's text.

    ``it(2) 's {NOISE} fine`` becomes ``it's fine``.
    """
    spoken = " ".join(_MARKS.sub(" ", text).split())
    return str(normalize_text_tedlium(spoken, "kaldi"))


def read_stm(path: Path) -> dict[str, StmSegment]:
    """The segments of a talk by the ids that lhotse gives them: talk and index of the line.

    Raises:
        UserError: there is no line, or one lacks fields, or its times are no numbers or not in order, or it is of
            another talk.
    """
    segments = {}
    for line in read_lines(path):
        talk, *rest = line.text.split(maxsplit=_FIELDS)
        if len(rest) < _FIELDS - 1:
            raise UserError(f"{line.where}: expected 'talk channel speaker start end <labels> word ...'")
        if talk != path.stem:
            raise UserError(f"{line.where}: the line is of talk {talk}, the file of {path.stem}")
        start, end = _times(line, rest[2], rest[3])
        segments[f"{talk}-{line.number - 1}"] = StmSegment(line, start, end, "".join(rest[_FIELDS - 1 :]))
    if not segments:
        raise UserError(f"{path}: holds no segment; copy the file again, or remove it together with its .sph file")
    return segments


def _times(line: Line, start: str, end: str) -> tuple[float, float]:
    try:
        times = float(start), float(end)
    except ValueError:
        raise UserError(f"{line.where}: start {start!r} and end {end!r} must be seconds") from None
    if times[0] < 0.0:
        raise UserError(f"{line.where}: the segment starts at {start} s, before the start of its talk")
    # Comparisons with NaN are false.
    if not 0.0 <= times[0] < times[1] < float("inf"):
        raise UserError(f"{line.where}: the segment ends at {end} s, not behind its start at {start} s")
    return times


def _read_set(corpus_dir: Path, name: str) -> list[ListedUtterance]:
    stm, sph = corpus_dir / name / "stm", corpus_dir / name / "sph"
    talks = {path.stem for path in matching(stm, "*.stm")}
    if not talks:
        raise UserError(f"{stm}: no transcripts; the set {name} is missing")
    alone = talks ^ {path.stem for path in matching(sph, "*.sph")}
    if alone:
        raise UserError(f"{corpus_dir / name}: talk {min(alone)} lacks its .sph or its .stm file")
    listed = {key: segment for talk in sorted(talks) for key, segment in read_stm(stm / f"{talk}.stm").items()}
    texts = _lhotse_texts(corpus_dir, name)
    return list(_utterances(sph, listed, texts))


def _utterances(sph: Path, listed: Mapping[str, StmSegment], texts: Mapping[str, str]) -> Iterator[ListedUtterance]:
    for key, segment in listed.items():
        if segment.text.strip() == IGNORED:
            continue
        talk = segment.line.path.stem
        yield ListedUtterance(
            id=key,
            audio=sph / f"{talk}.sph",
            # lhotse drops segments that begin behind the end of their talk; listed, they are named by stage 1.
            text=normalise(texts.get(key, segment.text)),
            speaker=talk,
            source=segment.line.where,
            # lhotse cuts segments at the end of their talk; with the times of the list, stage 1 judges them.
            start=segment.start,
            duration=round(segment.end - segment.start, ndigits=8),
        )


def _lhotse_texts(corpus_dir: Path, name: str) -> dict[str, str]:
    """Utterance id -> text as lhotse's recipe reads it."""
    # Its progress bar, which cannot be switched off, is not wanted.
    with _libsndfile(), redirect_stderr(io.StringIO()):
        try:
            made: Any = prepare_tedlium2(corpus_dir, dataset_parts=[name])
        except (AssertionError, ValueError, RuntimeError, OSError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"{corpus_dir / name}: lhotse cannot read the set: {reason}") from error
    return {item.id: item.text or "" for item in made[name]["supervisions"]}


@contextmanager
def _libsndfile() -> Iterator[None]:
    """Let lhotse read headers by libsndfile inside the block; by default it would call a program for SPHERE files."""
    previous = get_current_audio_backend()
    set_current_audio_backend(LibsndfileBackend())
    try:
        yield
    finally:
        set_current_audio_backend(previous)


def _archives(sets: Sequence[str], options: Options) -> list[str]:
    return ["https://www.openslr.org/resources/19/TEDLIUM_release2.tar.gz"]


CORPUS = Corpus(
    "tedlium2", ("TEDLIUM_release2", "tedlium2/TEDLIUM_release2"), "train/stm/*.stm", list_utterances, _archives
)
