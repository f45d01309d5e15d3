"""CTM files of other aligners, and every line that cannot be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimasr.data.timelines.ctm import Reference, check_known, read_ctm, timeline_of
from slimasr.errors import UserError

WORDS = """;; Kaldi
a 1 0.00 0.31 <eps> 1.00
a 1 0.31 0.30 YES 0.98
a 1 0.61 0.10 <eps> 1.00
a 1 0.705 0.195 NO 0.99
b 1 0.1 0.2 NO
"""
CHARACTERS = "a A 0.3 0.1 Y\na A 0.4 0.05 E\na A 0.45 0.2 S\na A 0.65 0.02 |\na A 0.70 0.1 N\na A 0.8 0.1 O\n"
YES_NO = Reference("YES NO", 95)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "words.ctm"
    path.write_text(text)
    return path


def test_a_words_span_is_shared_out_evenly_over_its_characters(tmp_path: Path) -> None:
    path = write(tmp_path, WORDS)
    entries = read_ctm(path)
    check_known(path, entries, {"a": YES_NO, "b": YES_NO, "c": YES_NO})
    timeline = timeline_of(path, "a", entries["a"], YES_NO)
    assert timeline.units == tuple("▁YES▁NO")
    assert timeline.starts.tolist() == [31, 31, 41, 51, 71, 71, 80]
    assert timeline.ends.tolist() == [31, 41, 51, 61, 71, 80, 90]
    assert timeline.frames == 95


def test_characters(tmp_path: Path) -> None:
    path = write(tmp_path, CHARACTERS)
    timeline = timeline_of(path, "a", read_ctm(path)["a"], YES_NO)
    assert timeline.units == tuple("▁YES▁NO")
    assert timeline.starts.tolist() == [30, 30, 40, 45, 70, 70, 80]
    assert timeline.ends.tolist() == [30, 40, 45, 65, 70, 80, 90]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1 0.1 0.2\n", r":1: has 4 columns; needs utterance, channel, start, duration, word"),
        ("a 1 0.1 0.2 YES 1 2 3\n", r":1: has 8 columns"),
        ("a 1 soon 0.2 YES\n", r":1: a: start or duration is not a number"),
        ("a 1 nan 0.2 YES\n", r":1: a: start and duration need to be finite"),
        ("a 1 -0.5 0.2 YES\n", r":1: a: .* the start at least 0"),
        ("a 1 0.5 -0.2 YES\n", r":1: a: 'YES' ends before it starts"),
        ("a 1 0.1 0.4 YES\na 1 0.3 0.1 NO\n", r":2: a: 'NO' starts at 0.3 s, before 'YES' ends at 0.5 s"),
        (";; nothing\n\n", r": holds no words"),
    ],
)
def test_lines_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=r"words\.ctm" + message):
        read_ctm(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1 0.1 0.2 YES\na 1 0.4 0.1 NOT\n", r":2: a: has 'NOT' where the transcript has 'NO'"),
        ("a 1 0.1 0.2 YES\n", r":1: a: has 1 words or characters, the transcript 2 words"),
        ("a 1 0.1 0.2 YES\na 1 0.4 0.1 NO\na 1 0.5 0.1 NO\n", r":3: a: has 3 words or characters"),
        ("a 1 0.1 0.2 YES\na 1 0.9 0.5 NO\n", r":2: a: 'NO' ends at 1.4 s, the audio has 0.95 s"),
    ],
)
def test_words_and_times_need_to_fit(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=r"words\.ctm" + message):
        timeline_of(path, "a", read_ctm(path)["a"], YES_NO)


def test_unknown_utterances(tmp_path: Path) -> None:
    path = write(tmp_path, WORDS)
    with pytest.raises(UserError, match="utterance b is in none of the sets"):
        check_known(path, read_ctm(path), {"a": YES_NO})
    with pytest.raises(UserError, match="utterance a and 1 others is in none of the sets"):
        check_known(path, read_ctm(path), {})
