"""Error rates by language: of sets that hold one language, and of the parts of sets that hold several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slimasr.report.comparison.rates import Rate
from slimasr.report.records import SubnetRecord

DEV = "dev"
"""Names of sets on which choices are made begin so."""


def language_of(set_name: str) -> str:
    """Return the language that the name of a set ends in, such as fr of ``test-fr``; empty if it names none."""
    name, dash, language = set_name.rpartition("-")
    return language if name and dash else ""


def languages_of(set_names: Sequence[str]) -> tuple[str, ...]:
    """Return the languages that some names of sets end in, each once; ``+`` joins sets."""
    parts = [part for name in set_names for part in name.split("+")]
    return tuple(dict.fromkeys(filter(None, map(language_of, parts))))


def on_tests(record: SubnetRecord, language: str) -> dict[str, Rate]:
    """Return the error rates of a subnet in one language, by test set; sets of other languages are left out."""
    found = {}
    for name, whole in record.wer.items():
        if name.startswith(DEV):
            continue
        parts = record.by_language.get(name)
        if parts is not None and language in parts:
            found[name] = parts[language]
        elif parts is None and language_of(name) == language:
            found[name] = whole
    return found


def units_in(sets: Mapping[str, Mapping[str, int]], set_name: str, language: str) -> Mapping[str, int] | None:
    """Return the words of every reference of a set that is in a language; None if they are not known.

    Args:
        sets: `Study.utterances`.
        set_name: name of the set.
        language: the language.
    """
    return sets.get(part_of(set_name, language), sets.get(set_name))


def part_of(set_name: str, language: str) -> str:
    """Return the name of the part of a set that is in one language."""
    return f"{set_name}/{language}"


def pooled_rate(rates: Sequence[Rate]) -> float | None:
    """Return the error rate over several sets in percent; None without any word."""
    units = sum(rate.units for rate in rates)
    return 100.0 * sum(rate.errors for rate in rates) / units if units else None
