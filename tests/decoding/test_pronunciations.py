"""The best CTC path through any pronunciation of each word, against the enumeration of all paths."""

from __future__ import annotations

from itertools import groupby, product

import numpy as np
import pytest
import torch

from slimasr.data.batches.batch import Batch
from slimasr.data.graphs.lexicon import Lexicon
from slimasr.data.tokens.phonemes import PhonemeTokenizer
from slimasr.decoding.alignment.align import align_batches
from slimasr.decoding.alignment.pronunciations import Labels, align_pronunciations, pronounced_path
from slimasr.models.build import build_model
from tests.tiny import CTC_MODEL, randomize

pytest.importorskip("kaldi_decoder")

WORDS: tuple[list[list[Labels]], ...] = (
    [[(1, 2), (3,)], [(3, 1), (2,)]],
    # Equal labels within a word, and where two words meet: a blank must lie between.
    [[(1, 1)], [(1,), (2, 3)]],
    [[(2,)], [(2,)], [(2, 1)]],
)


def best_by_enumeration(scores: np.ndarray, words: list[list[Labels]]) -> tuple[float, set[tuple[int, ...]]]:
    """Return the score of the best paths of labels, and these paths."""
    sequences = {sum(choice, ()) for choice in product(*words)}
    found: dict[tuple[int, ...], float] = {}
    for path in product(range(scores.shape[1]), repeat=len(scores)):
        if tuple(label for label, _ in groupby(path) if label) in sequences:
            found[path] = float(sum(scores[frame, label] for frame, label in enumerate(path)))
    best = max(found.values(), default=-np.inf)
    return best, {path for path, score in found.items() if score > best - 1e-4}


@pytest.mark.parametrize("words", WORDS)
def test_the_best_path_is_that_of_enumeration(words: list[list[Labels]]) -> None:
    rng = np.random.default_rng(0)
    variants = set()
    for _ in range(20):
        scores = rng.normal(size=(6, 4), scale=2.0).astype(np.float32)
        found = pronounced_path(scores, words)
        assert found is not None
        chosen, places = found
        labels = sum(chosen, ())
        assert all(variant in of_word for variant, of_word in zip(chosen, words, strict=True))
        # Places count the labels, each of which has its frames.
        assert [place for place, _ in groupby(places) if place >= 0] == list(range(len(labels)))
        path = tuple(labels[place] if place >= 0 else 0 for place in places)
        assert path in best_by_enumeration(scores, words)[1]
        variants.add(tuple(chosen))
    assert len(variants) == np.prod([len(of_word) for of_word in words])


def test_too_few_frames() -> None:
    scores = np.zeros((2, 4), dtype=np.float32)
    # The shortest pronunciations need a blank between them: three frames.
    assert pronounced_path(scores, [[(2,)], [(2,)]]) is None
    assert pronounced_path(scores, [[(2,)], [(3,)]]) is not None
    assert pronounced_path(scores[:0], [[(2,)]]) is None
    assert pronounced_path(scores, []) is None


def test_with_one_pronunciation_it_is_the_best_ctc_path() -> None:
    """Times equal those of the alignment of tokens; a word without pronunciation and missing audio have none."""
    lexicon = Lexicon({"ab": (("x", "y#"),), "b": (("y#",),), "aba": (("x", "y", "x#"),)})
    tokenizer = PhonemeTokenizer.of(lexicon)
    texts = ("ab b aba", "b b", "ab c", "ab", "aba " * 40)
    model = randomize(build_model(CTC_MODEL, None, tokenizer.vocab_size, (1.0,)).eval())
    y = [tokenizer.encode(text) for text in texts]
    lens = torch.tensor([163, 90, 90, 90, 90])
    x = torch.randn(5, 163, model.config.num_mel_bins, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in y], batch_first=True)
    batch = Batch(x, lens, padded, torch.tensor([len(row) for row in y]), tuple("abcde"), texts, unheard=frozenset("d"))
    by_tokens = dict(align_batches(model, [batch], None, None, "ctc"))  # type: ignore[arg-type]
    by_words = dict(align_pronunciations(model, [batch], None, tokenizer))
    for name in "ab":
        found = by_words[name]
        assert found is not None and found.spans == by_tokens[name]
        assert found.counts == tokenizer.unit_counts(texts["abcde".index(name)])
    assert [by_words[name] for name in "cde"] == [None, None, None]
