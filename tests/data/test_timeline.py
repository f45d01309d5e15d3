"""Ends and frame targets from times, against loops over frames with exact fractions."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from slimasr.config.model import ConvFrontendConfig, FrontendConfig, StackFrontendConfig, VggFrontendConfig
from slimasr.data.timelines.timeline import (
    Timeline,
    from_spans,
    spans_of_emissions,
    spans_of_runs,
    units_of,
    without_times,
)

SPEEDS = (Fraction(9, 10), Fraction(1), Fraction(11, 10), Fraction(3, 4))
FRONTENDS: dict[str, FrontendConfig] = {
    "conv": ConvFrontendConfig(),
    "stack1": StackFrontendConfig(factor=1),
    "stack3": StackFrontendConfig(factor=3),
    "stack4": StackFrontendConfig(factor=4),
    "vgg": VggFrontendConfig(),
}


def nearest(frame: int, emissions: list[int], tokens: list[int]) -> int:
    """The token emitted nearest to a frame; of equally near ones the earliest on a later frame, else the last."""
    distances = [abs(frame - emission) for emission in emissions]
    near = [i for i, distance in enumerate(distances) if distance == min(distances)]
    # Tokens of one frame share it: what comes before belongs to the first of them, what comes after to the last.
    first = near[0]
    return tokens[first] if emissions[first] >= frame else tokens[[i for i in near if emissions[i] < frame][-1]]


@pytest.mark.parametrize("kind", FRONTENDS)
def test_targets_of_emissions_are_the_nearest_tokens(kind: str) -> None:
    """Baseline A2 of paper 2 keeps its targets: every frame belongs to the token that is emitted nearest to it."""
    rng, frontend = random.Random(0), FRONTENDS[kind]
    for _ in range(60):
        frames = rng.randint(frontend.min_frames, 70)
        length = frontend.output_frames(frames)
        emissions = sorted(rng.choices(range(length), k=rng.randint(1, 6)))
        counts = [rng.randint(1, 4) for _ in emissions]
        tokens = [rng.randint(1, 9) for _ in emissions]
        text = "".join(rng.choices("ABC", k=sum(counts) - 1))
        if not text:
            continue
        timeline = from_spans(text, counts, spans_of_emissions(emissions, frontend.factor, frames), frames)
        found = timeline.token_targets(tokens, counts, frontend.factor, length)
        assert found.tolist() == [nearest(t, emissions, tokens) for t in range(length)]


def made_up(rng: random.Random) -> tuple[Timeline, list[int]]:
    """A timeline with silences and units without frames, and the number of units of each token."""
    counts = [rng.randint(1, 4) for _ in range(rng.randint(1, 5))]
    bounds, position = [], rng.randint(0, 9)
    for _ in range(sum(counts)):
        length = rng.choice((0, 0, 1, 3, 7))
        bounds.append((position, position + length))
        position += length + rng.choice((0, 0, 0, 2, 11))
    starts, ends = (np.asarray(side, dtype=np.int64) for side in zip(*bounds, strict=True))
    return Timeline(tuple("x" * sum(counts)), starts, ends, position + rng.randint(0, 9)), counts


@pytest.mark.parametrize("speed", SPEEDS)
def test_targets_and_ends_at_every_speed(speed: Fraction) -> None:
    rng = random.Random(1)
    for _ in range(40):
        timeline, counts = made_up(rng)
        factor, tokens = rng.randint(1, 6), [rng.randint(1, 9) for _ in counts]
        num_frames = int(timeline.frames / speed) // factor
        owners = [token for token, count in zip(tokens, counts, strict=True) for _ in range(count)]
        expected = []
        for t in range(num_frames):
            # Times are divided by the speed, which moves every unit.
            moment = min(Fraction(factor * t + factor // 2), (timeline.frames - 1) / speed)
            spans = zip(timeline.starts.tolist(), timeline.ends.tolist(), strict=True)
            spoken = [unit for unit, (start, end) in enumerate(spans) if start / speed <= moment < end / speed]
            expected.append(owners[spoken[0]] if spoken else 0)
            assert len(spoken) < 2
        assert timeline.token_targets(tokens, counts, factor, num_frames, float(speed)).tolist() == expected
        ends = timeline.token_ends(counts, factor, num_frames, float(speed)).tolist()
        for token in range(len(counts)):
            end = int(timeline.ends[sum(counts[: token + 1]) - 1]) / speed
            last = max((p for p in range(int(end) + 1) if p < end), default=0)
            assert ends[token] == min(last // factor, max(num_frames - 1, 0))


def test_spans_are_shared_out_evenly_and_end_with_the_audio() -> None:
    timeline = from_spans("AB CDE", [3, 4], [(2, 9), (11, 31)], 28)
    assert timeline.units == ("▁", "A", "B", "▁", "C", "D", "E")
    assert timeline.starts.tolist() == [2, 4, 6, 11, 16, 21, 26]
    assert timeline.ends.tolist() == [4, 6, 9, 16, 21, 26, 28]
    assert list(timeline.words()) == [("AB", 4, 9), ("CDE", 16, 28)]


def test_runs_of_a_path() -> None:
    path = [-1, 0, 0, -1, 1, 2, 2, 2, -1, -1]
    assert spans_of_runs(path, 3, 4, 100) == [(4, 12), (16, 20), (20, 32)]
    assert spans_of_runs(path, 3, 4, 30)[2] == (20, 30)
    rng = random.Random(2)
    for _ in range(30):
        bounds = sorted(rng.sample(range(30), 8))
        spans = [(first, second) for first, second in pairwise(bounds)][::2]
        frames = [next((n for n, (start, end) in enumerate(spans) if start <= t < end), -1) for t in range(30)]
        assert spans_of_runs(frames, len(spans), 1, 30) == spans


def test_utterances_without_times_or_units() -> None:
    assert units_of("  A  BC ") == ("▁", "A", "▁", "B", "C")
    assert units_of(" ") == ()
    assert not without_times("A", 9).aligned
    assert spans_of_emissions([], 4, 9) == []
    # Shorter than what its features are padded to: the only encoder frame still has a target.
    assert from_spans("A", [2], spans_of_emissions([0], 4, 2), 2).token_targets([5], [2], 4, 1).tolist() == [5]
