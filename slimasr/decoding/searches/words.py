"""From encoder output to words: the one place that knows which search belongs to which model and tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from slimasr.config.search import DecodingConfig
from slimasr.data.tokens.tokenizer import SPECIAL, Tokenizer
from slimasr.decoding.searches.confidence import token_posteriors
from slimasr.decoding.searches.label_search import Hypothesis, LabelSearch, search_whole
from slimasr.decoding.searches.label_searches import label_input, label_search
from slimasr.decoding.searches.searchable import Searchable, is_ctc
from slimasr.decoding.searches.timed import BestPath, spelt_words
from slimasr.decoding.searches.word_search import PathSearch, Unfinished
from slimasr.errors import UserError
from slimasr.supernet.subnet import Subnet

if TYPE_CHECKING:
    from slimasr.decoding.searches.graph import SearchGraph


@dataclass(frozen=True)
class DecodedLabels(PathSearch):
    """Searches for labels and lets the tokenizer decode them.

    The texts consist of words if the tokenizer spells (`Tokenizer.spells`), else of labels, for an error rate of these.

    Attributes:
        model: the model, in evaluation mode.
        subnet: the subnet that has made the encoder output, None = the max subnet.
        tokenizer: turns labels into text.
        search: finds the labels.
    """

    model: Searchable
    subnet: Subnet | None
    tokenizer: Tokenizer
    search: LabelSearch[Any]

    @torch.no_grad()
    def texts(self, encoder_out: Tensor, lens: Tensor) -> list[str]:
        found = search_whole(self.search, label_input(self.model, encoder_out, self.subnet), lens)
        return [self.tokenizer.decode(hypothesis.tokens).strip() for hypothesis in found]

    @torch.no_grad()
    def best_paths(self, encoder_out: Tensor, lens: Tensor) -> list[BestPath]:
        scores = label_input(self.model, encoder_out, self.subnet)
        found = search_whole(self.search, scores, lens)
        return [self._path(labels, row) for labels, row in zip(found, scores, strict=True)]

    def _path(self, labels: Hypothesis, scores: Tensor) -> BestPath:
        """Describe the labels that were found in the (T, J) or (T, V) scores of an utterance."""
        text = self.tokenizer.decode(labels.tokens).strip()
        pieces = (self.tokenizer.tokens[token] for token in labels.tokens)
        # Sentence marks have no text.
        words = spelt_words(["" if piece in SPECIAL else piece for piece in pieces])
        return BestPath(text, labels, token_posteriors(self.model, scores, labels), words)


def word_search(
    model: Searchable,
    tokenizer: Tokenizer,
    config: DecodingConfig,
    subnet: Subnet | None = None,
    graph: SearchGraph | None = None,
    unfinished: Unfinished | None = None,
) -> PathSearch:
    """Return the search for words that belongs to a model, a tokenizer and a configuration.

    Args:
        model: the model, in evaluation mode.
        tokenizer: that of the model.
        config: the search.
        subnet: the subnet that makes the encoder output, None = the max subnet.
        graph: the graph of ``kind: graph``; other searches ignore it.
        unfinished: counts utterances without a complete path through the graph; None = nobody wants to know.

    Raises:
        UserError: the model or the tokenizer does not allow this search, or the graph is missing.
    """
    if config.kind == "graph":
        return _graph_search(model, tokenizer, config, subnet, graph, unfinished)
    if not tokenizer.spells:
        raise UserError(
            f"decoding.kind: {config.kind} finds phonemes instead of words (tokenizer.kind: phonemes); set it to graph"
        )
    return DecodedLabels(model, subnet, tokenizer, label_search(model, config))


def _graph_search(
    model: Searchable,
    tokenizer: Tokenizer,
    config: DecodingConfig,
    subnet: Subnet | None,
    graph: SearchGraph | None,
    unfinished: Unfinished | None,
) -> PathSearch:
    # The libraries of graphs are optional, and other searches need not load them.
    from slimasr.decoding.searches.graph import GraphSearch

    if not is_ctc(model):
        raise UserError("decoding.kind: graph needs a CTC model (model.kind: ctc)")
    if graph is None:
        raise UserError("decoding.kind: graph needs the graph that slimasr-graph writes; name its data folder")
    return GraphSearch(model, subnet, graph, config.graph, unfinished or Unfinished(), tokenizer.tokens)
