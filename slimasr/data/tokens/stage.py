"""Stage 3: train a tokenizer on the transcripts of a recipe's sets, or make it of the phonemes of its lexicon."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import sentencepiece

from slimasr.config.data import TokenizerConfig
from slimasr.config.schema import Config
from slimasr.data.files import BadUtterance, DataFolder, check_bad_share, read_cuts
from slimasr.data.graphs.lexicon_source import phoneme_lexicon
from slimasr.data.identity.manifest_record import STAGE_1, check_corpus
from slimasr.data.sets import lang_of, tokenizer_sets
from slimasr.data.tokens.balance import balanced_texts
from slimasr.data.tokens.phonemes import PhonemeTokenizer
from slimasr.data.tokens.record import check_tokenizer_sets, write_tokenizer_record
from slimasr.data.tokens.subwords import MODEL_FILE, VOCAB_FILE, SentencePieceTokenizer, train_model
from slimasr.data.tokens.tokenizer import TOKENS_FILE, Tokenizer
from slimasr.errors import UserError
from slimasr.files import write_atomic
from slimasr.locking import Lock, folder_lock, refuse_while_locked


def train_tokenizer(config: Config, data_dir: Path) -> Tokenizer:
    """Stage 3: train on the transcripts of ``tokenizer.sets``, or read the lexicon, and write ``lang_<kind>_<size>/``.

    Equal transcripts result in equal models. ``tokens.txt`` has lines ``piece id``, as device runtimes read them.

    Raises:
        UserError: stage 1 has not run or is running, another process makes this tokenizer, it exists and was made from
            other sets, or the settings do not fit the text or the lexicon.
    """
    folder = DataFolder(data_dir)
    refuse_while_locked(folder.lock("manifests"), "slimasr-bpe")
    name = lang_of(config, folder).name
    with folder_lock(folder.lock(name), "slimasr-bpe") as lock:
        for set_name in tokenizer_sets(config):
            check_corpus(config.data, folder, set_name)
        check_tokenizer_sets(config, folder)
        if config.tokenizer.kind == "phonemes":
            return _write_phonemes(config, folder, lock)
        return _write_pieces(config, folder, lock)


def size_note(config: TokenizerConfig, tokenizer: Tokenizer) -> str | None:
    """Say that a tokenizer has fewer tokens than the recipe asks for; None if it has all, or the size is a limit."""
    if config.kind not in ("bpe", "unigram") or tokenizer.vocab_size >= config.vocab_size:
        return None
    return (
        f"the tokenizer has {tokenizer.vocab_size} tokens instead of the {config.vocab_size} of tokenizer.vocab_size, "
        "because the training text is small (tokenizer.allow_fewer)"
    )


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


def _write_phonemes(config: Config, folder: DataFolder, lock: Lock) -> PhonemeTokenizer:
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
    cuts = list(read_cuts(folder.raw_cuts(set_name), STAGE_1))
    reasons = {cut.id: tokenizer.unencodable(cut.supervisions[0].text) for cut in cuts}
    bad = [BadUtterance(name, reason) for name, reason in reasons.items() if reason is not None]
    check_bad_share(bad, len(cuts), config.data.max_bad_share, set_name)
