"""Which subnets are run on which utterances of which sets: a pathway is meant for those of its own language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slimasr.config.schema import Config
from slimasr.data.files import DataFolder
from slimasr.data.identity.manifest_record import STAGE_1
from slimasr.data.languages import read_languages
from slimasr.errors import UserError
from slimasr.supernet.subnet import Subnet

Languages = Mapping[str, Mapping[str, str]]
"""Set name -> utterance id -> language ("" = it is not known)."""


@dataclass(frozen=True)
class Task:
    """A subnet on a set.

    Attributes:
        subnet: the subnet that runs.
        set_name: the set.
        language: the only language whose utterances it gets, "" = all utterances.
    """

    subnet: Subnet
    set_name: str
    language: str = ""

    def spoken(self, languages: Languages, *, multilingual: bool = True) -> dict[str, str]:
        """Return the language of every utterance that the subnet gets: utterance id -> language.

        Args:
            languages: of the utterances of the sets.
            multilingual: whether the sets have several languages; without them, it is empty except for a pathway.
        """
        if not (multilingual or self.subnet.pathway):
            return {}
        of_set = languages[self.set_name]
        return {name: language for name, language in of_set.items() if self.language in ("", language)}


def tasks_of(
    subnets: Sequence[Subnet], languages: Languages, *, subnets_named: bool = True, sets_named: bool = True
) -> list[Task]:
    """Return what is recognised, subnet by subnet: a pathway gets the utterances of its language, others get all.

    If the user has named both, a pathway gets all utterances too, so that the error rate of a wrong one can be seen.

    Args:
        subnets: the subnets.
        languages: of the utterances of the sets.
        subnets_named: whether the user has named the subnets, so that each of them has to run; of others, those whose
            language no set has are left out.
        sets_named: whether the user has named the sets, so that each of them has to be recognised; of others, those in
            other languages are left out.

    Raises:
        UserError: an utterance has no language by which a pathway could be chosen, or a pathway or a set that the user
            has named has no counterpart.
    """
    tasks: list[Task] = []
    for subnet in subnets:
        of_all = (subnets_named and sets_named) or subnet.serves("")
        own = list(languages) if of_all else sets_of(subnet, languages, needed=subnets_named)
        tasks += [Task(subnet, name, "" if of_all else subnet.pathway) for name in own]
    if not tasks:
        # This raises the error for the first subnet.
        sets_of(subnets[0], languages)
    required = languages if sets_named else {}
    for name, of_set in required.items():
        if not any(task.set_name == name for task in tasks):
            spoken = ", ".join(dict.fromkeys(of_set.values()))
            raise UserError(
                f"{name}: its language, {spoken}, is not that of {', '.join(subnet.id for subnet in subnets)}; name "
                "the pathway with --subnet as well to recognise it all the same"
            )
    return tasks


def sets_of(subnet: Subnet, languages: Languages, *, needed: bool = True) -> list[str]:
    """Return the sets that have an utterance in the language of a pathway.

    Args:
        subnet: the pathway.
        languages: of the utterances of the sets.
        needed: whether there must be such a set.

    Raises:
        UserError: an utterance has no language by which a pathway could be chosen, or no set has one in this language.
    """
    found = [name for name, of_set in languages.items() if _has(name, of_set, subnet)]
    if needed and not found:
        raise UserError(
            f"{subnet.id}: {', '.join(languages)} have no utterance in the language {subnet.pathway} of this pathway; "
            "name a set in it with --set-name"
        )
    return found


def served_sets(subnet: Subnet | None, data_dir: Path, names: Sequence[str]) -> list[str]:
    """Return the sets in the language of a pathway; all of them for any other subnet, and for None.

    Raises:
        UserError: see `sets_of`.
    """
    if subnet is None or subnet.serves(""):
        return list(names)
    return sets_of(subnet, languages_of_sets(data_dir, names))


def _has(set_name: str, languages: Mapping[str, str], subnet: Subnet) -> bool:
    """Return whether a set has an utterance that a pathway serves."""
    nameless = next((name for name, language in languages.items() if not language), None)
    if nameless is not None:
        raise UserError(
            f"{set_name}: utterance {nameless} has no language, by which a pathway is chosen; give the supervisions of "
            f"the set a language and run from {STAGE_1}"
        )
    return any(map(subnet.serves, languages.values()))


def languages_of_sets(data_dir: Path, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Read the languages of the utterances of sets.

    Raises:
        UserError: stage 1 has not run.
    """
    return {name: read_languages(data_dir, name) for name in names}


def is_multilingual(config: Config, data_dir: Path, known: Languages) -> bool:
    """Return whether the dev and test sets of a recipe, or other sets, have utterances in several languages.

    Args:
        config: names the sets.
        data_dir: folder of the recipe's data, where the recipe's sets need not be.
        known: sets that have been read.
    """
    spoken = {language for of_set in known.values() for language in of_set.values()}
    for name in (config.data.dev, *config.data.test):
        if len(spoken) > 1:
            break
        if name not in known and DataFolder(data_dir).raw_cuts(name).is_file():
            spoken |= set(read_languages(data_dir, name).values())
    return len(spoken) > 1
