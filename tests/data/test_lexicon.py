"""Dictionaries in CMU's form, and phonemes as tokens."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from slimasr.config.load import describe_validation, parse_config
from slimasr.data.batches.filters import unusable
from slimasr.data.graphs.dictionary import mark_word_ends, read_dictionary, spell
from slimasr.data.graphs.lexicon import Lexicon
from slimasr.data.timelines.timeline import units_of
from slimasr.data.tokens.load import load_tokenizer
from slimasr.data.tokens.phonemes import PhonemeTokenizer
from slimasr.errors import UserError

TEXT = """;;; a comment
<s>\tSIL
READ  R EH1 D
READ(2)  R IY1 D
A  AH0 # as in: a book
A(2)  EY1
READ  R EH1 D
BOOK  B UH1 K
"""


@pytest.fixture
def dictionary(tmp_path: Path) -> Path:
    path = tmp_path / "some.dic"
    path.write_text(TEXT)
    return path


def test_variants_comments_and_marks(dictionary: Path) -> None:
    assert read_dictionary(dictionary) == {
        "READ": (("R", "EH1", "D"), ("R", "IY1", "D")),
        "A": (("AH0",), ("EY1",)),
        "BOOK": (("B", "UH1", "K"),),
    }
    assert read_dictionary(dictionary, stress=False)["A"] == (("AH",), ("EY",))


def test_the_variant_without_a_number_comes_first(dictionary: Path) -> None:
    dictionary.write_text("READ(2) R IY D\nREAD R EH D\n")
    assert read_dictionary(dictionary) == {"READ": (("R", "EH", "D"), ("R", "IY", "D"))}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the dictionary holds no word"),
        (";;; nothing\n<s> SIL\n", "the dictionary holds no word"),
        ("A AH\nBOOK\n", r"some\.dic:2: the word has no phonemes: 'BOOK'"),
        ("BOOK # B UH K\n", r"some\.dic:1: the word has no phonemes"),
        ("A AH#\n", r"some\.dic:1: 'AH#' is no name for a phoneme"),
        ("A <blk>\n", r"some\.dic:1: '<blk>' is no name for a phoneme"),
    ],
)
def test_what_is_no_dictionary_is_named(dictionary: Path, text: str, message: str) -> None:
    dictionary.write_text(text)
    with pytest.raises(UserError, match=message):
        read_dictionary(dictionary)


def test_tokens_are_the_labels_that_occur_and_the_last_one_of_a_word_has_its_own(dictionary: Path) -> None:
    tokenizer = PhonemeTokenizer.of(Lexicon(mark_word_ends(read_dictionary(dictionary, stress=False))))
    expected = ("<blk>", "<sos/eos>", "<unk>", "AH#", "B", "D#", "EH", "EY#", "IY", "K#", "R", "UH")
    assert tokenizer.tokens == expected and not tokenizer.spells
    ids = tokenizer.encode("A BOOK READ")
    # The first variants; no label of another word is between the ends.
    assert tokenizer.decode([0, *ids, 0, 1]) == "AH# B UH K# R EH D#"
    assert tokenizer.encode("A PEN") == [expected.index("AH#"), 2]
    assert tokenizer.unencodable("A BOOK") is None
    assert tokenizer.unencodable("MY PEN A PEN") == "transcript has words without pronunciation: MY, PEN"


def test_utterances_with_words_without_pronunciation_are_left_out_of_training() -> None:
    tokenizer = PhonemeTokenizer.of(Lexicon(mark_word_ends({"A": (("AH",),)})))
    recipe = parse_config({"name": "x", "data": {"corpus": "an4"}, "model": {"kind": "ctc"}})
    reasons = [
        unusable(1.0, text, tokenizer.encode(text), recipe, tokenizer, lambda frames: frames // 4)
        for text in ("A A", "A PEN")
    ]
    assert reasons == [None, "transcript has a word without pronunciation: PEN"]


def test_units_of_a_transcript_are_shared_out_over_its_labels() -> None:
    lexicon = Lexicon(mark_word_ends({"KNIGHT": (("N", "AY", "T"),), "X": (("EH", "K", "S"),)}))
    tokenizer = PhonemeTokenizer.of(lexicon)
    for text in ("KNIGHT X", "X UNKNOWN"):
        counts = tokenizer.unit_counts(text)
        assert len(counts) == len(tokenizer.encode(text)) and sum(counts) == len(units_of(text))
    assert tokenizer.unit_counts("KNIGHT X") == [2, 2, 3, 0, 1, 1]


def test_what_is_written_is_read_by_kind(dictionary: Path, tmp_path: Path) -> None:
    tokenizer = PhonemeTokenizer.of(Lexicon(mark_word_ends(read_dictionary(dictionary))))
    tokenizer.write(tmp_path / "lang")
    again = load_tokenizer(tmp_path / "lang")
    assert again == tokenizer and again.fingerprint == tokenizer.fingerprint
    rows = (tmp_path / "lang" / "tokens.txt").read_text().splitlines()
    assert rows == [f"{label} {number}" for number, label in enumerate(tokenizer.tokens)]
    fewer = PhonemeTokenizer.of(tokenizer.lexicon.restricted(["READ", "A"]))
    assert fewer.fingerprint != tokenizer.fingerprint


def test_damaged_folders_are_named(dictionary: Path, tmp_path: Path) -> None:
    lang = tmp_path / "lang"
    PhonemeTokenizer.of(Lexicon(mark_word_ends(read_dictionary(dictionary)))).write(lang)
    tokens = (lang / "tokens.txt").read_text()
    (lang / "tokens.txt").write_text(tokens.replace("AH0#", "AH1#"))
    with pytest.raises(UserError, match=r"tokens\.txt: holds other labels than lexicon\.txt"):
        load_tokenizer(lang)
    (lang / "tokens.txt").write_text(tokens.replace(" 4\n", " 44\n"))
    with pytest.raises(UserError, match=r"tokens\.txt:5: damaged, expected a label and the number 4"):
        load_tokenizer(lang)
    (lang / "lexicon.txt").write_text("READ\n")
    (lang / "tokens.txt").write_text(tokens)
    with pytest.raises(UserError, match=r"lexicon\.txt:1: damaged"):
        load_tokenizer(lang)


def test_real_an4_has_the_labels_of_its_dictionary(corpus: Callable[[str], Path]) -> None:
    found = read_dictionary(corpus("an4") / "etc" / "an4.dic")
    lexicon = Lexicon(mark_word_ends(found))
    assert (len(lexicon.words), len(list(lexicon.entries())), len(lexicon.labels)) == (101, 130, 51)
    assert found["FEBRUARY"][0] == ("F", "EH", "B", "AH", "W", "EH", "R", "IY")


def test_words_may_be_spelled() -> None:
    assert mark_word_ends(spell(["TO", "O"])) == {"TO": (("T", "O#"),), "O": (("O#",),)}


@pytest.mark.parametrize(
    ("tokenizer", "model", "message"),
    [
        ({"kind": "phonemes"}, "ctc", r"tokenizer\.lexicon: phonemes need the path of a dictionary, or spelling"),
        ({"kind": "phonemes", "lexicon": "pieces"}, "ctc", r"tokenizer\.lexicon: phonemes need the path"),
        ({"kind": "bpe", "lexicon": "a.dic"}, "ctc", r"tokenizer\.lexicon: must be pieces or null with kind: bpe"),
        ({"kind": "phonemes", "lexicon": "a.dic"}, "transducer", r"tokenizer\.kind: phonemes have no spelling"),
    ],
)
def test_kinds_and_lexicons_that_do_not_fit(tokenizer: dict[str, str], model: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_config({"name": "x", "data": {"corpus": "an4"}, "tokenizer": tokenizer, "model": {"kind": model}})
    assert re.match(message, describe_validation(caught.value))
