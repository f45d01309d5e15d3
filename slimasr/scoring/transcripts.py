"""Transcripts of others: Kaldi's ``text`` and ``utt2spk`` files, and references paired with hypotheses."""

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
        utterances: one per reference, in the references' order.
        missing: ids without a hypothesis, scored as empty.
        extra: ids of hypotheses without a reference, not scored.
    """

    utterances: tuple[Utterance, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]


def pair(
    refs: Mapping[str, tuple[str, ...]], hyps: Mapping[str, tuple[str, ...]], *, allow_missing: bool = False
) -> Paired:
    """Bring references and hypotheses of the same utterances together.

    Raises:
        UserError: a reference has no hypothesis and ``allow_missing`` is not set, or none has one.
    """
    missing = tuple(utterance for utterance in refs if utterance not in hyps)
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
    """Words per utterance of a Kaldi ``text`` file; a line with an id alone is an empty transcript.

    Raises:
        UserError: missing or unreadable file, an empty line, or an utterance id that comes twice.
    """
    transcripts: dict[str, tuple[str, ...]] = {}
    for line, fields in _read_fields(path, "<utterance id> <word> <word> ..."):
        if fields[0] in transcripts:
            raise UserError(f"{line.where}: utterance {fields[0]} comes twice; keep one of them")
        transcripts[fields[0]] = tuple(fields[1:])
    return transcripts


def read_utt2spk(path: Path) -> dict[str, str]:
    """Speaker per utterance of a Kaldi ``utt2spk`` file.

    Raises:
        UserError: missing or unreadable file, a line that is not ``<utterance id> <speaker id>``, or an utterance
            that comes twice.
    """
    speakers: dict[str, str] = {}
    for line, fields in _read_fields(path, "<utterance id> <speaker id>"):
        if len(fields) != 2:
            raise UserError(f"{line.where}: expected '<utterance id> <speaker id>'")
        if fields[0] in speakers:
            raise UserError(
                f"{line.where}: utterance {fields[0]} comes twice (speakers {speakers[fields[0]]} and {fields[1]}); "
                "keep one of them"
            )
        speakers[fields[0]] = fields[1]
    return speakers


def _read_fields(path: Path, layout: str) -> list[tuple[Line, list[str]]]:
    """Lines and their fields, which white space separates, at least one per line."""
    lines = read_lines(path)
    if not lines:
        raise UserError(f"{path}: is empty, expected lines '{layout}'")
    rows = [(line, line.text.split()) for line in lines]
    for line, fields in rows:
        if not fields:
            raise UserError(f"{line.where}: empty line, expected '{layout}'")
    return rows
