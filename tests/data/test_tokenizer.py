"""Stage 3: ids, round trips, the same model again, sizes that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimasr.config.data import TokenizerConfig
from slimasr.data.tokens.load import load_tokenizer
from slimasr.data.tokens.stage import size_note
from slimasr.data.tokens.subwords import MODEL_FILE, train_model
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.errors import UserError
from slimasr.files import write_atomic

TEXTS = ["ONE TWO THREE", "TWO TWO", "THREE ONE", "STOP", "YES NO"] * 4
Prepared = tuple[Path, Tokenizer]


def _train(tmp_path: Path, kind: str, size: int, texts: list[str] = TEXTS) -> Tokenizer:
    config = TokenizerConfig.model_validate({"kind": kind, "vocab_size": size})
    write_atomic(tmp_path / kind / MODEL_FILE, train_model(texts, config))
    return load_tokenizer(tmp_path / kind)


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char"])
def test_texts_come_back_and_special_ids_are_fixed(tmp_path: Path, kind: str) -> None:
    tokenizer = _train(tmp_path, kind, 18)
    assert tokenizer.tokens[:3] == ("<blk>", "<sos/eos>", "<unk>")
    assert len(tokenizer.tokens) == tokenizer.vocab_size <= 18
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert min(ids) > 2
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode([0, *ids, 1, 0]) == text
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


def test_unknown_characters_are_unk_and_special_names_in_a_text_are_just_text(tmp_path: Path) -> None:
    tokenizer = _train(tmp_path, "bpe", 18)
    assert tokenizer.unk_id in tokenizer.encode("ONE ZEBRA")
    assert not {0, 1} & set(tokenizer.encode("<blk> <sos/eos>"))


def test_the_same_text_gives_the_same_model() -> None:
    for kind in ("bpe", "unigram"):
        config = TokenizerConfig.model_validate({"kind": kind, "vocab_size": 18})
        assert train_model(TEXTS, config) == train_model(list(TEXTS), config)


def test_whole_words_fold_into_one_token(tmp_path: Path) -> None:
    tokenizer = _train(tmp_path, "bpe", 25)
    assert len(tokenizer.encode("TWO TWO")) == 2


def test_impossible_sizes_say_which_are_possible() -> None:
    with pytest.raises(UserError, match=r"tokenizer\.vocab_size 500: too large .* at most (\d+)") as caught:
        train_model(TEXTS, TokenizerConfig(kind="bpe", vocab_size=500))
    largest = int(str(caught.value).rsplit(" ", 1)[1])
    train_model(TEXTS, TokenizerConfig(kind="bpe", vocab_size=largest))
    with pytest.raises(UserError, match=r"tokenizer\.vocab_size 5: too small .* at least (\d+)") as caught:
        train_model(TEXTS, TokenizerConfig(kind="bpe", vocab_size=5))
    smallest = int(str(caught.value).rsplit(" ", 1)[1])
    train_model(TEXTS, TokenizerConfig(kind="bpe", vocab_size=smallest))
    with pytest.raises(UserError, match="too small"):
        train_model(TEXTS, TokenizerConfig(kind="bpe", vocab_size=smallest - 1))
    with pytest.raises(UserError, match="no text"):
        train_model([" "], TokenizerConfig())


def _train_limited(tmp_path: Path, kind: str, size: int, texts: list[str]) -> tuple[Tokenizer, str | None]:
    config = TokenizerConfig.model_validate({"kind": kind, "vocab_size": size, "allow_fewer": True})
    write_atomic(tmp_path / kind / MODEL_FILE, train_model(texts, config))
    tokenizer = load_tokenizer(tmp_path / kind)
    return tokenizer, size_note(config, tokenizer)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_fewer_tokens_where_the_text_is_small(tmp_path: Path, kind: str) -> None:
    """Three special tokens, ten letters, the mark of words, and a piece for each fifty characters."""
    assert len(set("".join(TEXTS)) - {" "}) == 10
    tokenizer, note = _train_limited(tmp_path, kind, 500, TEXTS)
    assert tokenizer.vocab_size == 3 + 10 + 1 + len("".join(TEXTS)) // 50
    assert note is not None and f"has {tokenizer.vocab_size} tokens instead of the 500 of tokenizer.vocab_size" in note
    assert [tokenizer.decode(tokenizer.encode(text)) for text in TEXTS] == TEXTS


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_larger_text_has_as_many_tokens_as_there_are_pieces_or_as_asked_for(tmp_path: Path, kind: str) -> None:
    texts = TEXTS * 100
    with pytest.raises(UserError) as caught:
        _train(tmp_path, kind, 500, texts)
    tokenizer, note = _train_limited(tmp_path, kind, 500, texts)
    assert tokenizer.vocab_size == int(str(caught.value).rsplit(" ", 1)[1])
    assert note is not None
    tokenizer, note = _train_limited(tmp_path, kind, 18, texts)
    assert note is None
    assert tokenizer.tokens == _train(tmp_path, kind, 18, texts).tokens
    with pytest.raises(UserError, match="too small"):
        _train_limited(tmp_path, kind, 5, texts)


def test_files_of_the_lang_folder_agree(prepared: Prepared) -> None:
    data_dir, tokenizer = prepared
    lang = data_dir / "lang_char_20"
    rows = [line.split(" ") for line in (lang / "tokens.txt").read_text().splitlines()]
    assert rows == [[piece, str(number)] for number, piece in enumerate(tokenizer.tokens)]
    assert [line.split("\t")[0] for line in (lang / "bpe.vocab").read_text().splitlines()] == [r[0] for r in rows]


def test_missing_damaged_and_foreign_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"bpe\.model is missing: run stage 3"):
        load_tokenizer(tmp_path)
    write_atomic(tmp_path / MODEL_FILE, b"not a model")
    with pytest.raises(UserError, match=r"bpe\.model: not a SentencePiece model"):
        load_tokenizer(tmp_path)
    import io

    import sentencepiece

    foreign = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(TEXTS), model_writer=foreign, vocab_size=18, minloglevel=2
    )
    write_atomic(tmp_path / MODEL_FILE, foreign.getvalue())
    with pytest.raises(UserError, match="<blk>"):
        load_tokenizer(tmp_path)
