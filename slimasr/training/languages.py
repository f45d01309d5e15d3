"""Languages of the training data: whether batches have one each, and whether all processes get some of them."""

from __future__ import annotations

from collections.abc import Mapping

from slimasr.config.sampling import sampling_power
from slimasr.config.schema import Config
from slimasr.errors import UserError

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


def check_enough(found: Mapping[str, int], world_size: int) -> None:
    """Check that every process can have a batch of every language.

    Args:
        found: language -> number of usable training utterances.

    Raises:
        UserError: a language has fewer utterances than there are processes.
    """
    for language, count in sorted(found.items()):
        if count < world_size:
            raise UserError(
                f"data.train: {language} has {count} usable utterances for {world_size} processes, each of which needs "
                "a batch of every language; train with fewer processes, or leave the set out"
            )
