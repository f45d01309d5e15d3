"""Read the manifests of the training sets once, into a few columns and compressed lines."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from lhotse import SupervisionSegment
from lhotse.serialization import decode_json_line

from slimasr.config.schema import Config
from slimasr.data.batches.filters import EncoderFrames, unusable
from slimasr.data.files import BadUtterance, DataFolder, check_bad_share, iterate_lines, read_bad
from slimasr.data.identity.digests import AudioStamp, AudioWatch, ContentDigest, Identity
from slimasr.data.identity.manifest_record import STAGE_2, manifest_identity
from slimasr.data.identity.provenance import check_content, check_features, check_origin, stored_speeds
from slimasr.data.memory.stored_cuts import Lines, StoredCuts
from slimasr.data.memory.words import WordEncoder
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.errors import UserError
from slimasr.files import understanding

IdentityOf = Callable[[DataFolder, str], Identity]


def _integers() -> array[int]:
    return array("i")


def _floats() -> array[float]:
    return array("d")


@dataclass
class Records:
    """Columns of utterances, to which sets are appended.

    Attributes:
        ids: utterance ids.
        tokens: number of tokens of each transcript.
        languages: language of each utterance; an empty text for those without one.
        keys: batch key of each utterance; empty if batches are mixed.
        stored: speed -> cuts.
        bad: utterances that are left out.
    """

    stored: dict[float, StoredCuts]
    ids: list[str] = field(default_factory=list)
    tokens: array[int] = field(default_factory=_integers)
    languages: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    bad: list[BadUtterance] = field(default_factory=list)


@dataclass
class _Set:
    """The utterances of one set, usable or not, at the first of the stored speeds.

    Attributes:
        rows: utterance id -> number of the utterance.
        tokens, languages, keys: those of `Records`.
        places, durations: number of its line and its seconds.
        reasons: number of the utterance -> why it cannot be used.
    """

    rows: dict[str, int] = field(default_factory=dict)
    tokens: array[int] = field(default_factory=_integers)
    languages: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    places: array[int] = field(default_factory=_integers)
    durations: array[float] = field(default_factory=_floats)
    reasons: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Judge:
    """Decides whether an utterance can be used at all training speeds.

    Attributes:
        config: the recipe.
        tokenizer: makes the tokens.
        words: encodes transcripts as the tokenizer does.
        encoder_frames: feature frames -> encoder frames.
    """

    config: Config
    tokenizer: Tokenizer
    words: WordEncoder
    encoder_frames: EncoderFrames

    def judge(self, text: str, seconds: float) -> tuple[int, str | None]:
        """Return the number of tokens of a transcript and why its utterance cannot be used, or None.

        Args:
            seconds: duration at natural speed.
        """
        ids = self.words.encode(text)
        # An utterance is longest at the lowest speed and shortest at the highest one, so these two decide for all.
        for speed in sorted({min(self.config.data.speeds), max(self.config.data.speeds)}):
            reason = unusable(seconds / speed, text, ids, self.config, self.tokenizer, self.encoder_frames)
            if reason is not None:
                return len(ids), reason
        return len(ids), None


def read_records(
    config: Config, folder: DataFolder, tokenizer: Tokenizer, encoder_frames: EncoderFrames, key: str | None
) -> Records:
    """Read the training sets and leave out utterances that cannot be used.

    Args:
        key: supervision field by which batches are grouped.

    Raises:
        UserError: see `slimasr.data.memory.training_cuts.read_training_cuts`.
    """
    empty = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float64)
    records = Records({speed: StoredCuts(Lines(), *empty, folder.features) for speed in stored_speeds(config)})
    judge = Judge(config, tokenizer, WordEncoder(tokenizer), cache(encoder_frames))
    # The identity of a set is the same for all speeds, and to compute it is to read a manifest.
    identity_of: IdentityOf = cache(manifest_identity)
    for name in config.data.train:
        _append_set(records, config, folder, name, judge, key, identity_of)
    if not records.ids:
        raise UserError(f"{folder.features}: no usable training utterance in {', '.join(config.data.train)}")
    if len(set(records.ids)) != len(records.ids):
        raise UserError(f"data.train: the sets {', '.join(config.data.train)} share utterances")
    return records


def _append_set(
    records: Records,
    config: Config,
    folder: DataFolder,
    name: str,
    judge: Judge,
    key: str | None,
    identity_of: IdentityOf,
) -> None:
    """Append the usable utterances of a set, and what is left out."""
    first, *others = records.stored
    lines = _checked_lines(config, folder, name, first, identity_of)
    found = _read_first(lines, records.stored[first].lines, judge, first, key, name)
    at_speeds = {first: (np.frombuffer(found.places, np.int32), np.frombuffer(found.durations, np.float64))}
    for speed in others:
        lines = _checked_lines(config, folder, name, speed, identity_of)
        at_speeds[speed] = _read_other(lines, records.stored[speed].lines, found.rows)
    # Utterances exist that only some speeds have, as audio may be too short at a high one.
    in_all = np.all([places >= 0 for places, _ in at_speeds.values()], axis=0)
    usable = in_all.copy()
    usable[list(found.reasons)] = False
    ids = list(found.rows)
    rejected = [BadUtterance(ids[row], reason) for row, reason in found.reasons.items() if in_all[row]]
    # The limit applies to what stages 1 and 2 and this check leave out together.
    left_out = [*read_bad(folder.raw_bad(name)), *read_bad(folder.bad(name)), *rejected]
    good = np.flatnonzero(usable)
    check_bad_share(left_out, len(left_out) + len(good), config.data.max_bad_share, name)
    records.bad.extend(left_out)
    rows = good.tolist()
    records.ids.extend(ids[row] for row in rows)
    records.tokens.extend(found.tokens[row] for row in rows)
    records.languages.extend(found.languages[row] for row in rows)
    records.keys.extend(found.keys[row] for row in rows if found.keys)
    for speed, (places, durations) in at_speeds.items():
        records.stored[speed] = records.stored[speed].extended(places[good], durations[good])


def _checked_lines(
    config: Config, folder: DataFolder, name: str, speed: float, identity_of: IdentityOf
) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the lines of a manifest, and what they hold, with the checks of `check_features` on the way.

    Raises:
        UserError: see `check_features`; a line is not a cut.
    """
    path = folder.cuts(name, speed)
    record = check_origin(config, folder, name, speed, identity_of)
    digest = ContentDigest()
    try:
        for number, line in iterate_lines(path, STAGE_2):
            digest.update(line)
            yield line, _parse(path, number, line)
    except UserError:
        # That the file was changed is the more helpful message.
        check_features(config, folder, name, speed)
        raise
    check_content(record, path, digest.value)


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """What a line holds, with an id, a duration and a transcript.

    Raises:
        UserError: it is not a cut.
    """
    try:
        item: dict[str, Any] = decode_json_line(line.decode())
        if item["type"] and item["id"] + item["supervisions"][0]["text"] and item["duration"] >= 0.0:
            return item
        raise ValueError("no id or text")
    except (TypeError, ValueError, LookupError):
        with understanding(path, f"line {number} is not a cut; run {STAGE_2} again"):
            raise


def _read_first(
    lines: Iterator[tuple[bytes, dict[str, Any]]],
    kept: Lines,
    judge: Judge,
    speed: float,
    key: str | None,
    name: str,
) -> _Set:
    """Read a set at the first of its speeds, and judge its utterances."""
    found = _Set()
    # The audio files are the same at all speeds.
    watch = AudioWatch()
    for line, item in lines:
        row = _new_row(found.rows, item["id"], name)
        supervision = item["supervisions"][0]
        seconds = item["duration"]
        tokens, reason = judge.judge(supervision["text"], seconds * speed)
        if reason is not None:
            found.reasons[row] = reason
        _watch(watch, item)
        found.tokens.append(tokens)
        # One object for each language instead of one for each utterance.
        found.languages.append(sys.intern(supervision.get("language") or ""))
        if key is not None:
            found.keys.append(sys.intern(key_value(item["id"], supervision, key)))
        found.places.append(len(kept))
        found.durations.append(seconds)
        kept.add(line)
    watch.finish(name)
    return found


def _read_other(
    lines: Iterator[tuple[bytes, dict[str, Any]]], kept: Lines, rows: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Read a set at another speed: number of the line (-1 = there is none) and seconds of each utterance."""
    places = np.full(len(rows), -1, dtype=np.int32)
    durations = np.zeros(len(rows), dtype=np.float64)
    for line, item in lines:
        row = rows.get(item["id"])
        if row is not None:
            places[row], durations[row] = len(kept), item["duration"]
            kept.add(line)
    return places, durations


def _new_row(rows: dict[str, int], name: str, set_name: str) -> int:
    row = len(rows)
    if rows.setdefault(name, row) != row:
        raise UserError(f"{set_name}: utterance {name} is in the manifest twice; run {STAGE_2} again")
    return row


def _watch(watch: AudioWatch, item: Mapping[str, Any]) -> None:
    stamp = AudioStamp.from_custom(item.get("custom") or {})
    if stamp is not None and item.get("recording"):
        watch.see(item["recording"]["sources"][0]["source"], stamp)


def key_value(name: str, supervision: dict[str, Any], key: str) -> str:
    """The value of the batch key of an utterance: a supervision field or custom entry.

    Raises:
        UserError: the utterance has none.
    """
    # Not only what the manifest holds, but also what lhotse makes of it, such as the end.
    known = SupervisionSegment.from_dict(dict(supervision))
    value = getattr(known, key) if hasattr(known, key) else (known.custom or {}).get(key)
    if value is None:
        raise UserError(f"{name}: has no {key!r}, by which batches are grouped")
    return str(value)
