"""Languages of the training data: whether batches have one each, and whether every language can be trained."""

from __future__ import annotations

from collections.abc import Mapping

from slimasr.config.sampling import sampling_power
from slimasr.config.schema import Config
from slimasr.errors import UserError
from slimasr.supernet.list_space import ListSpace
from slimasr.supernet.space import SearchSpace
from slimasr.supernet.subnet import Subnet

LANGUAGE = "language"
"""The field of supervisions by which batches of one language are grouped."""


def key_of_batches(config: Config, asked: str | None) -> str | None:
    """Return the supervision field that all utterances of a batch share, None = batches are mixed.

    Args:
        asked: what the method asks for (`Method.batch_key`).

    Raises:
        UserError: languages are sampled, but batches mix them.
    """
    key = LANGUAGE if asked is None and config.data.language_batches else asked
    if key != LANGUAGE and sampling_power(config.data.language_sampling) is not None:
        raise UserError(
            "data.language_sampling: needs batches of one language each; set data.language_batches to true, or "
            "language_sampling to natural"
        )
    return key


def check_languages(
    config: Config, space: SearchSpace, found: Mapping[str, int], world_size: int, *, keyed: bool
) -> None:
    """Check that every language of the space has training utterances, and that these suffice for all processes.

    Args:
        found: language -> number of usable training utterances; an empty name for those without a language.
        keyed: whether batches have one language each.

    Raises:
        UserError: a language has no or too few utterances, or no pathway serves it.
    """
    sets = ", ".join(config.data.train)
    for name in _pathways(space):
        if not any(Subnet(pathway=name).serves(language) for language in found):
            there = ", ".join(language or "none" for language in sorted(found))
            raise UserError(
                f"space.languages: {name} has no utterance in data.train ({sets}), whose languages are {there}"
            )
    for language, count in sorted(found.items()):
        if _pathways(space) and not any(Subnet(pathway=name).serves(language) for name in _pathways(space)):
            spoken = f"the language {language}" if language else "no language"
            raise UserError(
                f"data.train: {count} utterances of {sets} have {spoken}, so that no pathway serves them; "
                "add one to space.languages, or leave their set out"
            )
        if keyed and count < world_size:
            raise UserError(
                f"data.train: {language} has {count} usable utterances for {world_size} processes, each of which needs "
                "a batch of every language; train with fewer processes, or leave the set out"
            )


def _pathways(space: SearchSpace) -> list[str]:
    """Return the names of the pathways of a space."""
    # Other spaces have none, and may be too large to list.
    return [subnet.pathway for subnet in space if subnet.pathway] if isinstance(space, ListSpace) else []
