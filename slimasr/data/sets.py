"""The sets from which a recipe's products are made, besides those on which it trains and evaluates.

Recipes in one data folder, such as those of single languages, share tokenizer and statistics if they name the same sets
for them. A product of other sets is never overwritten.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from slimasr.config.schema import Config
from slimasr.data.files import MUSAN_SET, NOISE_SET, ROOMS_SET, DataFolder
from slimasr.errors import UserError


def tokenizer_sets(config: Config) -> list[str]:
    """Return the sets on whose transcripts the tokenizer is trained."""
    return config.tokenizer.sets or config.data.train


def statistics_sets(config: Config) -> list[str]:
    """Return the sets over which feature statistics are computed."""
    return config.features.sets or config.data.train


def streamed_sets(config: Config) -> list[str]:
    """Return the training sets that are read as a stream of shards."""
    return config.data.train if config.data.storage == "shar" else []


def stored_sets(config: Config) -> list[str]:
    """Return the sets of which stage 2 writes manifests that are read as a whole, each once."""
    streamed = set(streamed_sets(config)) - {config.data.dev, *config.data.test}
    return [name for name in sets_with_features(config) if name not in streamed]


def sets_with_features(config: Config) -> list[str]:
    """Return all sets of which stage 2 computes features, each once."""
    data = config.data
    return list(dict.fromkeys([*data.train, data.dev, *data.test, *statistics_sets(config)]))


def further_sets(config: Config) -> list[str]:
    """Return the sets that only the tokenizer or the statistics need, each once."""
    data = config.data
    own = {*data.train, data.dev, *data.test}
    return [name for name in dict.fromkeys([*tokenizer_sets(config), *statistics_sets(config)]) if name not in own]


def lang_of(config: Config, folder: DataFolder) -> Path:
    """Return the folder of a recipe's tokenizer."""
    tokenizer = config.tokenizer
    return folder.lang(tokenizer.kind, tokenizer.vocab_size, tokenizer.name)


def graph_folder(config: Config, folder: DataFolder) -> Path:
    """Return the folder of the search graph of a recipe's tokenizer."""
    tokenizer = config.tokenizer
    return folder.graph(tokenizer.kind, tokenizer.vocab_size, tokenizer.name)


def noise_sets(config: Config) -> list[str]:
    """Return the sets of noise, whose features stage 2 computes."""
    data = config.data
    return ([MUSAN_SET] if data.musan is not None else []) + ([NOISE_SET] if data.noise is not None else [])


def augmentation_sets(config: Config) -> list[str]:
    """Return the sets of audio, besides that of the corpus, with which training utterances are changed."""
    reverb = config.data.reverb
    return noise_sets(config) + ([ROOMS_SET] if reverb is not None and reverb.folder is not None else [])


def check_same_sets(product: Path, made_from: Collection[str], wanted: Collection[str], key: str) -> None:
    """Check that a product was made from the sets that the recipe names for it, and may be made again.

    Args:
        product: the product, for the message.
        made_from: the sets from which it was made.
        wanted: the sets from which the recipe would make it.
        key: the key that names them, ``tokenizer.sets`` or ``features.sets``.

    Raises:
        UserError: they differ.
    """
    if set(made_from) == set(wanted):
        return
    name = f"{key.removesuffix('.sets')}.name"
    raise UserError(
        f"{product} was made from the sets {', '.join(sorted(made_from))}, and {key} (default: data.train) names "
        f"{', '.join(sorted(wanted))}: set {key} to [{', '.join(sorted(made_from))}] to share it, "
        f"or {name} to a name of its own to make another one beside it"
    )
