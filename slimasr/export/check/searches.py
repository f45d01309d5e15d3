"""Our searches under the rules of devices: at most one symbol per frame, and labels that the decoder sees alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from slimasr.config.search import GraphDecodingConfig
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.decoding.searches.beam import BeamSearch
from slimasr.decoding.searches.ctc_greedy import CtcGreedySearch
from slimasr.decoding.searches.graph import SearchGraph, best_words, label_prior, label_scores
from slimasr.decoding.searches.greedy import GreedySearch
from slimasr.decoding.searches.label_search import LabelSearch, search_whole
from slimasr.decoding.searches.searchable import SearchableTransducer
from slimasr.export.check.runtime import Method
from slimasr.export.context import context_decoder
from slimasr.export.finite import FiniteTransducer
from slimasr.models.base import SpeechModel
from slimasr.models.ctc import CtcModel
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet


@dataclass(frozen=True)
class Found:
    """What a search finds in an utterance.

    Attributes:
        text: the text, with single spaces.
        ids: ids of its tokens without blank and ``<unk>``, or numbers of its words, of a search in a graph.
    """

    text: str
    ids: tuple[int, ...]


Search = Callable[[Tensor, Tensor], Found]
"""(1, T, C) what the encoder of a bundle computes of one utterance (`Scoring`) and its (1,) length -> what is found."""

Scoring = Callable[[Tensor], Tensor]
"""(N, T, C) encoder output -> what the encoder of a bundle computes: (N, T, J) input of the joiner, or (N, T, V)
log-probabilities of a CTC model, which are scaled where a graph is searched."""


def label_searches(model: SpeechModel, context_size: int | None, paths: int) -> dict[Method, LabelSearch[Any]]:
    """Return the searches for labels that sherpa-onnx has for a kind of model, by its names.

    Args:
        model: the model, in evaluation mode.
        context_size: labels that the decoder of the bundle sees; None of a CTC model.
        paths: hypotheses of modified beam search.
    """
    if isinstance(model, CtcModel):
        return {"greedy_search": CtcGreedySearch(model.blank_id)}
    assert isinstance(model, Transducer) and context_size is not None
    # A stateless predictor is its own decoder.
    lstm = model.config.predictor.kind != "stateless"
    searched: SearchableTransducer = FiniteTransducer(model, context_decoder(model, context_size)) if lstm else model
    beam = BeamSearch(searched, paths, context_size)
    return {"greedy_search": GreedySearch(searched), "modified_beam_search": beam}


def scoring(model: SpeechModel, subnet: Subnet | None, scales: GraphDecodingConfig | None) -> Scoring:
    """Return what follows the encoder in the encoder of a bundle.

    Args:
        model: the model.
        subnet: the subnet that runs, None = all of the model.
        scales: of a search in a graph; None = no graph is searched.
    """
    if not isinstance(model, CtcModel):
        assert isinstance(model, Transducer)
        return lambda encoder_out: model.project_encoder(encoder_out, subnet)
    if scales is None:
        return lambda encoder_out: model.ctc_logits(encoder_out, subnet).log_softmax(-1)
    prior = label_prior(model, subnet, scales.prior_scale)
    return lambda encoder_out: label_scores(model.ctc_logits(encoder_out, subnet), prior, scales)


def token_searches(
    model: SpeechModel, tokenizer: Tokenizer, context_size: int | None, paths: int
) -> Mapping[Method, Search]:
    """Return the searches of whole utterances for tokens; see `label_searches`."""

    def search_by(search: LabelSearch[Any]) -> Search:
        def found(scores: Tensor, lens: Tensor) -> Found:
            (labels,) = search_whole(search, scores, lens)
            return found_of(labels.tokens, tokenizer)

        return found

    return {method: search_by(search) for method, search in label_searches(model, context_size, paths).items()}


def found_of(tokens: Sequence[int], tokenizer: Tokenizer) -> Found:
    """Return what tokens say."""
    return Found(" ".join(tokenizer.decode(tokens).split()), tuple(tokens))


def graph_searches(scales: GraphDecodingConfig, graph: SearchGraph) -> Mapping[Method, Search]:
    """Return the search for words in a graph, in the place of greedy search."""
    numbers = {word: number for number, word in enumerate(graph.words)}

    def found(scores: Tensor, lens: Tensor) -> Found:
        # No path to a final state of the graph: no words.
        words = best_words(scores[0, : int(lens)].numpy(), graph, scales) or []
        return Found(" ".join(words), tuple(numbers[word] for word in words))

    return {"greedy_search": found}
