"""From encoder output to text: the one place where every stage searches for labels and turns them into words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from slimasr.config.search import DecodingConfig
from slimasr.data.batch import Batch
from slimasr.data.tokenizer import Tokenizer
from slimasr.decoding.beam import modified_beam_search
from slimasr.decoding.greedy import greedy_search
from slimasr.decoding.searchable import Searchable
from slimasr.errors import UserError
from slimasr.models.transducer import Transducer
from slimasr.scoring import Utterance
from slimasr.supernet.subnet import Subnet


@torch.no_grad()
def search_labels(model: Searchable, am: Tensor, lens: Tensor, config: DecodingConfig) -> list[list[int]]:
    """Token ids per utterance, by the search that the configuration names.

    Args:
        am: (N, T, J) projected encoder output (`Transducer.project_encoder`).
        lens: (N,) int64, frames of it.

    Raises:
        UserError: a configuration that the search cannot follow.
    """
    if config.kind == "greedy":
        return greedy_search(model, am, lens, config.max_symbols_per_frame)
    if config.max_symbols_per_frame != 1:
        raise UserError("decoding.max_symbols_per_frame: modified_beam emits at most one symbol per frame; set it to 1")
    return modified_beam_search(model, am, lens, config.beam)


def texts_of(model: Searchable, am: Tensor, lens: Tensor, tokenizer: Tokenizer, config: DecodingConfig) -> list[str]:
    """The text of every utterance of (N, T, J) projected encoder output, as `search_labels` finds it."""
    return [tokenizer.decode(labels).strip() for labels in search_labels(model, am, lens, config)]


@torch.no_grad()
def recognize(
    model: Transducer, batch: Batch, subnet: Subnet | None, tokenizer: Tokenizer, config: DecodingConfig
) -> list[str]:
    """The text of every utterance of a batch; memory is bounded by its parts.

    Args:
        model: in eval mode, on the batch's device.
        subnet: what runs, None = the max subnet.
        config: the search.
    """
    texts = []
    for part in batch.parts():
        encoder = model.encode(part.x, part.x_lens, subnet)
        am, lens = model.project_encoder(encoder.out, subnet), part.searched_lens(encoder.lens)
        texts.append(texts_of(model, am, lens, tokenizer, config))
    return join_parts(texts)


def join_parts(texts: Sequence[Sequence[str]]) -> list[str]:
    """One text per utterance, from the texts of a batch's parts (`Batch.parts`): those of pieces, joined by spaces."""
    if len(texts) == 1:
        return list(texts[0])
    return [" ".join(text for (text,) in texts if text)]


def scored_utterances(batch: Batch, texts: Sequence[str]) -> list[Utterance]:
    """References and hypotheses of a batch, as words."""
    rows = zip(batch.ids, batch.texts, texts, strict=True)
    return [Utterance(name, tuple(reference.split()), tuple(text.split())) for name, reference, text in rows]
