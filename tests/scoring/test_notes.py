"""High error rates that differences in writing explain, and those that they do not."""

from __future__ import annotations

import pytest

from slimasr.scoring import Utterance, score
from slimasr.scoring.notes import find_spelling, notes


def _notes(*pairs: tuple[str, str]) -> list[str]:
    utterances = [Utterance(str(i), tuple(r.split()), tuple(h.split())) for i, (r, h) in enumerate(pairs)]
    return list(notes(utterances, score(utterances, replications=0)))


@pytest.mark.parametrize(
    ("pairs", "note"),
    [
        ((("the cat sat", "THE CAT SAT"), ("on it", "ON IT")), "regard to case the WER falls from 100.00 to 0.00"),
        ((("Straße frei", "STRASSE FREI"), ("a", "a")), "regard to case the WER falls from 66.67 to 0.00"),
        ((("été né", "e\u0301te\u0301 ne\u0301"), ("a", "b")), "form (NFC) the WER falls from 100.00 to 33.33"),
        ((("１ ２", "1 2"), ("ﬁn", "fin")), "form (NFKC) the WER falls from 100.00 to 0.00"),
        ((("yes, no.", "yes no"), ("«oui»", "oui")), "to punctuation the WER falls from 100.00 to 0.00"),
        ((("Yes, no.", "YES NO"), ("Well", "WELL")), "to case and punctuation the WER falls from 100.00 to 0.00"),
        ((("É, A", "e\u0301 a"), ("B", "b")), "case and Unicode normal form (NFC) and punctuation the WER falls"),
        ((("the cat", "THE CAT"), ("sat", "SET")), "regard to case the WER falls from 100.00 to 33.33"),
    ],
)
def test_what_explains_the_errors_is_named(pairs: tuple[tuple[str, str], ...], note: str) -> None:
    (found,) = _notes(*pairs)
    assert note in found


@pytest.mark.parametrize(
    "pairs",
    [
        (("the cat", "a dog"), ("yes", "no")),
        # Half of the errors stay, and no difference is named below the threshold of 50 %.
        (("the cat", "THE DOG"), ("a", "a b")),
        (("the cat sat here", "THE cat sat here"), ("a", "a")),
        (("...", "a"), ("!", "b")),
        (("a b", ""), ("c", "")),
    ],
)
def test_other_errors_are_not_explained(pairs: tuple[tuple[str, str], ...]) -> None:
    assert _notes(*pairs) == []


def test_fewest_differences_are_named() -> None:
    words = [Utterance(str(i), (f"w{i}",), (f"W{i}",)) for i in range(200)]
    words.append(Utterance("x", ("a,",), ("a",)))
    found = find_spelling(words, 100.0)
    assert found is not None and found[0].describe() == "case"
    assert found[1] == pytest.approx(100 / 201)


def test_one_utterance_has_no_interval() -> None:
    assert "no confidence interval" in _notes(("a b", "a"))[0]
    assert score([Utterance("a", ("a", "b"), ("a",))]).ci95 is None
    assert score([Utterance("a", ("a", "b"), ("a",)), Utterance("b", ("c",), ())]).ci95 is not None
