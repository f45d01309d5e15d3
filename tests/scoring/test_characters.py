"""Characters as the rules of Unicode and the regex library cut them; rates against a count by hand."""

from __future__ import annotations

import random

import kaldialign
import pytest

from slimasr.scoring import Utterance, align, score
from slimasr.scoring.characters import in_characters
from slimasr.scoring.icefall import errs
from slimasr.scoring.kaldi import per_spk, wer_lines
from slimasr.scoring.wer import CHARACTER

# One case for each rule of Unicode Standard Annex 29: boundaries are written as |.
RULES = (
    "a|\U0001f1e6\U0001f1e7|\U0001f1e8|b",
    "\u1100\u1160|\u1100|\u11a8|\u1100",
    "\uac00\u11a8|\u1100",
    "\uac01\u11a8|\u1100",
    "a\u0308|b",
    "a\u0903|b",
    "a|\u0600b",
    "\U0001f476\U0001f3ff|\U0001f476",
    "a\U0001f3ff|\U0001f476",
    "a\U0001f3ff|\U0001f476\u200d\U0001f6d1",
    "\U0001f476\U0001f3ff\u0308\u200d\U0001f476\U0001f3ff",
    "\U0001f6d1\u200d\U0001f6d1",
    "a\u200d|\U0001f6d1",
    "\u0915|\u0924",
    "\u0915\u094d\u0924",
    "\u0915\u094d\u200d\u0924",
    "\u0915\u094d\u0924\u094d\u092f",
    "\u0915\u094d|a",
)
# Words with their characters as their readers count them.
WORDS = (
    ("नमस्ते", 3),
    ("مُحَمَّد", 4),
    ("한국어", 3),
    ("\u1112\u1161\u11ab\u1100\u116e\u11a8", 2),
    ("👨‍👩‍👧‍👦👍🏽", 2),
    ("🇩🇪🇫🇷", 2),
    ("กำลัง", 3),
    ("e\u0301te\u0301", 3),
    ("你好", 2),
    ("don't", 5),
)


@pytest.mark.parametrize("text", RULES)
def test_cuts_are_those_of_the_unicode_standard(text: str) -> None:
    expected = tuple(text.split("|"))
    utterance = in_characters(Utterance("u", ("".join(expected),), ()))
    assert utterance == Utterance("u", expected, ())


@pytest.mark.parametrize(("word", "number"), WORDS)
def test_readers_count_so_many(word: str, number: int) -> None:
    assert len(in_characters(Utterance("u", (word,), (word,))).hyp) == number


def test_cuts_are_those_of_the_regex_library() -> None:
    regex = pytest.importorskip("regex", reason="only this test needs the library")
    pool = "".join(word for word, _ in WORDS) + "".join(RULES).replace("|", "") + "abc"
    rng = random.Random(0)
    for _ in range(2000):
        word = "".join(rng.choice(pool) for _ in range(rng.randint(1, 8)))
        assert list(in_characters(Utterance("u", (word,), ())).ref) == regex.findall(r"\X", word), ascii(word)


def test_spaces_are_no_characters_and_words_do_not_matter() -> None:
    utterance = in_characters(Utterance("u", ("AB", "C"), ("A", "BC")))
    assert utterance.ref == utterance.hyp == ("A", "B", "C")


def test_rates_and_labels() -> None:
    # नमस्ते is न म स्ते; the last one is replaced, ABC loses a letter, and 你 is put in.
    words = [Utterance("a", ("नमस्ते",), ("नमस्त",)), Utterance("b", ("ABC", "D"), ("AB", "D", "你"))]
    characters = [in_characters(u) for u in words]
    result = score(characters, unit=CHARACTER)
    edits = kaldialign.edit_distance(list("ABCD"), list("ABD你"))
    assert result.counts.errors == 1 + edits["total"] == 3
    assert result.counts.words == 3 + 4
    assert wer_lines(result).startswith("%CER 42.86 [ 3 / 7, ")
    entry = result.cer_entry().to_dict()
    assert entry["cer"] == pytest.approx(300 / 7) and entry["characters"] == 7
    assert set(entry) - {"cer", "characters"} == set(score(words).wer_entry().to_dict()) - {"wer", "words"}
    aligned = [align(u) for u in characters]
    assert errs(aligned, CHARACTER).startswith("%CER = 42.86\n")
    assert "over 7 reference characters" in errs(aligned, CHARACTER)
    assert "#CHAR" in per_spk(aligned, {"a": "s", "b": "s"}, CHARACTER).splitlines()[0]
