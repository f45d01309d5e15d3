"""Where long recordings are cut, against made-up speech whose pauses are known, and joined utterances of AN4."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from slimasr.data.audio.file import open_audio
from slimasr.decoding.searches.label_search import Hypothesis
from slimasr.decoding.searches.timed import BestPath, Transcript, WordSpan, transcript_of
from slimasr.decoding.transcription.cutting import Excerpt, best_cut, cut_at_pauses, pauses

RATE = 16000


def speech(
    seconds: float, gaps: list[tuple[float, float]], level: float = 0.1, floor: float = 0.0005, seed: int = 0
) -> np.ndarray:
    """Noise at the level of speech, with gaps from one time to another at the level of a room."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE)) / RATE
    # As syllables do, it rises and falls four times a second.
    envelope = level * (0.4 + 0.6 * np.abs(np.sin(4 * np.pi * times)))
    for start, end in gaps:
        envelope[(times >= start) & (times < end)] = floor
    return (envelope * rng.normal(size=len(times))).astype(np.float32)


@pytest.mark.parametrize("level", [0.3, 0.01])
@pytest.mark.parametrize("ratio_db", [60, 30, 18])
def test_pauses_of_any_level_and_noise(level: float, ratio_db: int) -> None:
    gaps = [(1.0, 1.6), (3.0, 3.2), (6.0, 7.0)]
    samples = speech(9.0, gaps, level, level * 10 ** (-ratio_db / 20))
    found = [(start / RATE, end / RATE) for start, end in pauses(samples, RATE)]
    long = [pause for pause in found if pause[1] - pause[0] >= 0.4]
    assert len(long) == 2
    for pause, gap in zip(long, (gaps[0], gaps[2]), strict=True):
        assert pause == pytest.approx(gap, abs=0.1)


def test_speech_without_pauses_and_silence_have_none() -> None:
    assert not pauses(0.1 * np.random.default_rng(0).normal(size=5 * RATE).astype(np.float32), RATE)
    assert not pauses(np.zeros(5 * RATE, np.float32), RATE)
    assert not pauses(np.zeros(5, np.float32), RATE)


def test_a_piece_ends_in_its_first_long_pause_or_at_its_quietest_place() -> None:
    # A pause at 0.3 s is too early for a piece of 6 s, and one of 0.2 s is too short.
    cut = best_cut(speech(6.0, [(0.1, 0.5), (1.0, 1.2), (3.0, 3.6), (5.0, 5.9)]), RATE)
    assert cut.in_long_pause and 3.0 < cut.place / RATE < 3.6
    cut = best_cut(speech(6.0, [(1.0, 1.2), (4.0, 4.2)]), RATE)
    assert not cut.in_long_pause and cut.place / RATE == pytest.approx(4.1, abs=0.02)


def in_blocks(samples: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    place = 0
    while place < len(samples):
        size = sizes[place % len(sizes)]
        yield samples[place : place + size]
        place += size


@pytest.mark.parametrize("gaps", [[], [(2.0, 2.6), (5.0, 5.6), (6.0, 6.2), (14.0, 14.7)]])
def test_pieces_follow_each_other_and_hear_what_is_around_them(gaps: list[tuple[float, float]]) -> None:
    samples = speech(17.0, gaps)
    found = list(cut_at_pauses([samples], RATE, 4.0))
    np.testing.assert_array_equal(np.concatenate([excerpt.piece for excerpt in found]), samples)
    assert max(len(excerpt.piece) for excerpt in found) <= 4.0 * RATE
    # Blocks of any length give the same pieces.
    for sizes in ([1000, 77_777, 5], [30_000], [400_000]):
        others = list(cut_at_pauses(in_blocks(samples, sizes), RATE, 4.0))
        assert [bounds(excerpt) for excerpt in others] == [bounds(excerpt) for excerpt in found]
    ends = np.cumsum([len(excerpt.piece) for excerpt in found])
    for end, excerpt, following in zip(ends, found, found[1:], strict=False):
        rests = any(start < end / RATE < stop for start, stop in gaps if stop - start >= 0.4)
        # On both sides of a cut, one hears as much of the other one.
        assert excerpt.after == following.before == (0 if rests else RATE)
        around = samples[end - following.before : end + excerpt.after]
        np.testing.assert_array_equal(excerpt.samples[len(excerpt.samples) - len(around) :], around)
        np.testing.assert_array_equal(following.samples[: len(around)], around)
    assert (found[0].before, found[-1].after) == (0, 0)


def bounds(excerpt: Excerpt) -> tuple[int, int, int]:
    return len(excerpt.samples), excerpt.before, excerpt.after


def test_a_word_at_a_cut_is_neither_lost_nor_doubled() -> None:
    """An ideal recogniser, which recognises parts of words too, against the words themselves."""
    rng = np.random.default_rng(3)
    starts = np.cumsum(rng.uniform(0.12, 0.5, size=200))
    words = [f"W{number}" for number in range(200)]
    samples = speech(float(starts[-1]) + 1.0, [])

    def recognise(excerpt: Excerpt, begin: float) -> BestPath:
        """Two tokens for every word that starts in the excerpt, the second one half-way to the next word."""
        spans, tokens, frames = [], [], []
        for number, start in enumerate(starts):
            first = round((start - begin) / 0.04)
            if first >= 0 and start < begin + len(excerpt.samples) / RATE:
                spans.append(WordSpan(words[number], len(tokens), len(tokens) + 2))
                tokens += [3, 4]
                frames += [first, first + 2]
        return BestPath(
            " ".join(span.word for span in spans),
            Hypothesis(tuple(tokens), tuple(frames)),
            (1.0,) * len(tokens),
            tuple(spans),
        )

    transcript, position = Transcript(), 0.0
    for excerpt in cut_at_pauses([samples], RATE, 5.0, 0.04):
        seconds = len(excerpt.piece) / RATE
        path = recognise(excerpt, position - excerpt.before / RATE)
        alone = not excerpt.before and not excerpt.after
        transcript += transcript_of(path, position, seconds, 0.04, None if alone else excerpt.before / RATE)
        position += seconds
    assert transcript.text.split() == words
    assert [word.word for word in transcript.words] == words
    assert transcript.seconds == pytest.approx(len(samples) / RATE)
    # Times are those of the whole recording, to a frame of the recogniser.
    assert [word.start for word in transcript.words] == pytest.approx(starts, abs=0.021)
    assert all(before.start <= before.end <= after.start for before, after in pairwise(transcript.words))


def test_joined_utterances_of_an4_are_cut_where_they_meet(corpus: Callable[[str], Path]) -> None:
    files = sorted(corpus("an4").rglob("an4test_clstk/*/*.flac"))[::9]
    assert len(files) >= 14
    parts = []
    for file in files:
        with open_audio(file) as audio:
            parts.append(audio.read(audio.num_samples or 0).mean(axis=0))
        assert len(parts[-1]) > RATE // 2
    joined = np.concatenate(parts)
    joints = np.cumsum([len(part) for part in parts])[:-1] / RATE
    found = list(cut_at_pauses([joined], RATE, 6.0))
    cuts = np.cumsum([len(excerpt.piece) for excerpt in found])[:-1] / RATE
    near = np.abs(joints[:, None] - cuts[None]).min(axis=1) < 0.4
    assert near.mean() >= 0.8, (joints, cuts)
