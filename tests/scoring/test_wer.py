"""WER against a dynamic program of the test's own, counts against kaldialign, intervals against numpy."""

from __future__ import annotations

import random
import subprocess
import sys

import kaldialign
import numpy as np
import pytest

from slimasr.errors import UserError
from slimasr.scoring import EditCounts, Utterance, align, compare, score, word_errors


def make_system(seed: int, error_rate: float, num_utterances: int = 60) -> list[Utterance]:
    """The same references for every seed, hypotheses with random edits."""
    said, edits = random.Random(0), random.Random(seed)
    utterances = []
    for i in range(num_utterances):
        ref = [said.choice("abcdefgh") for _ in range(said.randint(1, 12))]
        hyp: list[str] = []
        for word in ref:
            draw = edits.random()
            if draw < error_rate:
                hyp += edits.choice([[], ["x"], [word, edits.choice("abc")]])
            else:
                hyp.append(word)
        utterances.append(Utterance(f"utt{i:02d}", tuple(ref), tuple(hyp)))
    return utterances


def levenshtein(ref: tuple[str, ...], hyp: tuple[str, ...]) -> int:
    table = np.zeros((len(ref) + 1, len(hyp) + 1), dtype=int)
    table[:, 0], table[0] = np.arange(len(ref) + 1), np.arange(len(hyp) + 1)
    for i, r in enumerate(ref, start=1):
        for j, h in enumerate(hyp, start=1):
            table[i, j] = min(table[i - 1, j - 1] + (r != h), table[i - 1, j] + 1, table[i, j - 1] + 1)
    return int(table[-1, -1])


def test_errors_equal_an_independent_edit_distance() -> None:
    utterances = make_system(1, 0.4)
    result = score(utterances, replications=0)
    errors = sum(levenshtein(u.ref, u.hyp) for u in utterances)
    words = sum(len(u.ref) for u in utterances)
    assert result.counts.errors == errors > 0
    assert result.wer == pytest.approx(100 * errors / words)
    assert result.ser == pytest.approx(100 * np.mean([u.ref != u.hyp for u in utterances]))


def test_word_errors_are_the_edit_distance() -> None:
    for utterance in make_system(1, 0.4):
        assert word_errors(utterance) == levenshtein(utterance.ref, utterance.hyp)
    assert word_errors(Utterance("u", ("one", "two", "three"), ("one", "too", "three", "four"))) == 2
    assert word_errors(Utterance("u", ("one",), ())) == 1
    assert word_errors(Utterance("u", (), ("one",))) == 1


def test_counts_equal_kaldialign() -> None:
    utterances = make_system(2, 0.5)
    counts = score(utterances, replications=0).counts
    other = kaldialign.batch_error_rate([u.ref for u in utterances], [u.hyp for u in utterances])
    assert counts == EditCounts(
        other["ref_len"] - other["sub"] - other["del"], other["sub"], other["ins"], other["del"]
    )


def test_alignment_gives_both_sides_back() -> None:
    for u in make_system(3, 0.5):
        pairs = align(u).pairs
        assert tuple(ref for ref, _ in pairs if ref is not None) == u.ref
        assert tuple(hyp for _, hyp in pairs if hyp is not None) == u.hyp
        assert (None, None) not in pairs


def test_words_that_look_like_markers_are_words() -> None:
    pairs = align(Utterance("u", ("<eps>", "*", "b"), ("*", "b"))).pairs
    assert pairs == (("<eps>", None), ("*", "*"), ("b", "b"))


def test_interval_agrees_with_numpy_bootstrap() -> None:
    utterances = make_system(4, 0.3)
    errors = np.array([levenshtein(u.ref, u.hyp) for u in utterances])
    words = np.array([len(u.ref) for u in utterances])
    drawn = np.random.default_rng(0).integers(len(words), size=(10_000, len(words)))
    rates = 100 * errors[drawn].sum(1) / words[drawn].sum(1)
    interval = score(utterances).ci95
    assert interval is not None
    # 10 000 resampled sets give the standard deviation to about 1 %; the interval's ends move with it.
    assert np.mean(interval) == pytest.approx(rates.mean(), abs=0.1)
    assert (interval[1] - interval[0]) / 2 == pytest.approx(1.96 * rates.std(), rel=0.05)
    assert interval[0] < score(utterances, replications=0).wer < interval[1]


def test_intervals_do_not_depend_on_the_order_of_utterances() -> None:
    first, second = make_system(5, 0.30), make_system(6, 0.25)
    shuffled = random.Random(1).sample(first, len(first))
    assert score(shuffled).ci95 == score(first).ci95
    assert compare(shuffled, second) == compare(first, second)


def test_interval_of_perfect_recognition_is_a_point() -> None:
    assert score(make_system(1, 0.0)).ci95 == (0.0, 0.0)


def test_paired_comparison_agrees_with_numpy() -> None:
    first, second = make_system(5, 0.30), make_system(6, 0.25)
    result = compare(first, second)
    words = np.array([len(u.ref) for u in first])
    e1, e2 = (np.array([levenshtein(u.ref, u.hyp) for u in system]) for system in (first, second))
    assert result.difference == pytest.approx(100 * (e2.sum() - e1.sum()) / words.sum())
    drawn = np.random.default_rng(1).integers(len(words), size=(10_000, len(words)))
    differences = 100 * (e2 - e1)[drawn].sum(1) / words[drawn].sum(1)
    assert result.ci95 == pytest.approx(np.percentile(differences, [2.5, 97.5]), abs=0.4)
    assert result.probability == pytest.approx((differences < 0).mean(), abs=0.03)
    swapped = compare(second, first)
    assert swapped.difference == pytest.approx(-result.difference)
    assert result.ci95[0] < result.difference < result.ci95[1]


def test_comparison_uses_that_errors_fall_on_the_same_utterances() -> None:
    first = make_system(7, 0.3)
    better = next(u for u in first if align(u).counts().errors == 1)
    second = [Utterance(u.id, u.ref, u.ref if u is better else u.hyp) for u in first]
    paired = compare(first, second)
    single = score(first).ci95
    assert single is not None
    assert paired.ci95[1] - paired.ci95[0] < (single[1] - single[0]) / 2
    # The one better utterance is drawn at least once in 1 - (1 - 1/60)^60 of the sets.
    assert paired.probability == pytest.approx(1 - (59 / 60) ** 60, abs=0.02)


@pytest.mark.parametrize(
    ("second", "match"),
    [
        ([Utterance("b", ("x",), ())], "utterance a: the two systems need the same"),
        ([Utterance("a", ("y",), ())], "utterance a: the two systems need the same"),
        ([Utterance("a", ("x",), ()), Utterance("b", ("x",), ())], "the second one has more"),
    ],
)
def test_comparison_needs_the_same_utterances(second: list[Utterance], match: str) -> None:
    with pytest.raises(UserError, match=match):
        compare([Utterance("a", ("x",), ("x",))], second)


def test_empty_reference_counts_insertions() -> None:
    result = score([Utterance("a", (), ("x", "y")), Utterance("b", ("x",), ("x",))])
    assert result.counts == EditCounts(correct=1, insertions=2)
    assert (result.wer, result.ser) == (200.0, 50.0)
    # Half of the resampled sets draw no reference word in one of four cases: there is no interval to give.
    assert result.ci95 is None


@pytest.mark.parametrize("utterances", [[], [Utterance("a", (), ("x",))]])
def test_rate_without_reference_words_is_an_error(utterances: list[Utterance]) -> None:
    with pytest.raises(UserError, match="the word error rate is undefined"):
        score(utterances)


def test_pooled_sets_add_up() -> None:
    dev, test = make_system(1, 0.3, 20), make_system(2, 0.5, 30)
    pooled = score([*dev, *test], replications=0)
    parts = [score(part, replications=0).counts for part in (dev, test)]
    assert pooled.counts == parts[0] + parts[1]
    assert pooled.sentences == 50


def test_scoring_needs_no_torch() -> None:
    code = "import sys, slimasr.scoring, slimasr.scoring.kaldi; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
