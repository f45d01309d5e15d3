"""Recognition in torch with decoders of finite context, to choose the context of an LSTM predictor.

A device runs such a predictor over its last K labels (`slimasr.export.context`). What that costs in words depends on
the model, so it is measured: the same encoder output is searched with several K and with the full history.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from slimasr.config.search import DecodingConfig
from slimasr.data.batches.batch import Batch
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.decoding.decode import decode_by
from slimasr.decoding.recognize import Recognition
from slimasr.decoding.searches.searchable import SearchableTransducer
from slimasr.decoding.searches.words import word_search
from slimasr.export.context import ContextDecoder, HistoryPredictor, context_decoder
from slimasr.models.transducer import Transducer
from slimasr.scoring import Utterance, score
from slimasr.supernet.subnet import Subnet


class FiniteTransducer:
    """A transducer whose predictor sees its last labels alone, for the searches."""

    def __init__(self, model: Transducer, decoder: ContextDecoder) -> None:
        """Take a model in evaluation mode, and its decoder."""
        self.blank_id = model.blank_id
        self.vocab_size = model.vocab_size
        self.config = model.config
        self.predictor = HistoryPredictor(decoder, decoder.context_size)
        self.joiner = _ProjectedJoiner(model)
        self.project_encoder = model.project_encoder


@dataclass(frozen=True)
class _ProjectedJoiner:
    """See `slimasr.decoding.searches.searchable.SearchableJoiner`."""

    model: Transducer

    def project_predictor(self, predictor_out: Tensor) -> Tensor:
        return predictor_out

    def __call__(self, am: Tensor, lm: Tensor) -> Tensor:
        logits: Tensor = self.model.joiner(am, lm)
        return logits


@dataclass(frozen=True)
class ContextRow:
    """How a set is recognised with one context.

    Attributes:
        context: number of labels that the predictor sees, None = all.
        wer: word error rate in percent.
        same: number of utterances with the text that the full history gives.
        utterances: number of utterances.
    """

    context: int | None
    wer: float
    same: int
    utterances: int


def compare_contexts(
    model: Transducer,
    batches: Iterable[Batch],
    tokenizer: Tokenizer,
    subnet: Subnet | None,
    config: DecodingConfig,
    contexts: Sequence[int],
) -> list[ContextRow]:
    """Recognise a set with several contexts and with the full history; the encoder runs once for all of them.

    Args:
        model: in evaluation mode.
        batches: features and references.
        tokenizer: that of the model.
        subnet: the subnet that runs, None = the max subnet.
        config: the search.
        contexts: numbers of labels.

    Returns:
        A row for each context, and the last one for the full history.
    """
    searched: list[SearchableTransducer] = [
        *(FiniteTransducer(model, context_decoder(model, context)) for context in contexts),
        model,
    ]
    recognitions = [Recognition(word_search(one, tokenizer, config, subnet)) for one in searched]
    *finite, full = decode_by(model, batches, subnet, recognitions)
    rows = [_row(context, found, full) for context, found in zip(contexts, finite, strict=True)]
    return [*rows, _row(None, full, full)]


def _row(context: int | None, found: Sequence[Utterance], full: Sequence[Utterance]) -> ContextRow:
    same = sum(one.hyp == other.hyp for one, other in zip(found, full, strict=True))
    return ContextRow(context, score(found, replications=0).wer, same, len(full))
