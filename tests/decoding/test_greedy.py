"""Batched greedy search against a loop over single utterances that keeps no state."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from slimasr.decoding.searches.greedy import greedy_search
from slimasr.decoding.searches.label_search import UNK_ID
from slimasr.decoding.searches.tabulated import Tabulated, tabulated
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet


@torch.no_grad()
def reference(model: Transducer, frames: Tensor, width: int, max_symbols: int) -> list[int]:
    """One utterance (T, C); the predictor reads the whole history again at every step."""
    history: list[int] = []
    for frame in frames:
        for _ in range(max_symbols):
            lm = model.predictor(torch.tensor([history], dtype=torch.int64))[0, -1]
            am = frame @ model.joiner.encoder_proj.weight[:, :width].T + model.joiner.encoder_proj.bias
            logits = model.joiner(am, model.joiner.project_predictor(lm))
            symbol = int(logits.argmax())
            if symbol in (0, UNK_ID):
                break
            history.append(symbol)
    return history


@pytest.mark.parametrize("max_symbols", [1, 3])
@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
@pytest.mark.parametrize("width", [8, 16])
def test_equals_one_utterance_at_a_time(
    make_transducer: Callable[..., Transducer], predictor: str, max_symbols: int, width: int
) -> None:
    model = make_transducer(predictor)
    torch.manual_seed(1)
    out, lens = 2 * torch.randn(6, 20, width), torch.tensor([20, 1, 13, 20, 7, 19])
    am = model.project_encoder(out, Subnet(width / 16))
    hyps = greedy_search(model, am, lens, max_symbols)
    assert greedy_search(tabulated(model), am, lens, max_symbols) == hyps
    expected = [reference(model, out[i, : lens[i]], width, max_symbols) for i in range(6)]
    assert hyps == expected
    # Otherwise the equality above says little: there are emissions, and blanks between them.
    assert 10 < sum(map(len, hyps)) < max_symbols * int(lens.sum()) - 10
    assert UNK_ID not in {token for hyp in hyps for token in hyp}


def test_padding_does_not_matter(make_transducer: Callable[..., Transducer]) -> None:
    model = make_transducer()
    am, lens = model.project_encoder(torch.randn(3, 12, 16)), torch.tensor([5, 12, 8])
    noisy = am + 100 * (torch.arange(12) >= lens.unsqueeze(1)).unsqueeze(-1)
    assert greedy_search(model, noisy, lens) == greedy_search(model, am, lens)


def test_only_blank_is_empty(make_transducer: Callable[..., Transducer]) -> None:
    model = make_transducer(blank_bias=1e4)
    assert greedy_search(model, torch.randn(2, 5, 10), torch.tensor([5, 3])) == [[], []]


def test_unk_counts_as_blank(make_transducer: Callable[..., Transducer]) -> None:
    model = make_transducer()
    with torch.no_grad():
        model.joiner.output.bias[UNK_ID] += 1e4
    assert greedy_search(model, torch.randn(2, 5, 10), torch.tensor([5, 3]), 3) == [[], []]


@pytest.mark.parametrize("max_symbols", [1, 2])
def test_symbols_per_frame_are_bounded(make_transducer: Callable[..., Transducer], max_symbols: int) -> None:
    model = make_transducer(blank_bias=-1e4)
    with torch.no_grad():
        model.joiner.output.bias[UNK_ID] -= 1e4
    lens = torch.tensor([5, 3])
    hyps = greedy_search(model, torch.randn(2, 5, 10), lens, max_symbols)
    assert [len(hyp) for hyp in hyps] == [max_symbols * int(n) for n in lens]


def test_only_short_histories_are_tabulated(
    make_transducer: Callable[..., Transducer], monkeypatch: pytest.MonkeyPatch
) -> None:
    stateless, lstm = make_transducer("stateless"), make_transducer("lstm")
    assert isinstance(tabulated(stateless), Tabulated)
    assert tabulated(lstm) is lstm
    monkeypatch.setattr("slimasr.decoding.searches.tabulated.MOST_ROWS", (stateless.vocab_size + 1) ** 2 - 1)
    assert tabulated(stateless) is stateless
