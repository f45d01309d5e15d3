"""From a batch to words: the only place where encoder output is searched for labels and turned into utterances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from slimasr.config.search import DecodingConfig
from slimasr.data.batch import Batch
from slimasr.data.tokenizer import Tokenizer
from slimasr.decoding.beam import BeamSearch
from slimasr.decoding.greedy import GreedySearch
from slimasr.decoding.label_search import LabelSearch, search_whole
from slimasr.decoding.searchable import Searchable
from slimasr.encoders.base import EncoderOutput
from slimasr.errors import UserError
from slimasr.models.transducer import Transducer
from slimasr.scoring import Utterance
from slimasr.supernet.subnet import Subnet

Encode = Callable[[Batch], EncoderOutput]
"""Encodes one part of a batch (`Batch.parts`). A caller that needs the encoder output for something else too, such as
a loss, takes it here."""

EncodedPart = tuple[Batch, EncoderOutput]
"""A part of a batch, and its encoder output."""


@dataclass(frozen=True)
class Recognition:
    """Recognises batches with one subnet: encode, project, search, detokenise, join the parts, pair with references.

    Attributes:
        model: the model that is searched for labels, in evaluation mode and on the device of the batches.
        subnet: the subnet whose encoder output is searched, None = the max subnet.
        tokenizer: turns labels into text.
        config: the search for the best labels.
    """

    model: Searchable
    subnet: Subnet | None
    tokenizer: Tokenizer
    config: DecodingConfig

    def utterances(self, batch: Batch, encode: Encode) -> list[Utterance]:
        """Recognise a batch, and return references and hypotheses as words; memory is bounded by its parts."""
        return paired(batch, self.texts(batch, encode))

    @torch.no_grad()
    def texts(self, batch: Batch, encode: Encode) -> list[str]:
        """Recognise a batch, and return the text of every utterance; memory is bounded by its parts."""
        texts: list[list[str]] = []
        for part in batch.parts():
            texts += self._search([(part, encode(part))])
        return _joined(texts)

    @torch.no_grad()
    def utterances_together(self, batches: Sequence[Sequence[EncodedPart]]) -> list[list[Utterance]]:
        """Search several batches at once, which is faster; else this is equal to `utterances`.

        Args:
            batches: the encoded parts of each batch.

        Returns:
            The utterances of each batch.
        """
        # The texts of all parts in one sequence, from which every batch takes as many as it has parts.
        texts = iter(self._search([part for parts in batches for part in parts]))
        found: list[list[Utterance]] = []
        for parts in batches:
            # Every part of a batch carries the ids and references of the whole batch.
            batch, _ = parts[0]
            texts_of_parts = list(islice(texts, len(parts)))
            found.append(paired(batch, _joined(texts_of_parts)))
        return found

    def _search(self, parts: Sequence[EncodedPart]) -> list[list[str]]:
        """Find the texts of every part, all in one search."""
        # (n, T', J) of every part, padded to the longest T' and stacked; padded frames lie beyond ``lens``.
        projected = [self.model.project_encoder(encoder.out, self.subnet) for _, encoder in parts]
        frames = max(am.shape[1] for am in projected)
        am = torch.cat([F.pad(am, (0, 0, 0, frames - am.shape[1])) for am in projected])
        lens = torch.cat([part.searched_lens(encoder.lens) for part, encoder in parts])
        labels = search_labels(self.model, am, lens, self.config)
        # One text per utterance, divided among the parts again.
        texts = iter([self.tokenizer.decode(row).strip() for row in labels])
        return [list(islice(texts, len(part))) for part, _ in parts]


def encoder_of(model: Transducer, subnet: Subnet | None) -> Encode:
    """Return a function that encodes a part of a batch with a subnet."""
    return lambda part: model.encode(part.x, part.x_lens, subnet)


def search_labels(model: Searchable, am: Tensor, lens: Tensor, config: DecodingConfig) -> list[list[int]]:
    """Run the search that the configuration names, and return the token ids of every utterance.

    Args:
        model: the model, in evaluation mode.
        am: (N, T, J) projected encoder output (`Transducer.project_encoder`).
        lens: (N,) int64, number of frames.
        config: the search for the best labels.

    Raises:
        UserError: modified beam search is to emit more than one symbol per frame.
    """
    return [list(hypothesis.tokens) for hypothesis in search_whole(search_of(model, config), am, lens)]


def search_of(model: Searchable, config: DecodingConfig) -> LabelSearch[Any]:
    """Return the search that the configuration names.

    Raises:
        UserError: modified beam search is to emit more than one symbol per frame.
    """
    if config.kind == "greedy":
        return GreedySearch(model, config.max_symbols_per_frame)
    if config.max_symbols_per_frame != 1:
        raise UserError("decoding.max_symbols_per_frame: modified_beam emits at most one symbol per frame; set it to 1")
    return BeamSearch(model, config.beam)


def _joined(texts: Sequence[Sequence[str]]) -> list[str]:
    """Make one text per utterance of a batch from the texts of its parts; the texts of pieces are joined by spaces."""
    # The only part of a batch is the batch itself. Several parts are the pieces of its single utterance.
    if len(texts) == 1:
        return list(texts[0])
    return [" ".join(text for (text,) in texts if text)]


def paired(batch: Batch, texts: Sequence[str]) -> list[Utterance]:
    """Pair the references of a batch with recognised texts, both split into words."""
    rows = zip(batch.ids, batch.texts, texts, strict=True)
    return [Utterance(name, tuple(reference.split()), tuple(text.split())) for name, reference, text in rows]
