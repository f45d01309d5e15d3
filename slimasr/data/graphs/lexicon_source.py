"""The lexicon that a recipe asks for: a dictionary, the spelling of words, or the pieces of a SentencePiece model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from slimasr.config.data import PIECES, SPELLING
from slimasr.config.schema import Config
from slimasr.data.corpora.named_files import named_path
from slimasr.data.files import DataFolder, read_cuts
from slimasr.data.graphs.arpa import vocabulary
from slimasr.data.graphs.dictionary import mark_word_ends, read_dictionary, spell
from slimasr.data.graphs.lexicon import Lexicon
from slimasr.data.sets import tokenizer_sets
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.errors import UserError


def phoneme_lexicon(config: Config, folder: DataFolder) -> Lexicon:
    """The lexicon of phonemes of ``tokenizer.lexicon``, with ends of words marked.

    Raises:
        UserError: the dictionary or the language model is missing or damaged.
    """
    name = config.tokenizer.lexicon
    assert name not in (None, PIECES), "TokenizerConfig checks it"
    if name == SPELLING:
        return Lexicon(mark_word_ends(spell(_known_words(config, folder, tokenizer_sets(config)))))
    path = named_path(str(name), folder)
    return Lexicon(mark_word_ends(read_dictionary(path, stress=config.tokenizer.stress)))


def piece_lexicon(config: Config, folder: DataFolder, tokenizer: Tokenizer) -> Lexicon:
    """The words of the language model's text, or of a given model, as the tokens of a SentencePiece model.

    Words with characters that the tokenizer does not know are left out.

    Raises:
        UserError: no word is left.
    """
    found = {}
    for word in _known_words(config, folder, config.data.train):
        ids = tokenizer.encode(word)
        if tokenizer.unk_id not in ids:
            found[word] = (tuple(tokenizer.tokens[number] for number in ids),)
    if not found:
        raise UserError("tokenizer.lexicon: the tokenizer knows no word of the language model")
    return Lexicon(found)


def train_texts(config: Config, folder: DataFolder) -> Iterator[str]:
    """The transcripts of the training sets."""
    return _texts_of(folder, config.data.train)


def _texts_of(folder: DataFolder, sets: Iterable[str]) -> Iterator[str]:
    for name in sets:
        for cut in read_cuts(folder.raw_cuts(name), "stage 1 (slimasr-prepare)"):
            yield cut.supervisions[0].text


def _known_words(config: Config, folder: DataFolder, sets: Iterable[str]) -> Iterable[str]:
    """The words of the transcripts of some sets and of a given language model, sorted."""
    words = {word for text in _texts_of(folder, sets) for word in text.split()}
    arpa = config.language_model.arpa
    return sorted(words if arpa is None else words | vocabulary(named_path(arpa, folder)))
