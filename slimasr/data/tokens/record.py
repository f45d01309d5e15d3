"""The record of what a tokenizer was made from, ``lang_<kind>_<size>/identity.json``, and the check that it still fits.

It holds the transcripts of the tokenizer's sets, the settings on which it depends, and the digest of the tokenizer.
"""

from __future__ import annotations

from typing import Any

from slimasr.config.schema import Config
from slimasr.data.files import DataFolder
from slimasr.data.identity.manifest_record import manifest_identity, read_product, read_record
from slimasr.data.identity.provenance import set_identity
from slimasr.data.sets import check_same_sets, lang_of, tokenizer_sets
from slimasr.errors import UserError
from slimasr.files import write_json_atomic


def write_tokenizer_record(config: Config, folder: DataFolder, fingerprint: str) -> None:
    """Record the transcripts that the tokenizer was trained on, the settings that it depends on, and its digest."""
    lang = lang_of(config, folder)
    # Only transcripts: other audio does not require another tokenizer.
    transcripts = {name: manifest_identity(folder, name).transcripts for name in tokenizer_sets(config)}
    record = {"transcripts": transcripts, **_named_with(config), **_made_with(config), "tokenizer": fingerprint}
    write_json_atomic(lang / "identity.json", record)


def check_tokenizer_sets(config: Config, folder: DataFolder) -> None:
    """Check that the tokenizer, if there is one, was trained on the sets that the recipe names for it.

    Raises:
        UserError: it was trained on other sets, or has the name of one of another kind or size, and other recipes may
            need it.
    """
    lang = lang_of(config, folder)
    record = read_product(lang / "identity.json")
    for key, value in _named_with(config).items():
        if record.get(key, value) != value:
            raise UserError(
                f"{lang} was made with {key} {record[key]}, the configuration has {value}: "
                "give this tokenizer another tokenizer.name"
            )
    if "transcripts" in record:
        check_same_sets(lang, record["transcripts"], tokenizer_sets(config), "tokenizer.sets")


def check_tokenizer(config: Config, folder: DataFolder, fingerprint: str) -> None:
    """Check that the data folder's tokenizer was trained on the present transcripts of the recipe's sets for it.

    Args:
        fingerprint: fingerprint of the tokenizer in the folder.

    Raises:
        UserError: it was trained on other sets or earlier transcripts, with another lexicon or balance, or is another
            model than stage 3 recorded.
    """
    lang = lang_of(config, folder)
    record = read_record(lang / "identity.json")
    if record is None:
        return
    check_tokenizer_sets(config, folder)
    now = {name: set_identity(config, folder, name).transcripts for name in tokenizer_sets(config)}
    if record.get("transcripts", {}) != now:
        raise UserError(
            f"{lang} was trained on other transcripts than {', '.join(now)} have now: run stage 3 again (slimasr-bpe)"
        )
    for key, value in _made_with(config).items():
        # Older records do not have the balance, which was not known.
        if record.get(key, False) != value:
            raise UserError(
                f"{lang} was made with {key} {record.get(key, False)}, the configuration has {value}: "
                "run stage 3 again (slimasr-bpe)"
            )
    if record.get("tokenizer") != fingerprint:
        raise UserError(f"{lang} holds another model than stage 3 wrote: run stage 3 again (slimasr-bpe)")


def _named_with(config: Config) -> dict[str, Any]:
    """The kind and size of a tokenizer whose folder is named by neither."""
    tokenizer = config.tokenizer
    return {"tokenizer.kind": tokenizer.kind, "tokenizer.vocab_size": tokenizer.vocab_size} if tokenizer.name else {}


def _made_with(config: Config) -> dict[str, Any]:
    """The keys on which a tokenizer depends, besides its kind and size."""
    tokenizer = config.tokenizer
    if tokenizer.kind != "phonemes":
        return {"tokenizer.balance": tokenizer.balance}
    return {"tokenizer.lexicon": tokenizer.lexicon, "tokenizer.stress": tokenizer.stress}
