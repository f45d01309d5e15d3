"""Which layout a file of transcripts has, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimasr.errors import UserError
from slimasr.scoring import read_utt2spk
from slimasr.scoring.layouts import read_transcripts


def _read(path: Path, text: str) -> tuple[str, dict[str, tuple[str, ...]]]:
    path.write_bytes(text.encode())
    found = read_transcripts(path)
    return found.layout, found.words


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("r.trn", "HELLO WORLD (s1-a)\n(s1-b)\n", {"s1-a": ("HELLO", "WORLD"), "s1-b": ()}),
        ("r.TRN", ";; comment\n\nHELLO\t(s1-a)\r\n", {"s1-a": ("HELLO",)}),
        ("r", "\ufeffHELLO (LAUGHS) YOU (A_1)\nH I (a_1)\n", {"A_1": ("HELLO", "(LAUGHS)", "YOU"), "a_1": ("H", "I")}),
        ("r", ";; comment (x)\nHELLO(s1-a)\n", {"s1-a": ("HELLO",)}),
        ("r.txt", "你 好 (台北-1)\n", {"台北-1": ("你", "好")}),
    ],
)
def test_trn_by_name_or_content(tmp_path: Path, name: str, text: str, expected: dict[str, tuple[str, ...]]) -> None:
    assert _read(tmp_path / name, text) == ("trn", expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("u1 HELLO (noise)\nu2 (noise)\n", {"u1": ("HELLO", "(noise)"), "u2": ("(noise)",)}),
        ("u1 HELLO (a)\nu2 HI\nu3\n", {"u1": ("HELLO", "(a)"), "u2": ("HI",), "u3": ()}),
        ("u1 1 2 3 4\nu2 A 2 3 5\n", {"u1": ("1", "2", "3", "4"), "u2": ("A", "2", "3", "5")}),
        ("u1 {A} {B}/C\n", {"u1": ("{A}", "{B}/C")}),
        ("u1\u3000A\u00a0B\u2028C\x85D\n", {"u1": ("A", "B", "C", "D")}),
    ],
)
def test_kaldi_text_stays_kaldi_text(tmp_path: Path, text: str, expected: dict[str, tuple[str, ...]]) -> None:
    assert _read(tmp_path / "text", text) == ("text", expected)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("r.trn", "A (u1)\nu2 B\n", r"r\.trn:2: expected '<word> \.\.\. \(<utterance id>\)'"),
        ("r.trn", "A (u1)\nB (u1)\n", r"r\.trn:2: utterance u1 comes twice"),
        ("r.trn", ";; nothing\n", r"r\.trn: is empty"),
        ("r.trn", "A B (u 1)\n", r"r\.trn:1: expected"),
        ("r", "A (u1)\nB (u2)\nC u3\n", r"r:3: does not end with '\(<utterance id>\)' as other lines do"),
        ("r.trn", "THE { UM / UH / @ } CAT (u1)\n", r"r\.trn:1: alternatives"),
        ("r", "A (u1)\n{UM/UH} A (u2)\n", r"r:2: alternatives"),
        ("r", "u1 { A / B }\n", r"r:1: alternatives"),
        ("r", "u1 A 0.00 0.35 HELLO\nu1 A 0.35 0.20 YOU 0.98\n", "r: looks like a CTM file .* expected Kaldi's"),
        ("r", ";; c\nf A spk 0.00 5.35 <o> HELLO\nf A spk 5.5 7.0\n", "r: looks like an STM file"),
        ("r.stm", "f A spk 0 5 HELLO\n", "looks like an STM file"),
        ("r.ctm", "f A 0 5 HELLO\n", "looks like a CTM file"),
        ("recogs", "u1:\tref=['A']\nu1:\thyp=['A']\n", "looks like icefall's recogs"),
        ("r", "", "r: is empty"),
    ],
)
def test_other_layouts_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _read(tmp_path / name, text)


def test_a_speaker_file_with_marks_tabs_and_two_speakers(tmp_path: Path) -> None:
    path = tmp_path / "utt2spk"
    path.write_bytes("\ufeffu1\ts1\r\nu2 \t s2\r\n".encode())
    assert read_utt2spk(path) == {"u1": "s1", "u2": "s2"}
    for again in ("s1", "s2"):
        path.write_text(f"u1 s1\nu1 {again}\n")
        with pytest.raises(UserError, match=rf"utt2spk:2: utterance u1 comes twice \(speakers s1 and {again}\)"):
            read_utt2spk(path)
