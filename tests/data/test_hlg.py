"""The search graph finds what an enumeration of all words finds, at the same cost."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from slimasr.data.graphs.arpa import Ngram, read_arpa
from slimasr.data.graphs.hlg import build_hlg, ctc_topology, homophone_marks, word_table
from slimasr.data.graphs.lexicon import Lexicon
from slimasr.data.graphs.ngrams import train_arpa
from slimasr.errors import UserError

kaldifst = pytest.importorskip("kaldifst")

LABELS = ("x", "y", "z")
IDS = {label: number for number, label in enumerate(LABELS, start=3)}
Words = tuple[str, ...]


def random_lexicon(rng: random.Random) -> Lexicon:
    """Words with homophones, variants, and pronunciations that begin others."""
    words = "abcd"[: rng.randint(2, 4)]
    draw = lambda: tuple(rng.choice(LABELS) for _ in range(rng.randint(1, 3)))  # noqa: E731
    found = {word: tuple(dict.fromkeys(draw() for _ in range(rng.randint(1, 2)))) for word in words}
    return Lexicon(found)


def random_texts(rng: random.Random, words: Sequence[str]) -> list[str]:
    return [" ".join(rng.choice(words) for _ in range(rng.randint(1, 4))) for _ in range(12)]


def readings(lexicon: Lexicon, labels: tuple[str, ...]) -> Iterator[Words]:
    """All sequences of words with these labels."""
    if not labels:
        yield ()
    for word, pronunciation in lexicon.entries():
        if labels[: len(pronunciation)] == pronunciation:
            for rest in readings(lexicon, labels[len(pronunciation) :]):
                yield (word, *rest)


def cheapest(ngrams: dict[Words, Ngram], order: int, words: Words) -> float:
    """Cost of a sentence, where any history may be shortened at the cost of its back-off."""
    costs: dict[Words, float] = {("<s>",): 0.0}
    for word in (*words, "</s>"):
        following: dict[Words, float] = {}
        for history, cost in costs.items():
            while True:
                ngram = ngrams.get((*history, word))
                if ngram is not None:
                    state = ngram.words[-(order - 1) :]
                    following[state] = min(following.get(state, math.inf), cost - ngram.log10 * math.log(10.0))
                if not history:
                    break
                if history in ngrams:
                    cost -= ngrams[history].backoff * math.log(10.0)
                history = history[1:]
        costs = following
    return min(costs.values())


def best_path(graph: Any, symbols: Sequence[int]) -> tuple[list[int], float] | None:
    """Output symbols and cost of the cheapest path with these input symbols, None if there is none."""
    frames = kaldifst.make_linear_acceptor(list(symbols))
    kaldifst.arcsort(graph, sort_type="ilabel")
    path = kaldifst.shortest_path(kaldifst.compose(frames, graph))
    if path.num_states == 0:
        return None
    _, _, output, weight = kaldifst.get_linear_symbol_sequence(path)
    return list(output), weight.value


@pytest.mark.parametrize("seed", range(20))
def test_the_best_path_is_the_optimum_of_an_enumeration(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    lexicon = random_lexicon(rng)
    order = rng.randint(2, 3)
    train_arpa(random_texts(rng, lexicon.words[:-1]), order, lexicon.words, tmp_path / "lm.arpa")
    ngrams = {ngram.words: ngram for ngram in read_arpa(tmp_path / "lm.arpa")}
    table = word_table(lexicon.words)
    graph = build_hlg(lexicon, IDS, tmp_path / "lm.arpa", table)
    for _ in range(12):
        # Frames of a real utterance of some words, and of random labels, which may have no words.
        spoken = [rng.choice(lexicon.pronunciations[rng.choice(lexicon.words)]) for _ in range(rng.randint(0, 3))]
        labels = [label for pronunciation in spoken for label in pronunciation]
        if rng.random() < 0.3:
            labels += rng.choices(LABELS, k=2)
        frames = []
        for label in labels:
            frames += ["", *[label] * rng.randint(1, 2)] if frames[-1:] == [label] or rng.random() < 0.3 else [label]
        frames += [""] * rng.randint(0, 1)
        heard = tuple(label for label, _ in groupby(frames) if label)
        costs = {words: cheapest(ngrams, order, words) for words in readings(lexicon, heard)}
        found = best_path(graph, [1 if not label else IDS[label] + 1 for label in frames])
        if not costs:
            assert found is None
            continue
        assert found is not None
        words = tuple(table[number] for number in found[0])
        assert found[1] == pytest.approx(min(costs.values()), abs=1e-3)
        assert costs[words] == pytest.approx(min(costs.values()), abs=1e-3)


def test_ctc_removes_repetitions_then_blanks() -> None:
    topology = ctc_topology([4, 5])
    for frames in ([1], [4], [4, 4], [4, 1, 4], [1, 4, 5, 5, 1, 5], [5, 1, 1, 4, 4, 1]):
        expected = [symbol for symbol, _ in groupby(frames) if symbol != 1]
        assert best_path(topology, frames) == (expected, 0.0)
    assert best_path(topology, [4, 6]) is None


def test_symbols_of_graphs_are_no_words() -> None:
    assert word_table("ab") == ("<eps>", "a", "b", "#0", "<s>", "</s>")
    with pytest.raises(UserError, match=r"#0 stands for something else in search graphs"):
        word_table(["a", "#0"])


def test_marks_make_pronunciations_prefix_free() -> None:
    rng = random.Random(1)
    for _ in range(50):
        items = [tuple(rng.choices("xy", k=rng.randint(1, 3))) for _ in range(8)]
        marked = [(*item, mark) for item, mark in zip(items, homophone_marks(items), strict=True)]
        # An unmarked pronunciation ends with 0, which is no symbol.
        plain = [item[:-1] if item[-1] == 0 else item for item in marked]
        assert len(set(plain)) == len(plain)
        assert not any(a != b and b[: len(a)] == a for a in plain for b in plain)
    assert homophone_marks([("x",), ("y", "x")]) == [0, 0]
