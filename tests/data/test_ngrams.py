"""n-gram models: probabilities sum to 1, perplexity as its definition and as kaldingram, pruning, damaged files."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from slimasr.data.corpora import CORPORA
from slimasr.data.graphs.arpa import BackoffModel, count_ngrams, perplexity, read_arpa, restrict_arpa, vocabulary
from slimasr.data.graphs.lm_texts import every_nth
from slimasr.errors import UserError

pytest.importorskip("kaldingram")
from kaldingram.ppl import compute_ppl
from kaldingram.prune import ArpaParser

from slimasr.data.graphs.ngrams import prune_arpa, train_arpa

TEXTS = ["a b a c", "b a", "c c b", "a b a", "c a d", "", "b"] * 2 + ["a b x", "c a b d"]
WORDS = ("a", "b", "c", "d", "new", "newer")


def trained(folder: Path, order: int = 3) -> Path:
    assert train_arpa(TEXTS, order, WORDS, folder / "lm.arpa") == {"a", "b", "c", "d"}
    return folder / "lm.arpa"


@pytest.mark.parametrize("order", [2, 3, 4])
def test_probabilities_after_every_history_sum_to_1(tmp_path: Path, order: int) -> None:
    """Of all words, the end of the sentence, and the unknown word; unseen words of the lexicon have their part."""
    path = trained(tmp_path, order)
    words = [*WORDS, "<unk>"]
    longer = itertools.chain(*(itertools.product(words, repeat=length) for length in range(order)))
    histories = [(*start, *history) for history in longer for start in ((), ("<s>",))]
    model = BackoffModel.of_sentences(path, [(*h, word) for h in histories for word in (*words, "</s>")])
    assert model.order == order
    for history in histories:
        kept = history[max(0, len(history) + 1 - order) :]
        total = sum(10 ** model.log10((*kept, word)) for word in (*words, "</s>"))
        assert total == pytest.approx(1.0, abs=1e-5), history
    new, rarest = (10 ** model.log10((word,)) for word in ("new", "d"))
    assert 0 < new <= rarest and model.log10(("new",)) == model.log10(("newer",))


def test_real_an4_has_the_perplexities_of_kaldingram(corpus: Callable[[str], Path], tmp_path: Path) -> None:
    listed = CORPORA["an4"].list_utterances(corpus("an4"), ("train", "dev", "test"), {})
    texts = {name: [item.text for item in found] for name, found in listed.items()}
    path = tmp_path / "lm.arpa"
    words = {word for text in texts["train"] for word in text.split()}
    known = train_arpa(texts["train"], 3, words, path)
    with contextlib.redirect_stderr(io.StringIO()):
        (model,) = ArpaParser().loadf(path)
        expected = {name: compute_ppl(model, texts[name])["ppl"] for name in ("dev", "test")}
    found = {name: perplexity(path, texts[name], known) for name in ("dev", "test")}
    for name in found:
        assert found[name].value == pytest.approx(expected[name], rel=1e-6)
    assert [round(item.value or 0, 1) for item in found.values()] == [16.2, 17.3]
    assert [dict(item.unknown) for item in found.values()] == [{"AREA": 1, "CODE": 1}, {"NOVEMBER": 1, "THIRTEEN": 1}]
    assert [(item.sentences, item.words) for item in found.values()] == [(103, 572), (128, 773)]


def test_perplexity_is_the_mean_probability_of_words_and_ends(tmp_path: Path) -> None:
    path = trained(tmp_path)
    model = BackoffModel.of_sentences(path, [("<s>", "c", "a", "new", "</s>")])
    # log10 is looked up with at most two words of history.
    parts = [("<s>", "c"), ("<s>", "c", "a"), ("c", "a", "new"), ("a", "new", "</s>")]
    mean = sum(map(model.log10, parts)) / len(parts)
    found = perplexity(path, ["c a new", "a stranger"], WORDS)
    assert found.value == pytest.approx(10**-mean) and dict(found.unknown) == {"stranger": 1}
    assert perplexity(path, ["stranger"], WORDS).value is None


def test_a_model_is_pruned_to_its_size_and_still_sums_to_1(tmp_path: Path) -> None:
    path = trained(tmp_path)
    before = sum(count_ngrams(path))
    prune_arpa(path, before - 10)
    assert before - 15 <= sum(count_ngrams(path)) == sum(1 for _ in read_arpa(path)) <= before - 10
    words = [*WORDS, "<unk>", "</s>"]
    histories = list(itertools.product(WORDS, repeat=2))
    model = BackoffModel.of_sentences(path, [(*history, word) for history in histories for word in words])
    for history in histories:
        assert sum(10 ** model.log10((*history, word)) for word in words) == pytest.approx(1.0, abs=1e-4)
    with pytest.raises(UserError, match=r"language_model\.max_ngrams 3: is below the \d+ words of the model"):
        prune_arpa(path, 3)


def test_a_model_is_restricted_to_words_and_may_be_compressed(tmp_path: Path) -> None:
    path = trained(tmp_path)
    packed = tmp_path / "lm.arpa.gz"
    # Other programs separate fields by spaces, and put comments before the data.
    packed.write_bytes(gzip.compress(b"comment\n" + path.read_bytes().replace(b"\t", b" ")))
    counts = restrict_arpa(packed, ["a", "b"], tmp_path / "small.arpa")
    kept = list(read_arpa(tmp_path / "small.arpa"))
    expected = [item for item in read_arpa(path) if set(item.words) <= {"a", "b", "<s>", "</s>"}]
    assert [item.words for item in kept] == [item.words for item in expected]
    for found, original in zip(kept, expected, strict=True):
        assert (found.log10, found.backoff) == pytest.approx((original.log10, original.backoff), abs=1e-5)
    assert counts == count_ngrams(tmp_path / "small.arpa")
    assert vocabulary(packed) == set(WORDS)


def test_a_text_without_repetitions_has_no_impossible_ngrams(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    train_arpa(["a b c", "d e f"], 3, "abcdef", path)
    assert math.isfinite(perplexity(path, ["a b c"], "abcdef").value or math.inf)
    assert (perplexity(path, ["a b c"], "abcdef").value or 0) < (perplexity(path, ["c b a"], "abcdef").value or 0)
    with pytest.raises(UserError, match="no text"):
        train_arpa([" "], 3, "abc", path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "cut short|is no 2-gram"),
        (lambda text: text.replace("\\end\\\n", ""), r"is cut short, it has no \\end"),
        (lambda text: text[: text.index("\\3-grams")], "is cut short, it has no 3-grams"),
        (lambda text: text[: text.index("\\1-grams")], "cut short before its 1-grams"),
        (lambda text: re.sub(r"-[\d.]+\ta b\t", "0.5\ta b\t", text), "must be a number of at most 0"),
        (lambda text: re.sub(r"-[\d.]+\ta b\t", "nan\ta b\t", text), "must be a number of at most 0"),
        (lambda text: re.sub(r"\ta b\t.*", "\ta b\tnan", text), "that of a back-off a number"),
        (lambda text: text.replace("ngram 2=", "ngram 2=9"), r"it has \d+ of 9\d+ 2-grams"),
        (lambda text: text.replace("\\2-grams:\n", "\\2-grams:\nx y z\n"), r":\d+: is no 2-gram with its probability"),
        (lambda text: text.replace("<s>", "<S>"), "the model has no <s> or no </s>"),
        (lambda text: "hello\n", "is no language model in ARPA format"),
        (lambda text: text.replace("\\3-grams", "\\4-grams"), r":\d+: expected \\3-grams:"),
    ],
)
def test_damaged_models_are_named(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    path = trained(tmp_path)
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=message) as caught:
        restrict_arpa(path, WORDS, tmp_path / "out.arpa")
    assert str(path) in str(caught.value) and not (tmp_path / "out.arpa").exists()


def test_of_long_texts_lines_at_equal_distances_are_used(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one\ntwo words\n<s> three </s>\n")
    with gzip.open(tmp_path / "b.gz", "wt") as file:
        file.write("four\nfive\nsix\n")
    files = [tmp_path / "a", tmp_path / "b.gz"]
    assert list(every_nth(files, 7)) == ["one", "two words", "three", "four", "five", "six"]
    assert list(every_nth(files, 6)) == ["one", "three", "five"]
    assert list(every_nth(files, 3)) == ["one", "four"]
    assert list(every_nth(files, 0)) == []
    (tmp_path / "a").write_bytes(b"\xff\n")
    with pytest.raises(UserError, match=r"language_model\.texts: .*a: cannot be read .* needs to be UTF-8 text"):
        list(every_nth(files, 3))
