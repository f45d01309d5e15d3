"""Word error rates per language, and their unweighted mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slimasr.errors import UserError
from slimasr.results.schema import WerEntry
from slimasr.scoring.alignment import Utterance
from slimasr.scoring.wer import WerResult, score


def score_languages(utterances: Sequence[Utterance], utt2lang: Mapping[str, str], where: str) -> dict[str, WerResult]:
    """Score the utterances of each language: language -> result, in the order in which they come first.

    Args:
        utterances: references and hypotheses as words.
        utt2lang: utterance id -> language, of all of them.
        where: the set or its folder, for messages.

    Raises:
        UserError: the language of an utterance is not known, or no reference in a language has a word.
    """
    groups: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        if not utt2lang.get(utterance.id):
            raise UserError(f"{where}: utterance {utterance.id} has no language; decode the set again (slimasr-decode)")
        groups.setdefault(utt2lang[utterance.id], []).append(utterance)
    for language, group in groups.items():
        if not any(utterance.ref for utterance in group):
            raise UserError(f"{where}: no reference in the language {language} has a word: its error rate is undefined")
    return {language: score(group) for language, group in groups.items()}


def with_languages(entry: WerEntry, languages: Mapping[str, WerResult]) -> WerEntry:
    """Return the entry of a set with the rates of its languages; without any, the entry as it is."""
    if not languages:
        return entry
    return entry.model_copy(update={"languages": {name: found.language_entry() for name, found in languages.items()}})


def mean_over_languages(languages: Mapping[str, WerResult]) -> float:
    """Return the unweighted mean of the word error rates of at least one language in percent."""
    return sum(result.wer for result in languages.values()) / len(languages)
