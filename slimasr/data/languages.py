"""The languages of recordings, as the supervisions of their cuts name them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lhotse.cut import Cut

from slimasr.data.files import DataFolder, iterate_cuts
from slimasr.data.identity.manifest_record import STAGE_1
from slimasr.errors import UserError


def language_of(cut: Cut) -> str:
    """Return the language of a recording; an empty text = it is not known."""
    language: str | None = cut.supervisions[0].language
    return language or ""


def common_language(cuts: Iterable[Cut]) -> str:
    """Return what `language_of` is for all of these cuts; an empty text if they have several languages."""
    languages = {language_of(cut) for cut in cuts}
    return languages.pop() if len(languages) == 1 else ""


def by_language(cuts: Iterable[Cut]) -> list[list[Cut]]:
    """Divide cuts into one list per language, in the order in which the languages come first."""
    groups: dict[str, list[Cut]] = {}
    for cut in cuts:
        groups.setdefault(language_of(cut), []).append(cut)
    return list(groups.values())


def read_languages(data_dir: Path, set_name: str) -> dict[str, str]:
    """Read the language of every utterance of a set: utterance id -> `language_of`.

    Raises:
        UserError: stage 1 has not run, or its manifest is damaged.
    """
    path = DataFolder(data_dir).raw_cuts(set_name)
    return {cut.id: language_of(cut) for cut in iterate_cuts(path, STAGE_1)}


def check_languages(set_name: str, languages: Mapping[str, str], pathways: Sequence[str]) -> None:
    """Check that every utterance of a set has a language, and that there is a pathway for it.

    Args:
        set_name: the set, for the message.
        languages: utterance id -> its language.
        pathways: languages of the pathways of the search space; where there are none, or one for every language, this
            is empty, and any language is accepted.

    Raises:
        UserError: an utterance has no language, or one that no pathway serves.
    """
    if not pathways:
        return
    known = ", ".join(pathways)
    for name, language in languages.items():
        if not language:
            raise UserError(
                f"{set_name}: utterance {name} has no language, by which a pathway is chosen ({known}); give the "
                f"supervisions of the set a language and run from {STAGE_1}"
            )
        if language not in pathways:
            raise UserError(
                f"{set_name}: utterance {name} has the language {language}, but space.languages has {known}; add the "
                "language there, or leave the set out"
            )


def check_trained_languages(data_dir: Path, sets: Iterable[str], pathways: Sequence[str]) -> None:
    """Check that the training sets have utterances in the language of every pathway, and in no other.

    ``pathways`` are those of `check_languages`.

    Raises:
        UserError: an utterance has a language that no pathway serves, or a pathway has no utterance.
    """
    if not pathways:
        return
    languages: set[str] = set()
    names = list(sets)
    for name in names:
        found = read_languages(data_dir, name)
        check_languages(name, found, pathways)
        languages |= set(found.values())
    for pathway in pathways:
        if pathway not in languages:
            raise UserError(
                f"data.train: {', '.join(names)} have no utterance in the language {pathway} of space.languages; add a "
                "training set in it, or leave the language out"
            )


def check_validated_languages(data_dir: Path, set_name: str, pathways: Sequence[str]) -> None:
    """Check that the dev set has a defined error rate for every language.

    ``pathways`` are those of `check_languages`.

    Raises:
        UserError: an utterance has no language although others have one, or one that no pathway serves; or there is no
            reference word in a language, so that its error rate is undefined.
    """
    words: Counter[str] = Counter()
    languages: dict[str, str] = {}
    for cut in iterate_cuts(DataFolder(data_dir).raw_cuts(set_name), STAGE_1):
        languages[cut.id] = language_of(cut)
        words[language_of(cut)] += len(cut.supervisions[0].text.split())
    check_languages(set_name, languages, pathways)
    if len(words) > 1 and "" in words:
        nameless = next(name for name, language in languages.items() if not language)
        raise UserError(
            f"{set_name}: utterance {nameless} has no language, while others of the set have one; give all of its "
            f"supervisions a language, or none, and run from {STAGE_1}"
        )
    # A set of one language is refused as a whole where its error rate is needed.
    several = [*words] if len(words) > 1 else []
    for language in (*several, *pathways):
        if not words[language]:
            raise UserError(
                f"data.dev: {set_name} has no reference word in the language {language}: its error rate is undefined; "
                "add a dev set in it (sets are joined by +)"
            )
