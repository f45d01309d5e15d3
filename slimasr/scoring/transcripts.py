"""Read Kaldi's ``text``, ``utt2spk`` and ``utt2lang`` files, and pair references with hypotheses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slimasr.errors import UserError
from slimasr.scoring.alignment import Utterance
from slimasr.textfiles import Line, read_lines


@dataclass(frozen=True)
class Paired:
    """References with their hypotheses.

    Attributes:
        utterances: one per reference, in the order of the references.
        missing: ids without a hypothesis, which are scored as empty.
        extra: ids of hypotheses without a reference, which are not scored.
    """

    utterances: tuple[Utterance, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]


def pair(
    refs: Mapping[str, tuple[str, ...]], hyps: Mapping[str, tuple[str, ...]], *, allow_missing: bool = False
) -> Paired:
    """Pair references and hypotheses of the same utterances.

    Raises:
        UserError: a reference has no hypothesis and ``allow_missing`` is false, or no reference has one.
    """
    missing = tuple(utterance for utterance in refs if utterance not in hyps)
    # No id in common means wrong files, which --allow-missing must not hide.
    if len(missing) == len(refs) and refs and hyps:
        raise UserError(
            f"references and hypotheses have no utterance in common (the first ones are {next(iter(refs))} and "
            f"{next(iter(hyps))}); both files need the same utterance ids"
        )
    if missing and not allow_missing:
        raise UserError(
            f"utterance {missing[0]} has no hypothesis ({len(missing)} of {len(refs)} have none); decode it, "
            "or score such utterances as empty with --allow-missing"
        )
    utterances = tuple(Utterance(utterance, ref, hyps.get(utterance, ())) for utterance, ref in refs.items())
    return Paired(utterances, missing, tuple(utterance for utterance in hyps if utterance not in refs))


def read_text(path: Path) -> dict[str, tuple[str, ...]]:
    """Read the words per utterance of a Kaldi ``text`` file; a line with only an id is an empty transcript.

    Raises:
        UserError: the file is missing or unreadable, a line is empty, or an utterance id occurs twice.
    """
    transcripts: dict[str, tuple[str, ...]] = {}
    for line, fields in _read_fields(path, "<utterance id> <word> <word> ..."):
        if fields[0] in transcripts:
            raise UserError(f"{line.where}: utterance {fields[0]} comes twice; keep one of them")
        # No words, if the id is alone: the reference or hypothesis is empty.
        transcripts[fields[0]] = tuple(fields[1:])
    return transcripts


def read_utt2spk(path: Path) -> dict[str, str]:
    """Read the speaker per utterance of a Kaldi ``utt2spk`` file.

    Raises:
        UserError: the file is missing or unreadable, a line is not ``<utterance id> <speaker id>``, or an utterance
            occurs twice.
    """
    return _read_facts(path, "speaker", "speaker id")


def read_utt2lang(path: Path) -> dict[str, str]:
    """Read the language per utterance of a Kaldi ``utt2lang`` file. Raises as `read_utt2spk`."""
    return _read_facts(path, "language", "language")


def _read_facts(path: Path, what: str, field: str) -> dict[str, str]:
    """Read one fact per utterance; ``what`` and ``field`` name it in messages and in the layout."""
    facts: dict[str, str] = {}
    layout = f"<utterance id> <{field}>"
    for line, fields in _read_fields(path, layout):
        if len(fields) != 2:
            raise UserError(f"{line.where}: expected '{layout}'")
        if fields[0] in facts:
            raise UserError(
                f"{line.where}: utterance {fields[0]} comes twice ({what}s {facts[fields[0]]} and {fields[1]}); "
                "keep one of them"
            )
        facts[fields[0]] = fields[1]
    return facts


def _read_fields(path: Path, layout: str) -> list[tuple[Line, list[str]]]:
    """Read lines and split them at white space; every line has at least one field."""
    lines = read_lines(path)
    if not lines:
        raise UserError(f"{path}: is empty, expected lines '{layout}'")
    rows = [(line, line.text.split()) for line in lines]
    for line, fields in rows:
        if not fields:
            raise UserError(f"{line.where}: empty line, expected '{layout}'")
    return rows
