"""The interface of a corpus module to the manifest builder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from slimasr import textfiles
from slimasr.config.data import DataConfig
from slimasr.config.section import Section
from slimasr.errors import UserError
from slimasr.progress import Progress
from slimasr.textfiles import Line

OptionValue = int | float | str | bool
Options = Mapping[str, OptionValue]
T = TypeVar("T", bound=Section)


@dataclass(frozen=True)
class ListedUtterance:
    """One listed utterance; the presence and the length of its audio are checked later.

    Attributes:
        audio: a file that holds the utterance alone, or a long recording of which it is a segment.
        start: where the segment begins in the recording, in seconds.
        duration: length of the segment in seconds; None = up to the end of the recording.
        rounded: whether lists of this kind also give the length of whole recordings, rounded; a segment that is the
            recording but for the rounding is then taken for the recording.
        channel: which channel of the file it is, from 0 on; None = the file must be mono.
        average_channels: whether it is the average of all channels of the file.
        command: a shell command whose output is the audio; ``audio`` is then the file that keeps this output.
        source: ``file:line`` of the list that names it, for messages; empty if the corpus has no list but its files.
    """

    id: str
    audio: Path
    text: str
    speaker: str
    language: str = "en"
    source: str = ""
    start: float = 0.0
    duration: float | None = None
    rounded: bool = False
    channel: int | None = None
    average_channels: bool = False
    command: str = ""

    @property
    def is_segment(self) -> bool:
        """Whether the file may hold other utterances too."""
        return self.duration is not None or self.start > 0.0


@dataclass(frozen=True)
class Listing:
    """What a corpus lists.

    Attributes:
        sets: set name -> its utterances.
        notes: what the user should know, one sentence each.
        split: how sets were split off from others, as plain JSON data; None = the corpus has its sets.
    """

    sets: dict[str, list[ListedUtterance]]
    notes: tuple[str, ...] = ()
    split: dict[str, Any] | None = None


JOIN = "+"
"""Between the names of sets that are joined into one."""

ListUtterances = Callable[[Path, Sequence[str], Options], dict[str, list[ListedUtterance]]]
Archives = Callable[[Sequence[str], Options], list[str]]


@dataclass(frozen=True)
class Corpus:
    """How to find and read a corpus.

    Attributes:
        name: as in ``data.corpus``.
        folders: its possible subfolders of a corpora folder; "." is the folder itself.
        marker: glob pattern that matches something in the corpus's own folder.
        list_parts: (corpus folder, names of the corpus's own sets, options) -> set name -> utterances.
        archives: (names of the corpus's own sets, options) -> addresses of the archives to download; None if there are
            none.
        holds: (corpus folder, names of the corpus's own sets, options) -> whether these sets are there, for corpora of
            several archives; None = a folder that was found holds all.
        derive: makes other utterances from (corpus folder, folder to make, options, progress), and returns the folder
            to list, which is the corpus's own one if options ask for nothing to be made.
        generate: synthesises the corpus from (corpus folder, options, progress); None for recorded corpora.
        list_with_notes: does what ``list_parts`` does, with notes; None = there are none.
        configured: makes the corpus of a recipe, for one whose folders and sets are the recipe's own; None = all
            recipes have the same.
    """

    name: str
    folders: tuple[str, ...]
    marker: str
    list_parts: ListUtterances
    archives: Archives | None = None
    holds: Callable[[Path, Sequence[str], Options], bool] | None = None
    derive: Callable[[Path, Path, Options, Progress], Path] | None = None
    generate: Callable[[Path, Options, Progress], None] | None = None
    list_with_notes: Callable[[Path, Sequence[str], Options], Listing] | None = None
    configured: Callable[[DataConfig], Corpus] | None = None

    def locate(self, parent: Path) -> Path | None:
        """The corpus's own folder at or below ``parent``."""
        for folder in (".", *self.folders):
            if any((parent / folder).glob(self.marker)):
                return (parent / folder).resolve()
        return None

    def list_utterances(
        self, corpus_dir: Path, sets: Sequence[str], options: Options
    ) -> dict[str, list[ListedUtterance]]:
        """List the utterances of sets; see `listing`."""
        return self.listing(corpus_dir, sets, options).sets

    def listing(self, corpus_dir: Path, sets: Sequence[str], options: Options) -> Listing:
        """List the utterances of sets; a name such as ``dev-fr+dev-nl`` joins sets of the corpus, in this order.

        Raises:
            UserError: a set is unknown or incomplete, or is joined with itself.
        """
        parts = own_sets(sets)
        if self.list_with_notes is None:
            found = Listing(self.list_parts(corpus_dir, parts, options))
        else:
            found = self.list_with_notes(corpus_dir, parts, options)
        joined = {name: [item for part in parts_of(name) for item in found.sets[part]] for name in sets}
        refuse_contradictions(joined)
        return replace(found, sets=joined)

    def is_complete(self, corpus_dir: Path, sets: Sequence[str], options: Options) -> bool:
        """Whether the folder holds all that sets, which may be joined, are made of."""
        return self.holds is None or self.holds(corpus_dir, own_sets(sets), options)

    def addresses(self, sets: Sequence[str], options: Options) -> list[str]:
        """Addresses of the archives to download for sets, which may be joined; [] if there are none."""
        return [] if self.archives is None else self.archives(own_sets(sets), options)


def parts_of(name: str) -> list[str]:
    """The sets of the corpus that a set's name joins; most names are one of these sets.

    Raises:
        UserError: a set is joined with itself, or a name is missing before or after a ``+``.
    """
    parts = name.split(JOIN)
    if not all(parts):
        raise UserError(f"data: {name!r}: the name of a set is missing before or after {JOIN}")
    twice = next((part for part in parts if parts.count(part) > 1), None)
    if twice is not None:
        raise UserError(f"data: {name!r} joins the set {twice} with itself; name it once")
    return parts


def own_sets(sets: Sequence[str]) -> list[str]:
    """The sets of the corpus that make up sets, each once."""
    return list(dict.fromkeys(part for name in sets for part in parts_of(name)))


def parse_options(kind: type[T], options: Options, corpus: str) -> T:
    """``data.options`` as the section of a corpus.

    Raises:
        UserError: an option is unknown, of the wrong type or out of range.
    """
    # The type of an option is that of its default.
    known = {name: type(field.default) for name, field in kind.model_fields.items()}
    values: dict[str, OptionValue] = {}
    for key, value in options.items():
        if key not in known:
            raise UserError(f"data.options.{key}: unknown for corpus {corpus}; known: {', '.join(known) or 'none'}")
        if known[key] is float and type(value) is int:
            value = float(value)
        # YAML reads a channel as a number, which is a text as well as any other.
        if known[key] is str and type(value) in (int, float):
            value = str(value)
        # Not isinstance, for which True would be an integer.
        if type(value) is not known[key]:
            raise UserError(f"data.options.{key}: needs {known[key].__name__}, not {value!r}")
        values[key] = value
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # A rule about several options names them itself.
        if not first["loc"]:
            raise UserError(f"data.options.{first['msg'].removeprefix('Value error, ')}") from None
        raise UserError(f"data.options.{first['loc'][0]}: {first['msg']}, got {first['input']}") from None


def read_lines(path: Path) -> list[Line]:
    """Yield the lines of a text file of the corpus that are not blank.

    Raises:
        UserError: the file is missing or is not plain text (`slimasr.textfiles`).
    """
    if not path.exists():
        raise UserError(f"{path} is missing: the corpus is not complete")
    return [line for line in textfiles.read_lines(path) if line.text.strip()]


def read_transcripts(lines: Iterable[Line], parse: Callable[[Line], tuple[str, str]]) -> dict[str, tuple[str, Line]]:
    """ListedUtterance id -> its transcript and the line that contains it.

    Args:
        lines: the lines of one file.
        parse: line -> utterance id and transcript.

    Raises:
        UserError: an utterance has two transcripts, equal or not; Kaldi refuses both cases, too.
    """
    transcripts: dict[str, tuple[str, Line]] = {}
    for line in lines:
        utterance, text = parse(line)
        if utterance in transcripts:
            first_text, first = transcripts[utterance]
            how = "the same" if text.split() == first_text.split() else "another"
            raise UserError(
                f"{line.where}: utterance {utterance} has {how} transcript in line {first.number} already; "
                "keep one of them"
            )
        transcripts[utterance] = (text, line)
    return transcripts


def refuse_contradictions(sets: Mapping[str, Iterable[ListedUtterance]]) -> None:
    """Refuse ids that are listed twice: always within a set, and in different sets if the transcripts differ.

    Raises:
        UserError: an id is listed twice; the message names the utterance and both places.
    """
    seen: dict[str, tuple[str, ListedUtterance]] = {}
    for name, utterances in sets.items():
        for utterance in utterances:
            # The first utterance with this id; it is the same object if there was none before.
            first_set, first = seen.setdefault(utterance.id, (name, utterance))
            # One line of a list may be in several sets, such as dev-clean and dev-clean+dev-other.
            if first.source == utterance.source:
                continue
            if first_set == name or first.text.split() != utterance.text.split():
                how = "is listed twice" if first_set == name else "has another transcript"
                raise UserError(
                    f"{utterance.source}: utterance {utterance.id} {how}, first in {first.source}; keep one of them"
                )


def only_sets(
    utterances: dict[str, list[ListedUtterance]], sets: Sequence[str], corpus: str
) -> dict[str, list[ListedUtterance]]:
    """Select sets by name; an unknown name raises a `UserError` that lists the known ones."""
    for name in sets:
        if name not in utterances:
            raise UserError(f"data: corpus {corpus} has no set {name!r}; it has {', '.join(sorted(utterances))}")
    return {name: utterances[name] for name in sets}
