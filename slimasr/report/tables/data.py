"""Tables of the facts about sets of utterances, which `slimasr.data.inspection.facts` finds."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence

from slimasr.data.character_names import named
from slimasr.data.inspection.facts import DataFacts, Histogram, Part, SetFacts
from slimasr.report.tables.table import ABSENT, Table

MOST_CHARACTERS = 60
MOST_INTERVALS = 10
MOST_VALUES = 4
"""A cell names at most this many values."""

UNKNOWN = "unknown"


def data_tables(facts: DataFacts, *, histograms: bool = False) -> list[Table]:
    """Return all tables that have rows.

    Args:
        histograms: also those of histograms, which a page draws instead.
    """
    sets = facts.sets
    tables = [sets_table(sets), spread_table(sets)]
    if histograms:
        tables.append(
            histogram_table("Lengths of utterances", "seconds", [(each.name, each.durations) for each in sets])
        )
        tables.append(
            histogram_table("Text of utterances", "characters per second", [(each.name, each.pace) for each in sets])
        )
    tables += [suspects_table(sets), repeats_table(facts), left_out_table(sets), characters_table(sets)]
    return [table for table in tables if table.rows]


def sets_table(sets: Sequence[SetFacts]) -> Table:
    """Make the table of how much speech the sets have, of whom, and in which files."""
    columns = ("set", "utterances", "hours", "speakers", "languages", "rate (Hz)", "channels", "format", "words")
    rows = []
    for each in sets:
        figures = (f"{each.utterances:,}", f"{each.hours:.3f}", _speakers(each))
        values = tuple(_values(parts, each) for parts in (each.languages, each.rates, each.channels, each.formats))
        rows.append((each.name, *figures, *values, f"{each.words:,}"))
    return Table("Sets", columns, tuple(rows), place="top")


def spread_table(sets: Sequence[SetFacts]) -> Table:
    """Make the table of lengths, rates of text, and sizes of vocabularies."""
    columns = ("set", "seconds", "median", "characters per second", "median", "vocabulary", "characters")
    rows = []
    for each in sets:
        spread = (_range(each.durations), _median(each.durations), _range(each.pace), _median(each.pace))
        rows.append((each.name, *spread, f"{each.vocabulary:,}", f"{len(each.characters):,}"))
    note = "Seconds of an utterance and characters per second, smallest to largest; characters without white space."
    return Table("Lengths and text", columns, tuple(rows), note, place="top")


def histogram_table(title: str, values: str, sets: Sequence[tuple[str, Histogram]]) -> Table:
    """Make the table of a histogram, with a column for each set.

    Args:
        title: its heading.
        values: what is counted, with its unit.
        sets: name and histogram of each set; all have bins of the same width, but not equally many.
    """
    reach = max((len(histogram.counts) for _, histogram in sets), default=0)
    # Neighbouring bins are one row, so that the table is short.
    together = max(1, math.ceil(reach / MOST_INTERVALS))
    rows = []
    for first in range(0, reach, together):
        numbers = [sum(histogram.counts[first : first + together]) for _, histogram in sets]
        start, end = (number * sets[0][1].width for number in (first, first + together))
        rows.append((f"{start:g} to {end:g}", *(f"{number:,}" for number in numbers)))
    if any(histogram.above for _, histogram in sets):
        rows.append(("above", *(f"{histogram.above:,}" for _, histogram in sets)))
    note = "Utterances in each interval; above: the largest values of each set, at most about one in a hundred."
    return Table(title, (values, *(name for name, _ in sets)), tuple(rows), note, place="top")


def suspects_table(sets: Sequence[SetFacts]) -> Table:
    """Make the table of the most suspicious utterances."""
    rows = [(each.name, found.id, found.reason, found.file) for each in sets for found in each.suspects]
    totals = [f"{each.suspicious} of {each.utterances} in {each.name}" for each in sets if each.suspicious]
    note = (
        f"Utterances to look at: {', '.join(totals)}. Shown are at most ten of a set, the worst of each kind in turn."
    )
    unread = [each.name for each in sets if not each.audio_read]
    if unread:
        note += f" The audio of {', '.join(unread)} was not read, so that silence and clipping are not seen."
    return Table("Suspicious utterances", ("set", "utterance", "reason", "file"), tuple(rows), note)


def repeats_table(facts: DataFacts) -> Table:
    """Make the table of utterances that occur more than once."""
    rows = []
    for each in facts.sets:
        for repeats in each.repeats:
            example = _example(repeats.examples[0], more=len(repeats.examples) > 1)
            rows.append((each.name, repeats.kind, str(repeats.utterances), example))
    for shared in facts.shared:
        pair = dict.fromkeys(shared.examples[0])
        rows.append((" and ".join(shared.sets), shared.kind, str(shared.utterances), _example(tuple(pair), more=True)))
    note = "Utterances that repeat an earlier one. Short ones may have the same text and length by chance."
    return Table("Repeated utterances", ("set", "kind", "utterances", "for example"), tuple(rows), note)


def left_out_table(sets: Sequence[SetFacts]) -> Table:
    """Make the table of utterances that cannot be used at all."""
    rows = [(each.name, bad.id, bad.reason) for each in sets for bad in each.left_out_first]
    totals = [f"{each.left_out} in {each.name}" for each in sets if each.left_out]
    note = f"Utterances without usable audio or text, which no set contains: {', '.join(totals)}."
    return Table("Left out", ("set", "utterance", "reason"), tuple(rows), note)


def characters_table(sets: Sequence[SetFacts]) -> Table:
    """Make the table of characters, the most frequent ones of all sets first."""
    total: dict[str, int] = {}
    for each in sets:
        for character, number in each.characters.items():
            total[character] = total.get(character, 0) + number
    ranked = sorted(total, key=lambda character: (-total[character], character))
    shown = ranked[:MOST_CHARACTERS]
    rows = []
    for character in shown:
        numbers = (f"{each.characters[character]:,}" if character in each.characters else ABSENT for each in sets)
        rows.append((named(character), unicodedata.name(character, "").lower(), *numbers))
    columns = ("character", "name", *(each.name for each in sets))
    note = f"{len(shown)} of {len(ranked)} characters are shown." if len(shown) < len(ranked) else ""
    return Table("Characters", columns, tuple(rows), note, place="bottom")


def _speakers(facts: SetFacts) -> str:
    if not facts.speakers:
        return UNKNOWN
    unknown = f", {UNKNOWN} ({facts.without_speaker:,})" if facts.without_speaker else ""
    return f"{facts.speakers:,}{unknown}"


def _values(parts: Sequence[Part], facts: SetFacts) -> str:
    """The values of a property, with the numbers of utterances unless all have the same."""
    if not parts:
        return ABSENT
    shown = [f"{_value(part)}" + _number(part, facts) for part in parts[:MOST_VALUES]]
    rest = len(parts) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _value(part: Part) -> str:
    return UNKNOWN if part.value == "" else str(part.value)


def _number(part: Part, facts: SetFacts) -> str:
    return "" if part.utterances == facts.utterances else f" ({part.utterances:,})"


def _range(histogram: Histogram) -> str:
    return f"{histogram.smallest:.2f} to {histogram.largest:.2f}"


def _median(histogram: Histogram) -> str:
    return f"{histogram.median:.2f}"


def _example(ids: Iterable[str], *, more: bool) -> str:
    return " = ".join(ids) + ("; ..." if more else "")
