"""Subtitles against parsers of both formats, written from their descriptions."""

from __future__ import annotations

import html
import random
import re
from itertools import pairwise

import pytest

from slimasr.decoding.searches.timed import Transcript, Word
from slimasr.decoding.transcription.subtitles import to_srt, to_vtt

Shown = tuple[float, float, list[str]]
TIME = r"(\d{2,}):([0-5]\d):([0-5]\d)[%s](\d{3})"


def seconds(parts: tuple[str, ...]) -> float:
    hours, minutes, whole, milliseconds = map(int, parts)
    return 3600 * hours + 60 * minutes + whole + milliseconds / 1000


def parse_srt(text: str) -> list[Shown]:
    """Blocks of a number, a line of times and lines of text, separated by empty lines."""
    found: list[Shown] = []
    for number, block in enumerate(text.removesuffix("\n").split("\n\n") if text else [], start=1):
        counter, times, *lines = block.split("\n")
        assert counter == str(number) and lines and all(lines)
        matched = re.fullmatch(TIME % "," + " --> " + TIME % ",", times)
        assert matched, times
        found.append((seconds(matched.groups()[:4]), seconds(matched.groups()[4:]), lines))
    return found


def parse_vtt(text: str) -> list[Shown]:
    """A head, and blocks of a line of times and lines of text, whose marks are escaped."""
    head, *blocks = text.removesuffix("\n").split("\n\n")
    assert head == "WEBVTT"
    found: list[Shown] = []
    for block in blocks:
        times, *lines = block.split("\n")
        matched = re.fullmatch(TIME % "." + " --> " + TIME % ".", times)
        assert matched, times
        assert not any("-->" in line or "<" in line or re.search("&(?!amp;|lt;|gt;)", line) for line in lines)
        found.append((seconds(matched.groups()[:4]), seconds(matched.groups()[4:]), list(map(html.unescape, lines))))
    return found


def speech(seed: int) -> Transcript:
    """Words of many lengths, some without any duration, with short and long pauses, up to beyond an hour."""
    rng = random.Random(seed)
    time, words = rng.choice((0.0, 3590.0)), []
    for _ in range(rng.randrange(1, 120)):
        start = round(time, 3)
        end = round(start + rng.choice((0.0, 0.2, 0.4, 1.5)), 3)
        words.append(Word("".join(rng.choices("AB&<>C'", k=rng.choice((1, 4, 9, 60)))), start, end, 1.0))
        time = end + rng.choice((0.0, 0.0, 0.1, 0.8, 3.0))
    return Transcript(" ".join(word.word for word in words), tuple(words), round(time + 1.0, 3))


@pytest.mark.parametrize("seed", range(20))
def test_cues_follow_the_formats_and_can_be_read(seed: int) -> None:
    transcript = speech(seed)
    found = parse_srt(to_srt(transcript))
    assert parse_vtt(to_vtt(transcript)) == found
    for start, end, lines in found:
        assert 0.0 <= start < end <= transcript.seconds
        assert len(lines) <= 2 and all(len(line) <= 42 for line in lines)
    assert all(before[1] <= behind[0] for before, behind in pairwise(found))
    # Words longer than a line are divided, and no character is lost.
    assert "".join("".join(lines) for _, _, lines in found).replace(" ", "") == transcript.text.replace(" ", "")


def test_cues_end_at_pauses_and_when_they_are_full() -> None:
    words = [Word(f"W{number:03d}", 0.2 * number, 0.2 * number + 0.2, 1.0) for number in range(20)]
    words += [Word("LATER", 6.0, 6.2, 1.0), Word("ALONE", 20.0, 20.2, 1.0), Word("LONG", 20.2, 31.0, 1.0)]
    found = parse_srt(to_srt(Transcript("", tuple(words), 40.0)))
    # Two lines have room for eight words each; the last word of the first cue ends where the second one starts.
    assert found[0] == (0.0, 3.2, [" ".join(f"W{number:03d}" for number in part) for part in (range(8), range(8, 16))])
    assert found[1] == (3.2, 4.2, ["W016 W017 W018 W019"])
    # A short cue stays for a second.
    assert found[2] == (6.0, 7.0, ["LATER"]) and found[3] == (20.0, 20.2, ["ALONE"])
    assert found[4] == (20.2, 31.0, ["LONG"])
    # Lines are of about equal length.
    (cue,) = parse_srt(
        to_srt(Transcript("", tuple(Word("A" * 9, number, number + 1, 1.0) for number in range(5)), 5.0))
    )
    assert [len(line) for line in cue[2]] == [29, 19]


def test_without_words_there_are_no_cues() -> None:
    assert to_srt(Transcript("", (), 5.0)) == ""
    assert to_vtt(Transcript("", (), 5.0)) == "WEBVTT\n"
