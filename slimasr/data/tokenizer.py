"""The interface of tokenizers, the one of SentencePiece models, and the training of these (stage 3)."""

from __future__ import annotations

import hashlib
import io
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import ClassVar

import sentencepiece

from slimasr.config.data import TokenizerConfig
from slimasr.config.schema import Config
from slimasr.data.balance import balanced_texts
from slimasr.data.files import DataFolder, read_cuts
from slimasr.data.identity import DIGITS
from slimasr.data.manifest_record import STAGE_1, check_corpus
from slimasr.data.sets import lang_of, tokenizer_sets
from slimasr.data.tokenizer_record import check_tokenizer_sets, write_tokenizer_record
from slimasr.errors import UserError
from slimasr.files import write_atomic
from slimasr.locking import Lock, folder_lock, refuse_while_locked

BLANK = "<blk>"
SOS_EOS = "<sos/eos>"
UNK = "<unk>"
SPECIAL = (BLANK, SOS_EOS, UNK)
"""The tokens with ids 0, 1 and 2."""

CHARACTERS_PER_PIECE = 50
"""With ``tokenizer.allow_fewer``, the training text needs this many characters, about ten words, for each piece of
several characters. Rarer pieces would be learnt from one or two utterances."""

MODEL_FILE = "bpe.model"
VOCAB_FILE = "bpe.vocab"
TOKENS_FILE = "tokens.txt"


class Tokenizer(ABC):
    """Converts text to token ids and back.

    Ids 0, 1, 2 are `BLANK`, `SOS_EOS` and `UNK` in tokenizers of every kind, because the searches of transducers and
    device runtimes take them for granted.
    """

    blank_id: ClassVar[int] = 0
    unk_id: ClassVar[int] = 2

    @property
    @abstractmethod
    def tokens(self) -> tuple[str, ...]:
        """id -> token."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Digest of everything on which `encode` and `decode` depend; it distinguishes tokenizers of equal size."""

    @property
    @abstractmethod
    def spells(self) -> bool:
        """Whether `decode` returns words; otherwise only a search with a lexicon finds the words of tokens."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens, including the special ones."""
        return len(self.tokens)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids of a transcript; what the tokenizer does not know becomes ``<unk>``."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; blanks and sentence marks have no text.

        If the tokenizer does not spell (`spells`), the text holds the tokens themselves, separated by spaces.
        """

    @abstractmethod
    def unencodable(self, text: str) -> str | None:
        """Why `encode` makes ``<unk>`` of a part of a transcript, or None."""

    @abstractmethod
    def unit_counts(self, text: str) -> list[int]:
        """The number of units (`slimasr.data.timeline.units_of`) that each token of a transcript stands for."""


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
        """The number of units (`slimasr.data.timeline.units_of`) that each token of a transcript stands for."""
        # A piece begins with the sign of a word boundary, which is a unit; an unknown one is given as it was written.
        return [len(piece) for piece in self.processor.EncodeAsPieces(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; blanks and sentence marks have no text."""
        # Id 1 is the sentence mark.
        spoken = [i for i in ids if i not in (self.blank_id, 1)]
        text: str = self.processor.DecodeIds(spoken)
        return text


def load_tokenizer(lang_dir: Path) -> Tokenizer:
    """Read the tokenizer of any kind that stage 3 wrote to a folder, or a copy of it.

    Raises:
        UserError: it is missing or damaged.
    """
    # Imported here, because the module of phonemes is made of the interface above.
    from slimasr.data.graphs.lexicon import LEXICON_FILE, PhonemeTokenizer

    if (lang_dir / LEXICON_FILE).is_file() and not (lang_dir / MODEL_FILE).is_file():
        return PhonemeTokenizer.load(lang_dir)
    return SentencePieceTokenizer.load(lang_dir)


def train_tokenizer(config: Config, data_dir: Path) -> Tokenizer:
    """Stage 3: train on the transcripts of ``tokenizer.sets``, or read the lexicon, and write ``lang_<kind>_<size>/``.

    Equal transcripts result in equal models. ``tokens.txt`` has lines ``piece id``, as device runtimes read them.

    Raises:
        UserError: stage 1 has not run or is running, another process makes this tokenizer, it exists and was made from
            other sets, or the settings do not fit the text or the lexicon.
    """
    # Imported here, because the module of phonemes is made of the interface above.
    from slimasr.data.phonemes import write_phonemes

    folder = DataFolder(data_dir)
    refuse_while_locked(folder.lock("manifests"), "slimasr-bpe")
    name = lang_of(config, folder).name
    with folder_lock(folder.lock(name), "slimasr-bpe") as lock:
        for set_name in tokenizer_sets(config):
            check_corpus(config.data, folder, set_name)
        check_tokenizer_sets(config, folder)
        if config.tokenizer.kind == "phonemes":
            return write_phonemes(config, folder, lock)
        return _write_pieces(config, folder, lock)


def _write_pieces(config: Config, folder: DataFolder, lock: Lock) -> Tokenizer:
    cuts = chain.from_iterable(read_cuts(folder.raw_cuts(name), STAGE_1) for name in tokenizer_sets(config))
    texts = balanced_texts(cuts) if config.tokenizer.balance else [cut.supervisions[0].text for cut in cuts]
    lang_dir = lang_of(config, folder)
    model = train_model(texts, config.tokenizer)
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model)
    pieces = [processor.IdToPiece(i) for i in range(processor.GetPieceSize())]
    scores = [processor.GetScore(i) for i in range(len(pieces))]
    # The layout of the .vocab files that SentencePiece itself writes.
    vocab = "".join(f"{piece}\t{score:g}\n" for piece, score in zip(pieces, scores, strict=True))
    lock.verify()
    write_atomic(lang_dir / VOCAB_FILE, vocab)
    tokens = "".join(f"{piece} {number}\n" for number, piece in enumerate(pieces))
    write_atomic(lang_dir / TOKENS_FILE, tokens)
    # The model is written last: its presence means that the folder is complete.
    write_atomic(lang_dir / MODEL_FILE, model)
    tokenizer = SentencePieceTokenizer.load(lang_dir)
    write_tokenizer_record(config, folder, tokenizer.fingerprint)
    return tokenizer


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


def size_note(config: TokenizerConfig, tokenizer: Tokenizer) -> str | None:
    """Say that a tokenizer has fewer tokens than the recipe asks for; None if it has all, or the size is a limit."""
    if config.kind not in ("bpe", "unigram") or tokenizer.vocab_size >= config.vocab_size:
        return None
    return (
        f"the tokenizer has {tokenizer.vocab_size} tokens instead of the {config.vocab_size} of tokenizer.vocab_size, "
        "because the training text is small (tokenizer.allow_fewer)"
    )


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
