"""Graph decoding: the best path through CTC topology, lexicon and language model gives the words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slimasr.config.search import GraphDecodingConfig
from slimasr.data.graphs.graph import STAGE, Graph
from slimasr.data.graphs.hlg import import_graph_library
from slimasr.data.graphs.lexicon import Lexicon
from slimasr.decoding.searches.confidence import token_posteriors
from slimasr.decoding.searches.label_search import Hypothesis
from slimasr.decoding.searches.searchable import SearchableCtc
from slimasr.decoding.searches.timed import BestPath, pronounced_words
from slimasr.decoding.searches.word_search import PathSearch, Unfinished
from slimasr.errors import UserError
from slimasr.supernet.subnet import Subnet

MIN_ACTIVE = 20


@dataclass(frozen=True)
class SearchGraph:
    """A search graph in memory.

    Attributes:
        fst: the transducer (kaldifst); an input label is the id of a token plus 1, an output label the id of a word.
        words: id -> word.
        digest: identifies the graph in results.
        read_lexicon: reads the pronunciations in the graph, which only the times of words need.
    """

    fst: Any
    words: Sequence[str]
    digest: str
    read_lexicon: Callable[[], Lexicon] = lambda: Lexicon({})

    @cached_property
    def lexicon(self) -> Lexicon:
        """The pronunciations in the graph, read once.

        Raises:
            UserError: they are missing or damaged.
        """
        return self.read_lexicon()

    @classmethod
    def open(cls, graph: Graph) -> SearchGraph:
        """Load a graph that `slimasr.data.graphs.graph.load_graph` has found.

        Raises:
            UserError: the extra ``graph`` is not installed, or the file is damaged.
        """
        return cls(_read(graph.path), graph.words, graph.digest, graph.lexicon)


@dataclass(frozen=True)
class GraphSearch(PathSearch):
    """Finds the words on the best path through a graph (Viterbi search with a beam).

    The score of a label at a frame is ``acoustic_scale * (log p - prior_scale * log prior)``.

    Attributes:
        model: the CTC model, in evaluation mode.
        subnet: the subnet that has made the encoder output, None = the max subnet.
        graph: the graph.
        config: scales and beam.
        unfinished: counts the utterances without a complete path.
        tokens: id -> token, by which the lexicon writes pronunciations; only `best_paths` needs it.
    """

    model: SearchableCtc
    subnet: Subnet | None
    graph: SearchGraph
    config: GraphDecodingConfig
    unfinished: Unfinished
    tokens: Sequence[str] = ()

    @torch.no_grad()
    def texts(self, encoder_out: Tensor, lens: Tensor) -> list[str]:
        logits = self.model.ctc_logits(encoder_out, self.subnet)
        prior = label_prior(self.model, self.subnet, self.config.prior_scale)
        scores = label_scores(logits, prior, self.config).cpu().numpy()
        texts = []
        for row, length in zip(scores, lens.tolist(), strict=True):
            # An utterance without audio has no words, and no path either.
            words = best_words(row[:length], self.graph, self.config) if length else []
            self.unfinished.utterances += words is None
            texts.append(" ".join(words or ()))
        return texts

    @torch.no_grad()
    def best_paths(self, encoder_out: Tensor, lens: Tensor) -> list[BestPath]:
        logits = self.model.ctc_logits(encoder_out, self.subnet)
        prior = label_prior(self.model, self.subnet, self.config.prior_scale)
        scores = label_scores(logits, prior, self.config).cpu().numpy()
        paths = []
        for row, of_row, length in zip(scores, logits, lens.tolist(), strict=True):
            path = self._path(row[:length], of_row) if length else BestPath()
            self.unfinished.utterances += not path.complete
            paths.append(path)
        return paths

    def _path(self, scores: np.ndarray, logits: Tensor) -> BestPath:
        """Find the best path through the (T, V) scores of an utterance."""
        found = best_path(scores, self.graph.fst, self.config.beam, self.config.max_active)
        if found is None:
            return BestPath(complete=False)
        inputs, outputs = found
        words = [self.graph.words[word] for word in outputs]
        labels = labels_of_path([symbol - 1 for symbol in inputs], self.model.blank_id)
        ids = {token: number for number, token in enumerate(self.tokens)}
        pronunciations = [
            [[ids[label] for label in variant] for variant in self.graph.lexicon.pronunciations[word]] for word in words
        ]
        spans = pronounced_words(words, labels.tokens, pronunciations)
        return BestPath(" ".join(words), labels, token_posteriors(self.model, logits, labels), spans)


def label_prior(model: SearchableCtc, subnet: Subnet | None, prior_scale: float) -> Tensor:
    """Return the (V,) log prior of a subnet's output.

    Raises:
        UserError: the prior is to be used and is not known.
    """
    head = model.ctc_head_of(subnet)
    assert head is not None, "a CTC model has an output layer"
    prior = head.log_prior
    # All zeros stand for a prior that is not known: those of a distribution would sum to 1.
    if prior_scale and not prior.any():
        raise UserError(
            "decoding.graph.prior_scale: the checkpoint has no label prior, which only final.pt has; set it to 0"
        )
    return prior


def label_scores(logits: Tensor, log_prior: Tensor, config: GraphDecodingConfig) -> Tensor:
    """(N, T, V) scores of labels -> their scaled log-probabilities without the prior, in float32."""
    log_probs = logits.float().log_softmax(-1)
    return config.acoustic_scale * (log_probs - config.prior_scale * log_prior)


def labels_of_path(path: Sequence[int], blank: int) -> Hypothesis:
    """Return the tokens of a CTC path, each at the first frame of its run.

    Args:
        path: the label of each frame.
        blank: the label of frames without a token.
    """
    # The number of the first frame of every run, and its label.
    runs = [(next(run)[0], label) for label, run in groupby(enumerate(path), key=lambda item: item[1])]
    spoken = [(frame, label) for frame, label in runs if label != blank]
    return Hypothesis(tuple(label for _, label in spoken), tuple(frame for frame, _ in spoken))


def best_words(scores: np.ndarray, graph: SearchGraph, config: GraphDecodingConfig) -> list[str] | None:
    """Return the words on the best path; None if no path has reached a final state.

    Args:
        scores: (T, V) float32 scores of labels.
        graph: the graph.
        config: beam and largest number of states.
    """
    path = best_path(scores, graph.fst, config.beam, config.max_active)
    return None if path is None else [graph.words[word] for word in path[1]]


def best_path(
    scores: np.ndarray, fst: Any, beam: float, max_active: int = 2**31 - 1
) -> tuple[list[int], list[int]] | None:
    """Find the best path through a graph.

    Args:
        scores: (T, L) float32; column i belongs to input label i + 1.
        fst: the graph (kaldifst).
        beam: largest difference to the best path of a frame.
        max_active: largest number of states at a frame.

    Returns:
        The input label of each frame, and the output labels without epsilons; None if no path has reached a final
        state.

    Raises:
        UserError: the extra ``graph`` is not installed.
    """
    kaldi_decoder = import_graph_library("kaldi_decoder")
    kaldifst = import_graph_library("kaldifst")
    # So many states are kept although they lie beyond the beam; the library's own number, unless fewer are allowed.
    min_active = min(MIN_ACTIVE, max_active - 1)
    options = kaldi_decoder.FasterDecoderOptions(beam=beam, max_active=max_active, min_active=min_active)
    decoder = kaldi_decoder.FasterDecoder(fst, options)
    # The decodable may refer to the array, which must live as long as it does.
    kept = np.ascontiguousarray(scores, dtype=np.float32)
    decoder.decode(kaldi_decoder.DecodableCtc(kept))
    if not decoder.reached_final():
        return None
    _, path = decoder.get_best_path()
    _, inputs, outputs, _ = kaldifst.get_linear_symbol_sequence(path)
    return list(inputs), list(outputs)


def _read(path: Path) -> Any:
    try:
        fst = import_graph_library("kaldifst").StdVectorFst.read(str(path))
    except RuntimeError as error:
        raise UserError(f"{path}: {error}; run {STAGE} again") from None
    if fst is None or fst.start < 0:
        raise UserError(f"{path}: damaged, or holds no path; run {STAGE} again")
    return fst
