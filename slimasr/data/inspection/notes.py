"""What stage 1 says about the sets, in lines: characters, those that training sets lack, and what looks wrong."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from slimasr.data.character_names import named
from slimasr.data.inspection.facts import DataFacts, SetFacts, lacking_characters
from slimasr.data.inspection.repeats import SAME_TEXT

MOST_CHARACTERS = 100
MOST_LACKING = 10


def character_lines(facts: DataFacts, training: Collection[str]) -> Iterator[str]:
    """Yield the table of the characters of the training sets, on one line for each set, the most frequent first."""
    for each in facts.sets:
        if each.name in training and each.characters:
            yield f"{each.name}: {len(each.characters)} characters: {_counted(each.characters, MOST_CHARACTERS)}"


def inspection_notes(facts: DataFacts, training: Collection[str]) -> Iterator[str]:
    """Yield what the user should know before training; nothing if all is as it should be.

    Args:
        training: names of the training sets; of the other sets, characters are named that these lack.
    """
    trained = [each for each in facts.sets if each.name in training]
    for each in facts.sets:
        lacking = lacking_characters(each, trained)
        if each.name not in training and lacking:
            noun = "character" if len(lacking) == 1 else "characters"
            yield f"{each.name}: {len(lacking)} {noun} that no training set has: {_counted(lacking, MOST_LACKING)}"
    for each in facts.sets:
        yield from _suspicious(each)


def _counted(characters: Mapping[str, int], most: int) -> str:
    shown = list(characters.items())[:most]
    rest = len(characters) - len(shown)
    words = ", ".join(f"{_printed(character)} {number}" for character, number in shown)
    return words + (f" and {rest} more" if rest else "")


def _printed(character: str) -> str:
    """The character alone where it is an ASCII one, which everybody knows; otherwise with its code."""
    return character if character.isascii() and character.isprintable() else named(character)


def _suspicious(facts: SetFacts) -> Iterator[str]:
    if facts.suspicious:
        first = facts.suspects[0]
        utterances = "utterance looks" if facts.suspicious == 1 else "utterances look"
        yield f"{facts.name}: {facts.suspicious} {utterances} wrong, first {first.id} ({first.file}): {first.reason}"
    for repeats in facts.repeats:
        # Without reading their audio, it may be chance that two utterances of a text are equally long.
        if repeats.kind == SAME_TEXT:
            continue
        utterances = "utterance repeats" if repeats.utterances == 1 else "utterances repeat"
        example = " = ".join(repeats.examples[0])
        yield f"{facts.name}: {repeats.utterances} {utterances} an earlier one ({repeats.kind}), for example {example}"
