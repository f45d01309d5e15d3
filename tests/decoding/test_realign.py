"""Realignment of made-up speech whose boundaries are known."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from slimasr.data.timelines.timeline import Timeline, from_spans, units_of, without_times
from slimasr.decoding.alignment.frame_classifier import ClassifierOptions, Frames, train_classifier
from slimasr.decoding.alignment.realign import Inventory, Utterance, judge, realign
from slimasr.errors import UserError

OPTIONS = ClassifierOptions(offsets=(0,), hidden_dim=32, epochs=4, share=1.0, batch_frames=64)
SOUNDS = {letter: torch.randn(8, generator=torch.Generator().manual_seed(n)) * 2 for n, letter in enumerate("ABCDE")}


def speech(seed: int) -> tuple[Utterance, Timeline]:
    """Letters as constant sounds in noise, with silences; evenly spread times, and the true ones."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    # No letter twice in a row: nothing would tell where the first one ends.
    text = "".join(rng.sample("ABCDE", k=rng.randint(2, 5)))
    text = f"{text[:2]} {text[2:]}"
    frames: list[str] = [" "] * rng.randint(2, 12)
    starts, ends = [], []
    for unit in units_of(text):
        length = 0 if unit == "▁" else rng.randint(4, 12)
        frames += [" "] * (rng.randint(0, 8) if unit == "▁" else 0)
        starts.append(len(frames))
        frames += [unit] * length
        ends.append(len(frames))
    frames += [" "] * rng.randint(2, 12)
    x = torch.stack([SOUNDS.get(letter, torch.zeros(8)) for letter in frames])
    x = x + 0.3 * torch.randn(x.shape, generator=generator)
    count = len(units_of(text))
    spread = from_spans(text, [count], [(0, len(frames))], len(frames))
    truth = Timeline(units_of(text), np.asarray(starts), np.asarray(ends), len(frames))
    return Utterance(x, spread, spread), truth


def test_boundaries_and_silences_are_found() -> None:
    train = [speech(seed) for seed in range(60)]
    dev = [speech(seed) for seed in range(100, 120)]
    *figures, (last, aligner) = realign([item for item, _ in train], [item for item, _ in dev], 4, OPTIONS)
    first = figures[0][0]
    assert first.silence == pytest.approx(_share_of_boundaries(dev), abs=1e-9)
    assert last.cross_entropy < 0.3 * last.entropy < first.cross_entropy
    assert last.accuracy > 0.9 > first.accuracy
    found = aligner.realigned([item for item, _ in dev])
    errors = []
    for item, (_, truth) in zip(found, dev, strict=True):
        spoken = [index for index, unit in enumerate(truth.units) if unit != "▁"]
        errors += np.abs(item.timeline.starts - truth.starts)[spoken].tolist()
        errors += np.abs(item.timeline.ends - truth.ends)[spoken].tolist()
        # A word boundary has no sound and is the moment when its word begins.
        for index in set(range(len(truth.units))) - set(spoken):
            assert item.timeline.starts[index] == item.timeline.ends[index] == item.timeline.starts[index + 1]
    assert np.mean(np.asarray(errors) <= 1) > 0.9
    silent = 1 - sum((t.ends - t.starts).sum() for _, t in dev) / sum(t.frames for _, t in dev)
    assert last.silence == pytest.approx(silent, abs=0.03)


def _share_of_boundaries(dev: list[tuple[Utterance, Timeline]]) -> float:
    """Share of the frames of evenly spread times that belong to word boundaries."""
    timelines = [item.timeline for item, _ in dev]
    silent = sum(
        int(end - start)
        for item in timelines
        for unit, start, end in zip(item.units, item.starts, item.ends, strict=True)
        if unit == "▁"
    )
    return silent / sum(item.frames for item in timelines)


def test_the_same_again() -> None:
    items = [speech(seed)[0] for seed in range(12)]
    runs = [[str(figures) for figures, _ in realign(items, items[:3], 1, OPTIONS)] for _ in range(2)]
    assert runs[0] == runs[1]


def test_utterances_without_a_path_or_with_unknown_units_keep_their_times() -> None:
    items = [speech(seed)[0] for seed in range(12)]
    (_, aligner) = list(realign(items, items, 0, OPTIONS))[-1]
    too_short = from_spans("ABCDE", [6], [(0, 2)], 2)
    unknown = from_spans("AXE", [4], [(0, 5)], len(items[0].x))
    silent = without_times("", len(items[0].x))
    for x, timeline in ((items[0].x[:2], too_short), (items[0].x, unknown), (items[0].x, silent)):
        item = Utterance(x, timeline, timeline)
        assert aligner.realigned([item])[0].timeline is timeline
        assert aligner.realigned([items[1], item])[1].timeline is item.timeline


def test_nothing_to_learn_from() -> None:
    x = torch.zeros(9, 8)
    train, dev = (from_spans(text, [2], [(0, 9)], 9) for text in "AB")
    for items in ([], [Utterance(x, dev, dev)]):
        with pytest.raises(UserError, match="--realign: needs training and dev utterances with an alignment"):
            list(realign([Utterance(x, train, train)], items, 1, OPTIONS))


def test_figures_by_hand() -> None:
    """Entropy, accuracy, silence and length of a unit, counted in plain Python; the cross-entropy by torch."""
    items = [speech(seed)[0] for seed in range(8)]
    frames = Frames.of([item.x for item in items], OPTIONS.offsets)
    inventory = Inventory.of(item.timeline for item in items)
    targets = torch.cat([inventory.targets(item.timeline) for item in items])
    classifier = train_classifier(frames, targets, inventory.num_classes, OPTIONS, 0)
    figures = judge(classifier, items, frames, inventory)
    labels = []
    for item in items:
        for t in range(item.timeline.frames):
            units = zip(item.timeline.units, item.timeline.starts, item.timeline.ends, strict=True)
            labels += [next((unit for unit, start, end in units if start <= t < end), "▁")]
    shares = [labels.count(unit) / len(labels) for unit in set(labels)]
    assert figures.entropy == pytest.approx(-sum(share * np.log(share) for share in shares))
    assert figures.silence == pytest.approx(labels.count("▁") / len(labels))
    spoken = sum(unit != "▁" for item in items for unit in item.timeline.units)
    assert figures.unit_seconds == pytest.approx(0.01 * (len(labels) - labels.count("▁")) / spoken)
    logits = classifier(frames, torch.arange(len(targets)))
    assert figures.cross_entropy == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, targets).detach()), rel=1e-5
    )
    assert figures.accuracy == pytest.approx(float((logits.argmax(1) == targets).float().mean()))


def test_windows_see_the_edges_repeated() -> None:
    items = [torch.arange(3.0).unsqueeze(1), torch.arange(10.0, 12.0).unsqueeze(1)]
    frames = Frames.of(items, (-2, 0, 1))
    windows = frames.windows(torch.arange(5), torch.tensor([-2, 0, 1]))
    assert windows.tolist() == [[0, 0, 1], [0, 1, 2], [0, 2, 2], [10, 10, 11], [10, 11, 11]]


def test_units_stay_near_the_alignment_of_the_source() -> None:
    """Two sounds of the same letter, far from each other: the source says which one the letter is."""
    items = [speech(seed)[0] for seed in range(60)]
    *_, (_, aligner) = realign(items, items[:20], 4, OPTIONS)
    x = 0.3 * torch.randn(200, 8, generator=torch.Generator().manual_seed(5))
    x[20:30] += SOUNDS["A"]
    x[150:154] += SOUNDS["A"]
    for near in (24, 152):
        source = from_spans("A", [2], [(near, near + 2)], 200)
        (found,) = aligner.realigned([Utterance(x, source, source)])
        start, end = int(found.timeline.starts[1]), int(found.timeline.ends[1])
        assert (start, end) == ((20, 30) if near == 24 else (150, 154))
