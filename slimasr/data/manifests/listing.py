"""Rules for listed utterances: ids and speakers must fit all later files, transcripts must survive the tokenizer."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

from slimasr.data.corpora.base import ListedUtterance
from slimasr.errors import UserError

BEYOND_SECONDS = 0.1
"""A segment may end this much behind its recording, because lists round times; it is cut there."""

CHANNEL_ADVICE = "choose one by data.options.channel (0, 1, ... or average)"
"""What to do about audio with several channels."""

# SentencePiece writes a space as U+2581 and skips sentences with U+2585; neither comes back from token ids.
RESERVED = "\u2581\u2585"
# White space of any kind (Z.), control characters (Cc), and surrogates from undecodable file names (Cs).
_UNUSABLE_CATEGORIES = {"Zs", "Zl", "Zp", "Cc", "Cs"}


def check_names(utterance: ListedUtterance) -> None:
    """Refuse an id or speaker that the files of later stages cannot hold.

    ``utt2spk``, ``recogs``, ``per_utt`` and other files have one utterance per line, which is split at white space, and
    their readers drop U+FEFF. An utterance may have no speaker, but needs an id.

    Raises:
        UserError: names the id or speaker, and the character that is not allowed in it.
    """
    where = f"{utterance.source}: " if utterance.source else ""
    if not utterance.id:
        place = where or f"{utterance.audio}: "
        raise UserError(f"{place}the utterance id is empty")
    for what, name in (("utterance id", utterance.id), ("speaker", utterance.speaker)):
        character = unusable_character(name)
        if character is not None:
            # A speaker's name does not say in which utterance it was found.
            owner = "" if name == utterance.id else f" of utterance {utterance.id}"
            raise UserError(
                f"{where}{what} {name!r}{owner} holds {character}, and white space and control characters separate "
                "fields of later files; rename it, in audio file names too"
            )


def unusable_character(name: str) -> str | None:
    """The first character that is not allowed in an id or speaker, as ``U+0020``; None if all are allowed."""
    return next((f"U+{ord(character):04X}" for character in name if not _usable(character)), None)


def text_problem(text: str) -> str | None:
    """Why a transcript cannot be used, or None."""
    if not text.split():
        return "empty transcript"
    reserved = next((character for character in text if character in RESERVED), None)
    if reserved is not None:
        return f"the transcript holds U+{ord(reserved):04X}, which the tokenizer uses as a mark of its own; remove it"
    # Escapes of JSON can write both.
    broken = next(
        (character for character in text if character == "\0" or unicodedata.category(character) == "Cs"), None
    )
    if broken is not None:
        return f"the transcript holds U+{ord(broken):04X}, which no text file can hold; remove it"
    return None


def segment_problem(utterance: ListedUtterance, seconds: float) -> str | None:
    """Why a segment of a recording of so many seconds cannot be used, or None."""
    start = utterance.start
    end = seconds if utterance.duration is None else start + utterance.duration
    # Written so that a time that is no number is refused, too.
    if not 0.0 <= start < end:
        return f"the segment ends at {end:g} s, not behind its start at {start:g} s"
    if start >= seconds or end > seconds + BEYOND_SECONDS:
        return f"the segment from {start:g} to {end:g} s is not within the {seconds:g} s of {utterance.audio}"
    return None


def without_rounding(utterance: ListedUtterance, seconds: float) -> ListedUtterance:
    """The utterance, without a length if this is the rounded length of its whole recording of so many seconds."""
    if not utterance.rounded or utterance.start > 0.0 or utterance.duration is None:
        return utterance
    is_whole = abs(utterance.duration - seconds) <= BEYOND_SECONDS
    return replace(utterance, duration=None) if is_whole else utterance


def channel_problem(utterance: ListedUtterance, num_channels: int) -> str | None:
    """Why an utterance cannot be read from a file with so many channels, or None."""
    if utterance.channel is None:
        if num_channels == 1 or utterance.average_channels:
            return None
        return f"has {num_channels} channels, needs to be mono: convert it, or for corpus own, {CHANNEL_ADVICE}"
    return missing_channel(utterance.channel, num_channels)


def missing_channel(channel: int, num_channels: int) -> str | None:
    """Return what is wrong if audio with this many channels lacks a channel, counted from 0; None = it has it."""
    if channel < num_channels:
        return None
    if num_channels == 1:
        return f"is mono, and has no channel {channel}, as channels count from 0"
    return f"has channels 0 to {num_channels - 1}, and no channel {channel}"


def _usable(character: str) -> bool:
    return (
        unicodedata.category(character) not in _UNUSABLE_CATEGORIES
        and not character.isspace()
        and character != "\ufeff"
    )
