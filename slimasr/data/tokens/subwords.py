"""Tokenizers of subwords and characters: SentencePiece models, and how they are trained."""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

from slimasr.config.data import TokenizerConfig
from slimasr.data.identity.digests import DIGITS
from slimasr.data.tokens.tokenizer import BLANK, SOS_EOS, SPECIAL, UNK, Tokenizer
from slimasr.errors import UserError

CHARACTERS_PER_PIECE = 50
"""With ``tokenizer.allow_fewer``, the training text needs this many characters, about ten words, for each piece of
several characters. Rarer pieces would be learnt from one or two utterances."""

MODEL_FILE = "bpe.model"
VOCAB_FILE = "bpe.vocab"


@dataclass(frozen=True)
class SentencePieceTokenizer(Tokenizer):
    """Subwords or characters of a SentencePiece model.

    Attributes:
        processor: the SentencePiece model.
        pieces: id -> piece.
    """

    processor: sentencepiece.SentencePieceProcessor
    pieces: tuple[str, ...]

    @classmethod
    def load(cls, lang_dir: Path) -> SentencePieceTokenizer:
        """Read a folder that `train_tokenizer` wrote, or a copy of it.

        Raises:
            UserError: the model is missing or damaged, or its first ids are not the three special tokens.
        """
        path = lang_dir / MODEL_FILE
        if not path.is_file():
            raise UserError(f"{path} is missing: run stage 3 (slimasr-bpe) first")
        processor = sentencepiece.SentencePieceProcessor()
        try:
            processor.LoadFromSerializedProto(path.read_bytes())
            pieces = tuple(processor.IdToPiece(i) for i in range(processor.GetPieceSize()))
        except (RuntimeError, OSError) as error:
            raise UserError(f"{path}: not a SentencePiece model; run stage 3 (slimasr-bpe) again") from error
        if pieces[:3] != SPECIAL:
            raise UserError(f"{path}: tokens 0, 1, 2 are {pieces[:3]}, need to be {', '.join(SPECIAL)}")
        return cls(processor, pieces)

    @property
    def tokens(self) -> tuple[str, ...]:
        """id -> piece."""
        return self.pieces

    @property
    def fingerprint(self) -> str:
        """Digest of the model."""
        return hashlib.sha256(self.processor.serialized_model_proto()).hexdigest()[:DIGITS]

    @property
    def spells(self) -> bool:
        """Pieces spell their words."""
        return True

    def encode(self, text: str) -> list[int]:
        """Token ids of a transcript; characters that did not occur in training become ``<unk>``."""
        ids: list[int] = self.processor.EncodeAsIds(text)
        return ids

    def unencodable(self, text: str) -> str | None:
        """Why `encode` makes ``<unk>`` of a part of a transcript, or None."""
        if self.unk_id not in self.encode(text):
            return None
        return f"transcript has characters the tokenizer does not know: {text!r}"

    def unit_counts(self, text: str) -> list[int]:
        """The number of units (see `slimasr.data.timelines.timeline`) that each token of a transcript stands for."""
        # A piece begins with the sign of a word boundary, which is a unit; an unknown one is given as it was written.
        return [len(piece) for piece in self.processor.EncodeAsPieces(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; blanks and sentence marks have no text."""
        # Id 1 is the sentence mark.
        spoken = [i for i in ids if i not in (self.blank_id, 1)]
        text: str = self.processor.DecodeIds(spoken)
        return text


def train_model(texts: Iterable[str], config: TokenizerConfig) -> bytes:
    """Train a SentencePiece model and return it serialised.

    Raises:
        UserError: there is no text, or this text does not allow the vocabulary size; the message says what it allows.
    """
    sentences = [text for text in texts if text.strip()]
    if not sentences:
        raise UserError("the training sets have no text, so no tokenizer can be trained")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type=config.kind,
            vocab_size=supported_size(sentences, config) if config.allow_fewer else config.vocab_size,
            # A text has as many characters as it has: a size above that is no error for kind char. With a soft limit,
            # SentencePiece makes as many pieces as the text has.
            hard_vocab_limit=config.kind != "char" and not config.allow_fewer,
            # Every character of the training text becomes a token, and texts are used as they are.
            character_coverage=1.0,
            normalization_rule_name="identity",
            # As control symbols, these cannot result from a text that happens to spell them.
            pad_id=0,
            pad_piece=BLANK,
            bos_id=1,
            bos_piece=SOS_EOS,
            unk_id=2,
            unk_piece=UNK,
            eos_id=-1,
            # The model must not depend on the number of processors.
            num_threads=1,
            # In bytes; SentencePiece silently skips longer sentences.
            max_sentence_length=1 << 16,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(f"tokenizer.vocab_size {config.vocab_size}: {_reason(str(error))}") from error
    return model.getvalue()


def supported_size(sentences: Iterable[str], config: TokenizerConfig) -> int:
    """The number of tokens that a text supports (`CHARACTERS_PER_PIECE`), at most ``tokenizer.vocab_size``."""
    counts = Counter(character for sentence in sentences for character in sentence.strip())
    # Every character is a piece, and so is the mark of a word's beginning.
    needed = len(SPECIAL) + len({*counts, " "})
    return min(config.vocab_size, needed + counts.total() // CHARACTERS_PER_PIECE)


def _reason(message: str) -> str:
    """Rephrase SentencePiece's error about a vocabulary size."""
    at_most = re.search(r"value <= (\d+)", message)
    if at_most is not None:
        return f"too large for the training text, at most {at_most[1]}"
    # SentencePiece writes `<requested size> vs <required size>`, so the last number counts.
    at_least = re.search(r"required_chars\.?\s*\d+ vs (\d+)", message)
    if at_least is None:
        at_least = re.search(r"(\d+) vs (\d+)", message)
    if at_least is not None:
        return f"too small for the training text, at least {at_least[at_least.lastindex or 1]}"
    return message.splitlines()[-1]
