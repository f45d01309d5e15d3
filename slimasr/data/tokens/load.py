"""Reading the tokenizer of any kind."""

from __future__ import annotations

from pathlib import Path

from slimasr.data.graphs.lexicon import LEXICON_FILE
from slimasr.data.tokens.phonemes import PhonemeTokenizer
from slimasr.data.tokens.subwords import MODEL_FILE, SentencePieceTokenizer
from slimasr.data.tokens.tokenizer import Tokenizer


def load_tokenizer(lang_dir: Path) -> Tokenizer:
    """Read the tokenizer of any kind that stage 3 wrote to a folder, or a copy of it.

    Raises:
        UserError: it is missing or damaged.
    """
    if (lang_dir / LEXICON_FILE).is_file() and not (lang_dir / MODEL_FILE).is_file():
        return PhonemeTokenizer.load(lang_dir)
    return SentencePieceTokenizer.load(lang_dir)
