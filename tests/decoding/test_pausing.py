"""Searches that pause: equal to loops without state for any cut, in any company, with a state that does not grow."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from slimasr.decoding.searches.beam import _FIRST_DIGEST, BeamSearch, _digest
from slimasr.decoding.searches.greedy import GreedySearch
from slimasr.decoding.searches.label_search import UNK_ID, Hypothesis, LabelSearch, search_whole
from slimasr.decoding.searches.links import Chain, Link, labels, settle
from slimasr.models.transducer import Transducer

SILENT = (0, UNK_ID)
LENS = torch.tensor([30, 1, 23, 30, 17])


@torch.no_grad()
def scores_of(model: Transducer, frame: Tensor, history: tuple[int, ...]) -> Tensor:
    """Log-probabilities (V,) of the next symbol; the predictor reads the whole history from its start."""
    lm = model.predictor(torch.tensor([history], dtype=torch.int64))[0, -1]
    return model.joiner(frame, model.joiner.project_predictor(lm)).double().log_softmax(-1)


def greedy_reference(model: Transducer, am: Tensor, most: int) -> Hypothesis:
    """One utterance (T, J), label by label."""
    found = Hypothesis()
    for t, frame in enumerate(am):
        for _ in range(most):
            symbol = int(scores_of(model, frame, found.tokens).argmax())
            if symbol in SILENT:
                break
            found += Hypothesis((symbol,), (t,))
    return found


def beam_reference(model: Transducer, am: Tensor, beam: int, context_size: int) -> Hypothesis:
    """One utterance (T, J) with a dictionary from tokens to score and frames, those of the better hypothesis."""
    kept: dict[tuple[int, ...], tuple[float, tuple[int, ...]]] = {(): (0.0, ())}
    for t, frame in enumerate(am):
        candidates = []
        for tokens, (score, frames) in kept.items():
            for symbol, extra in enumerate(scores_of(model, frame, tokens).tolist()):
                new = symbol not in SILENT
                candidates.append(
                    (score + extra, (*tokens, symbol) if new else tokens, (*frames, t) if new else frames)
                )
        kept = {}
        for score, tokens, frames in sorted(candidates, reverse=True)[:beam]:
            before = kept.get(tokens)
            sums = score if before is None else float(torch.tensor([before[0], score]).double().logsumexp(0))
            kept[tokens] = (sums, frames if before is None else before[1])
    tokens = max(kept, key=lambda tokens: kept[tokens][0] / (len(tokens) + context_size))
    return Hypothesis(tokens, kept[tokens][1])


def in_pieces(search: LabelSearch[Any], am: Tensor, lens: Tensor, cuts: Iterator[int]) -> list[Hypothesis]:
    """Search in pieces; every stream advances by as many frames as ``cuts`` says, and so by its own amount."""
    state = search.start(len(am), am.device)
    found = [Hypothesis()] * len(am)
    done = torch.zeros_like(lens)
    while bool((done < lens).any()):
        steps = torch.tensor([next(cuts) for _ in lens]).minimum(lens - done)
        piece = torch.full((len(am), int(steps.max()), am.shape[2]), 1e3)
        for row, (start, step) in enumerate(zip(done.tolist(), steps.tolist(), strict=True)):
            piece[row, :step] = am[row, start : start + step]
        settled, state = search.advance(state, piece, steps)
        found = [before + more for before, more in zip(found, settled, strict=True)]
        done += steps
    return [before + rest for before, rest in zip(found, search.finish(state), strict=True)]


def random_cuts(most: int) -> Iterator[int]:
    generator = torch.Generator().manual_seed(most)
    while True:
        yield int(torch.randint(0, most + 1, (1,), generator=generator))


def encoded(model: Transducer) -> Tensor:
    torch.manual_seed(3)
    return model.project_encoder(2 * torch.randn(len(LENS), int(LENS.max()), 16)).detach()


@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
@pytest.mark.parametrize("most", [1, 3])
def test_greedy_equals_a_loop_for_any_cut(
    make_transducer: Callable[..., Transducer], predictor: str, most: int
) -> None:
    model = make_transducer(predictor)
    am = encoded(model)
    expected = [greedy_reference(model, am[row, :length], most) for row, length in enumerate(LENS.tolist())]
    search = GreedySearch(model, most)
    assert search_whole(search, am, LENS) == expected
    for longest in (1, 4, 11):
        assert in_pieces(search, am, LENS, random_cuts(longest)) == expected
    assert sum(map(len, expected)) > 20


@pytest.mark.parametrize(("predictor", "context_size"), [("stateless", 2), ("lstm", 1)])
@pytest.mark.parametrize("beam", [1, 2, 4])
def test_beam_equals_a_dictionary_for_any_cut(
    make_transducer: Callable[..., Transducer], predictor: str, context_size: int, beam: int
) -> None:
    model = make_transducer(predictor)
    am = encoded(model)
    expected = [beam_reference(model, am[row, :length], beam, context_size) for row, length in enumerate(LENS.tolist())]
    search = BeamSearch(model, beam)
    assert search_whole(search, am, LENS) == expected
    for longest in (1, 4, 11):
        assert in_pieces(search, am, LENS, random_cuts(longest)) == expected
    assert sum(map(len, expected)) > 20


@pytest.mark.parametrize("make", [GreedySearch, BeamSearch])
@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
def test_streams_meet_and_part(
    make_transducer: Callable[..., Transducer], predictor: str, make: Callable[[Transducer], LabelSearch[Any]]
) -> None:
    """Streams that begin alone run together in another order, and one of them ends alone."""
    model = make_transducer(predictor)
    am = encoded(model)
    search = make(model)
    expected = search_whole(search, am[[0, 2, 3]], torch.tensor([24, 20, 28]))
    found = []
    states = []
    for row, age in ((0, 4), (2, 9), (3, 17)):
        settled, state = search.advance(search.start(1, am.device), am[row : row + 1, :age], torch.tensor([age]))
        found.append(settled[0])
        states.append(state)
    together = search.select(search.stack([states[0], search.stack(states[1:])]), [2, 0, 1])
    pieces = torch.stack([am[3, 17:28], am[0, 4:15], am[2, 9:20]])
    settled, together = search.advance(together, pieces, torch.tensor([11, 11, 11]))
    # The first stream has nine frames more, which it runs after the others have ended.
    last, alone = search.advance(search.select(together, [1]), am[:1, 15:24], torch.tensor([9]))
    ends = search.finish(together)
    assert found[0] + settled[1] + last[0] + search.finish(alone)[0] == expected[0]
    assert found[1] + settled[2] + ends[2] == expected[1]
    assert found[2] + settled[0] + ends[0] == expected[2]


@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
def test_the_work_of_a_frame_does_not_grow_with_the_text(
    make_transducer: Callable[..., Transducer], predictor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = 0

    class Counted(Link):
        __slots__ = ()

        def __init__(self, before: Chain, token: int, frame: int) -> None:
            nonlocal copied
            copied += 1
            super().__init__(before, token, frame)

    # The links of new tokens are made by the beam search itself, the copies in this module.
    monkeypatch.setattr("slimasr.decoding.searches.links.Link", Counted)
    model = make_transducer(predictor)
    torch.manual_seed(5)
    search = BeamSearch(model, 4)
    state = search.start(2, torch.device("cpu"))
    settled = [Hypothesis(), Hypothesis()]
    shapes = set()
    for _ in range(100):
        am = model.project_encoder(3 * torch.randn(2, 4, 16))
        new, state = search.advance(state, am, torch.tensor([4, 4]))
        settled = [before + more for before, more in zip(settled, new, strict=True)]
        parts = (state.beam.scores, state.beam.lens, state.beam.digests, state.beam.lm, *state.beam.predictor.tensors)
        shapes.add(tuple(part.shape for part in parts))
        # What has been handed out is no longer part of the state.
        for hypothesis, chains, lens in zip(settled, state.chains, state.beam.lens.tolist(), strict=True):
            lengths = [0 if chain is None else chain.length for chain in chains]
            assert len(hypothesis) + max(lengths) == max(lens)
    assert len(shapes) == 1
    assert min(map(len, settled)) > 20
    assert copied <= 4 * sum(int(lens.max()) for lens in state.beam.lens)


def test_equal_tokens_have_equal_digests_and_others_do_not() -> None:
    seen: dict[int, tuple[int, ...]] = {}
    for length in range(6):
        for tokens in itertools.product(range(1, 6), repeat=length):
            digest = torch.tensor([_FIRST_DIGEST])
            for token in tokens:
                digest = _digest(digest, torch.tensor([token]))
            assert seen.setdefault(int(digest), tokens) == tokens


def test_long_chains_are_taken_apart() -> None:
    chain: Chain = None
    for token in range(100_000):
        chain = Link(chain, token, 2 * token)
    # One hypothesis has another last token.
    other = Link(chain.before if chain else None, 7, 199_999)
    settled, (left, dead, differs), kept = settle([chain, None, other], [True, False, True], 0)
    assert settled == Hypothesis(tuple(range(99_999)), tuple(range(0, 199_998, 2)))
    assert labels(left) == Hypothesis((99_999,), (199_998,)) and labels(differs) == Hypothesis((7,), (199_999,))
    assert dead is None and kept == 1
    # Removing a long chain must not exceed the interpreter's stack.
    del chain, other
