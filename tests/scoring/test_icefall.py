"""``recogs`` and ``errs`` as icefall's users know them."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimasr.errors import UserError
from slimasr.scoring import Utterance, align
from slimasr.scoring.icefall import errs, read_recogs, recogs

UTTERANCES = [
    Utterance(
        "b-2",
        ("FOR", "THE", "FIRST", "DAY", "SIR", "I", "THINK"),
        ("FOR", "THE", "FIRST", "DAY", "I", "THINK"),
    ),
    Utterance("a-1", ("OF", "EDISON", "ILLUMINATING", "IT'S"), ("OF", "ADDISON", "ILLUMINATED", "NOW", "IT'S")),
    Utterance("c-3", (), ()),
]


def test_recogs_round_trip(tmp_path: Path) -> None:
    text = recogs(UTTERANCES)
    assert text.splitlines()[:2] == [
        "a-1:\tref=['OF', 'EDISON', 'ILLUMINATING', \"IT'S\"]",
        "a-1:\thyp=['OF', 'ADDISON', 'ILLUMINATED', 'NOW', \"IT'S\"]",
    ]
    (tmp_path / "recogs").write_text(text, encoding="utf-8")
    assert read_recogs(tmp_path / "recogs") == sorted(UTTERANCES, key=lambda u: u.id)


def test_errs() -> None:
    lines = errs([align(u) for u in UTTERANCES]).splitlines()
    assert lines[:2] == [
        "%WER = 36.36",
        "Errors: 1 insertions, 1 deletions, 2 substitutions, over 11 reference words (8 correct)",
    ]
    details = lines.index("PER-UTT DETAILS: corr or (ref->hyp)  ")
    assert lines[details + 1 : details + 4] == [
        "b-2:\tFOR THE FIRST DAY (SIR->*) I THINK",
        "a-1:\tOF (EDISON ILLUMINATING->ADDISON ILLUMINATED NOW) IT'S",
        "c-3:\t",
    ]
    assert lines[lines.index("DELETIONS: count ref") + 1] == "1   SIR"
    insertion = lines[lines.index("INSERTIONS: count hyp") + 1]
    assert insertion in {"1   ADDISON", "1   ILLUMINATED", "1   NOW"}
    # word, correct, errors, count in references, count in hypotheses
    assert {"SIR   0 1 1 0", "OF   1 0 1 1", "EDISON   0 1 1 0"} <= set(lines)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("a:\tref=['x']\n", "two lines"),
        ("", "two lines"),
        ("a:\tref=['x']\nb:\thyp=['x']\n", "recogs:2: utterance b is out of place"),
        ("a:\tref=['x']\na:\thyp=['x'\n", "recogs:2: expected"),
        ("a:\tref=['x']\na:\thyp=__import__('os')\n", "recogs:2: expected"),
        ("a:\tref=[1]\na:\thyp=['x']\n", "recogs:1: expected"),
    ],
)
def test_damaged_recogs(tmp_path: Path, content: str, match: str) -> None:
    path = tmp_path / "recogs"
    path.write_text(content)
    with pytest.raises(UserError, match=match):
        read_recogs(path)
