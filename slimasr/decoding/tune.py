"""Choose the scales of graph decoding on a set, once for all models of a comparison."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from slimasr.config.search import DecodingConfig
from slimasr.data.batches.batch import Batch
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.decoding.decode import decode_by
from slimasr.decoding.recognize import Recognition
from slimasr.decoding.searches.graph import SearchGraph
from slimasr.decoding.searches.words import word_search
from slimasr.errors import UserError
from slimasr.models.base import SpeechModel
from slimasr.results.graph import TriedEntry
from slimasr.scoring import Utterance, word_errors
from slimasr.supernet.subnet import Subnet

ACOUSTIC_SCALES = (1.0, 0.5, 1.5, 2.0, 3.0)
PRIOR_SCALES = (0.0, 0.2, 0.4, 0.6, 0.8)
"""The grid. Of equally good choices the first one is taken, so the usual values come first."""


def try_scales(
    model: SpeechModel,
    batches: Iterable[Batch],
    tokenizer: Tokenizer,
    subnet: Subnet | None,
    config: DecodingConfig,
    graph: SearchGraph,
) -> list[TriedEntry]:
    """Decode a set with every choice of the grid; the encoder runs once for all of them.

    Args:
        model: a CTC model with a label prior, in evaluation mode; the batches are moved to its device.
        batches: the batches of the set.
        tokenizer: that of the model.
        subnet: the subnet that runs, None = the max subnet.
        config: beam and largest number of states.
        graph: the search graph.

    Raises:
        UserError: no reference has a word, or the checkpoint has no label prior.
    """
    grid = list(product(ACOUSTIC_SCALES, PRIOR_SCALES))
    searches = [word_search(model, tokenizer, with_scales(config, *scales), subnet, graph) for scales in grid]
    found = decode_by(model, batches, subnet, [Recognition(search) for search in searches])
    rates = map(_wer, found)
    return [
        TriedEntry(acoustic_scale=acoustic, prior_scale=prior, wer=wer)
        for (acoustic, prior), wer in zip(grid, rates, strict=True)
    ]


def best_of(tried: Iterable[TriedEntry]) -> TriedEntry:
    """Return the choice with the lowest WER, the first one of several."""
    return min(tried, key=lambda entry: entry.wer)


def with_scales(config: DecodingConfig, acoustic_scale: float, prior_scale: float) -> DecodingConfig:
    """Return the configuration of a graph search with other scales."""
    scales = {"acoustic_scale": acoustic_scale, "prior_scale": prior_scale}
    return config.model_copy(update={"graph": config.graph.model_copy(update=scales)})


def _wer(utterances: list[Utterance]) -> float:
    words = sum(len(utterance.ref) for utterance in utterances)
    if not words:
        raise UserError("--tune: no reference of the set has a word: the word error rate is undefined")
    return 100.0 * sum(map(word_errors, utterances)) / words
