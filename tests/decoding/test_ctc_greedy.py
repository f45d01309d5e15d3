"""Greedy search of a CTC model: equal to a loop over runs of labels, for any cut and in any company."""

from __future__ import annotations

from itertools import groupby

import pytest
import torch
from torch import Tensor

from slimasr.decoding.searches.ctc_greedy import CtcGreedySearch
from slimasr.decoding.searches.label_search import UNK_ID, Hypothesis, search_whole
from tests.decoding.test_pausing import in_pieces, random_cuts

LENS = torch.tensor([40, 0, 1, 33, 40])


def scores(seed: int, num_labels: int = 5) -> Tensor:
    """(N, T, V) scores whose best labels often repeat, as each is at its frame and at the next one."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(len(LENS), int(LENS.max()) + 1, num_labels, generator=generator)
    return drawn[:, 1:] + 1.5 * drawn[:, :-1]


def merged(labels: list[int]) -> Hypothesis:
    """Merge repetitions, and remove blanks and ``<unk>``."""
    found = Hypothesis()
    for label, run in groupby(enumerate(labels), key=lambda item: item[1]):
        if label not in (0, UNK_ID):
            found += Hypothesis((label,), (next(run)[0],))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_it_merges_runs_for_any_cut(seed: int) -> None:
    logits = scores(seed)
    best = [row[:length].argmax(-1).tolist() for row, length in zip(logits, LENS.tolist(), strict=True)]
    expected = [merged(row) for row in best]
    search = CtcGreedySearch()
    assert search_whole(search, logits, LENS) == expected
    for longest in (1, 4, 11):
        assert in_pieces(search, logits, LENS, random_cuts(longest)) == expected
    # Some labels repeat within a run, and some behind a blank or ``<unk>``.
    assert sum(map(len, expected)) < sum(label not in (0, UNK_ID) for row in best for label in row) - 10
    assert any(a == b for found in expected for a, b in zip(found.tokens, found.tokens[1:], strict=False))


def test_streams_join_and_leave() -> None:
    logits = scores(seed=5)
    search = CtcGreedySearch()
    lens = torch.full((len(LENS),), 40)
    expected = search_whole(search, logits, lens)
    settled, state = search.advance(search.start(5, torch.device("cpu")), logits[:, :20], lens // 2)
    late, _ = search.advance(search.select(state, [4, 1]), logits[[4, 1], 20:], lens[:2] // 2)
    assert [settled[4] + late[0], settled[1] + late[1]] == [expected[4], expected[1]]
    fresh = search.start(1, torch.device("cpu"))
    found, _ = search.advance(search.stack([search.select(state, [2]), fresh]), logits[[2, 2], 20:], lens[:2] // 2)
    assert settled[2] + found[0] == expected[2]
    assert found[1] == search_whole(search, logits[2:3, 20:], lens[:1] // 2)[0]
