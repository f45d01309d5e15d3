"""Modified beam search against enumeration of all alignments and against a dictionary of hypotheses."""

from __future__ import annotations

import functools
import itertools
import math
from collections import defaultdict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from slimasr.decoding.searches.beam import modified_beam_search
from slimasr.decoding.searches.greedy import greedy_search
from slimasr.decoding.searches.label_search import UNK_ID
from slimasr.models.transducer import Transducer

Scores = dict[tuple[int, ...], float]
SILENT = (0, UNK_ID)


@torch.no_grad()
def log_probs(model: Transducer, frame: Tensor, history: tuple[int, ...]) -> list[float]:
    """Over the vocabulary, with the predictor reading the whole history from its start."""
    lm = model.predictor(torch.tensor([history], dtype=torch.int64))[0, -1]
    am = model.project_encoder(frame)
    return model.joiner(am, model.joiner.project_predictor(lm)).double().log_softmax(-1).tolist()


def best(scores: Scores, context_size: int) -> tuple[int, ...]:
    return max(scores, key=lambda tokens: scores[tokens] / (len(tokens) + context_size))


def enumerate_alignments(model: Transducer, frames: Tensor) -> tuple[Scores, Scores]:
    """Log-probability of every label sequence: over all its alignments, and of its best one alone."""
    summed: Scores = defaultdict(lambda: -math.inf)
    single: Scores = defaultdict(lambda: -math.inf)
    look_up = functools.cache(lambda t, tokens: log_probs(model, frames[t], tokens))
    for path in itertools.product(range(model.vocab_size), repeat=len(frames)):
        tokens: tuple[int, ...] = ()
        score = 0.0
        for t, symbol in enumerate(path):
            score += look_up(t, tokens)[symbol]
            tokens += () if symbol in SILENT else (symbol,)
        summed[tokens] = math.log(math.exp(summed[tokens]) + math.exp(score))
        single[tokens] = max(single[tokens], score)
    return summed, single


def dictionary_search(model: Transducer, frames: Tensor, beam: int, context_size: int) -> tuple[int, ...]:
    """The best ``beam`` candidates of every frame, then equal token sequences put together."""
    hyps: Scores = {(): 0.0}
    for frame in frames:
        candidates = [
            (score + extra, tokens if symbol in SILENT else (*tokens, symbol))
            for tokens, score in hyps.items()
            for symbol, extra in enumerate(log_probs(model, frame, tokens))
        ]
        hyps = defaultdict(lambda: -math.inf)
        for score, tokens in sorted(candidates, reverse=True)[:beam]:
            hyps[tokens] = math.log(math.exp(hyps[tokens]) + math.exp(score))
    return best(hyps, context_size)


@pytest.mark.parametrize(("predictor", "context_size"), [("stateless", 2), ("lstm", 1)])
def test_wide_beam_finds_the_most_probable_sequence(
    make_transducer: Callable[..., Transducer], predictor: str, context_size: int
) -> None:
    model = make_transducer(predictor, vocab_size=5, blank_bias=2.0)
    torch.manual_seed(1)
    lens = torch.tensor([4, 3, 4, 1] * 10)
    out = torch.linspace(0.1, 1.0, 40).view(40, 1, 1) * torch.randn(40, 4, 16)
    tables = [enumerate_alignments(model, out[i, : lens[i]]) for i in range(40)]
    expected = [list(best(summed, context_size)) for summed, _ in tables]
    # 4 frames: at most 1 + 3 + 9 + 27 hypotheses with 5 extensions each, so nothing is ever cut off.
    assert modified_beam_search(model, model.project_encoder(out), lens, beam=200) == expected
    # Summing over alignments matters here, and so does the beam.
    assert expected != [list(best(single, context_size)) for _, single in tables]
    assert expected != greedy_search(model, model.project_encoder(out), lens)


@pytest.mark.parametrize("beam", [2, 4])
@pytest.mark.parametrize(("predictor", "context_size"), [("stateless", 2), ("lstm", 1)])
def test_equals_dictionary_of_hypotheses(
    make_transducer: Callable[..., Transducer], predictor: str, context_size: int, beam: int
) -> None:
    model = make_transducer(predictor)
    torch.manual_seed(0)
    out, lens = torch.randn(5, 12, 16), torch.tensor([12, 3, 9, 12, 1])
    expected = [list(dictionary_search(model, out[i, : lens[i]], beam, context_size)) for i in range(5)]
    assert modified_beam_search(model, model.project_encoder(out), lens, beam) == expected
    assert expected != greedy_search(model, model.project_encoder(out), lens)


@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
def test_beam_of_one_is_greedy(make_transducer: Callable[..., Transducer], predictor: str) -> None:
    model = make_transducer(predictor)
    torch.manual_seed(2)
    out, lens = 2 * torch.randn(6, 25, 16), torch.tensor([25, 1, 13, 20, 7, 24])
    hyps = modified_beam_search(model, model.project_encoder(out), lens, beam=1)
    assert hyps == greedy_search(model, model.project_encoder(out), lens)
    assert sum(map(len, hyps)) > 10
