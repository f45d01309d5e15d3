"""Stage 3 for phonemes: the tokenizer of a recipe's lexicon."""

from __future__ import annotations

from slimasr.config.schema import Config
from slimasr.data.files import BadUtterance, DataFolder, check_bad_share, read_cuts
from slimasr.data.graphs.lexicon import PhonemeTokenizer
from slimasr.data.graphs.lexicon_source import phoneme_lexicon
from slimasr.data.sets import lang_of, tokenizer_sets
from slimasr.data.tokenizer_record import write_tokenizer_record
from slimasr.errors import UserError
from slimasr.locking import Lock


def write_phonemes(config: Config, folder: DataFolder, lock: Lock) -> PhonemeTokenizer:
    """Write the tokens and pronunciations of the recipe's lexicon to ``lang_phonemes_<size>/``.

    Raises:
        UserError: the lexicon is missing, damaged, or has more tokens than ``tokenizer.vocab_size``, or a training set
            has too many utterances with words without pronunciation.
    """
    tokenizer = PhonemeTokenizer.of(phoneme_lexicon(config, folder))
    most = config.tokenizer.vocab_size
    if tokenizer.vocab_size > most:
        raise UserError(
            f"tokenizer.vocab_size {most}: too small for the phonemes of {config.tokenizer.lexicon} with and without "
            f"the end of a word, at least {tokenizer.vocab_size}"
        )
    for name in tokenizer_sets(config):
        _check_words(config, folder, name, tokenizer)
    lock.verify()
    tokenizer.write(lang_of(config, folder))
    write_tokenizer_record(config, folder, tokenizer.fingerprint)
    return tokenizer


def _check_words(config: Config, folder: DataFolder, set_name: str, tokenizer: PhonemeTokenizer) -> None:
    """Refuse a training set of which training would leave out too much, before anything is computed from it."""
    cuts = list(read_cuts(folder.raw_cuts(set_name), "stage 1 (slimasr-prepare)"))
    reasons = {cut.id: tokenizer.unencodable(cut.supervisions[0].text) for cut in cuts}
    bad = [BadUtterance(name, reason) for name, reason in reasons.items() if reason is not None]
    check_bad_share(bad, len(cuts), config.data.max_bad_share, set_name)
