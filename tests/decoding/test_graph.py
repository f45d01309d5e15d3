"""Graph decoding, against the enumeration of all paths, and against greedy search."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from slimasr.config.search import DecodingConfig, GraphDecodingConfig
from slimasr.data.graphs.graph import Graph
from slimasr.data.graphs.hlg import ctc_topology
from slimasr.decoding.searches.ctc_greedy import CtcGreedySearch
from slimasr.decoding.searches.graph import GraphSearch, SearchGraph
from slimasr.decoding.searches.label_search import search_whole
from slimasr.decoding.searches.word_search import Unfinished
from slimasr.decoding.searches.words import word_search
from slimasr.errors import UserError
from tests.decoding.graphs import Language, Scores

pytest.importorskip("kaldi_decoder")

WIDE = {"beam": 1e4, "max_active": 10_000}


@pytest.mark.parametrize("seed", range(3))
def test_the_best_path_is_that_of_enumeration(seed: int, tmp_path: Path) -> None:
    language = Language.draw(seed)
    graph = language.graph(tmp_path)
    generator = torch.Generator().manual_seed(seed)
    vocab_size = language.tokenizer.vocab_size
    for case in range(12):
        lens = torch.tensor([5, 3, 1])
        logits = 2.0 * torch.randn(len(lens), 5, vocab_size, generator=generator)
        prior = torch.randn(vocab_size, generator=generator).log_softmax(-1)
        config = GraphDecodingConfig(acoustic_scale=(0.5, 1.0, 2.0)[case % 3], prior_scale=0.3 * (case % 4), **WIDE)
        unfinished = Unfinished()
        texts = GraphSearch(Scores(vocab_size, prior), None, graph, config, unfinished).texts(logits, lens)
        for row, length, text in zip(logits, lens.tolist(), texts, strict=True):
            log_probs = row[:length].double() - row[:length].double().logsumexp(-1, keepdim=True)
            best = language.best(config.acoustic_scale * (log_probs - config.prior_scale * prior.double()))
            # Several word sequences may have equal scores, as those of homophones have in some languages.
            assert best[tuple(text.split())] == pytest.approx(max(best.values()), abs=1e-4)
        # Silence is always possible.
        assert not unfinished.utterances


def test_without_lexicon_and_language_model_it_is_greedy_search() -> None:
    tokens = ("<eps>", "<blk>", "<sos/eos>", "<unk>", "a", "b", "c")
    graph = SearchGraph(ctc_topology([4, 5, 6]), tokens, "abc")
    generator = torch.Generator().manual_seed(1)
    lens = torch.tensor([40, 0, 17])
    logits = torch.randn(3, 40, 6, generator=generator)
    logits[..., 1:3] = -30.0
    search = GraphSearch(Scores(6), None, graph, GraphDecodingConfig(**WIDE), Unfinished())
    greedy = search_whole(CtcGreedySearch(), logits, lens)
    texts = search.texts(logits, lens)
    assert texts == [" ".join(tokens[label + 1] for label in found.tokens) for found in greedy]
    assert len(texts[0].split()) > 20
    # What lies behind an utterance, and with which others it is decoded, has no influence.
    logits[2, 17:] = 50.0
    assert search.texts(logits, lens) == texts
    assert search.texts(logits[2:, :17], lens[2:]) == texts[2:]


def test_words_that_do_not_fit_are_none_and_counted(tmp_path: Path) -> None:
    fst = pytest.importorskip("kaldifst").StdVectorFst()
    # A graph whose only word has two different labels and so needs two frames.
    states = [fst.add_state() for _ in range(3)]
    fst.start = states[0]
    fst.set_final(states[2], 0.0)
    arc = pytest.importorskip("kaldifst").StdArc
    fst.add_arc(states[0], arc(4, 1, 0.0, states[1]))
    fst.add_arc(states[1], arc(5, 0, 0.0, states[2]))
    unfinished = Unfinished()
    search = GraphSearch(Scores(5), None, SearchGraph(fst, ("<eps>", "AB"), ""), GraphDecodingConfig(), unfinished)
    texts = search.texts(torch.zeros(3, 2, 5), torch.tensor([1, 2, 0]))
    assert texts == ["", "AB", ""]
    # The last utterance has no audio, which is nothing unusual about the search.
    assert unfinished.utterances == 1
    (note,) = unfinished.notes()
    assert note.startswith("1 utterance reached no final state of the graph")


def test_what_does_not_go_together_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    language = Language.draw(0)
    graph = language.graph(tmp_path)
    model = Scores(language.tokenizer.vocab_size)
    by_graph = DecodingConfig(kind="graph", graph=GraphDecodingConfig(prior_scale=0.5))
    search = word_search(model, language.tokenizer, by_graph, graph=graph)
    with pytest.raises(UserError, match=r"prior_scale: the checkpoint has no label prior, which only final.pt has"):
        search.texts(torch.zeros(1, 2, model.vocab_size), torch.tensor([2]))
    with pytest.raises(UserError, match="graph needs the graph that slimasr-graph writes"):
        word_search(model, language.tokenizer, by_graph)
    with pytest.raises(UserError, match="decoding.kind: greedy finds phonemes instead of words"):
        word_search(model, language.tokenizer, DecodingConfig())
    transducer = SimpleNamespace(config=SimpleNamespace(kind="transducer"))
    with pytest.raises(UserError, match="graph needs a CTC model"):
        word_search(transducer, language.tokenizer, by_graph, graph=graph)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="modified_beam searches no labels of a CTC model"):
        word_search(model, SimpleNamespace(spells=True), DecodingConfig(kind="modified_beam"))  # type: ignore[arg-type]


def test_a_file_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "HLG.fst"
    assert Language.draw(0).graph(tmp_path).fst.write(str(path))
    whole = path.read_bytes()
    opened = SearchGraph.open(Graph(path, ("<eps>",), "abc"))
    assert opened.fst.num_states == Language.draw(0).graph(tmp_path).fst.num_states
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"HLG.fst: damaged, or holds no path; run stage 3"):
        SearchGraph.open(Graph(path, ("<eps>",), "abc"))
