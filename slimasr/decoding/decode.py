"""Decode batches with one subnet, by the search that a recipe names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from slimasr.config.schema import DecodingConfig
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


@torch.no_grad()
def decode_batches(
    model: Transducer,
    batches: Iterable[Batch],
    tokenizer: Tokenizer,
    subnet: Subnet | None,
    config: DecodingConfig,
) -> list[Utterance]:
    """References and hypotheses of all utterances, in the order of the batches.

    Args:
      model: in eval mode; the batches are moved to its device.
      batches: features and references.
      tokenizer: token ids to text.
      subnet: what runs, None = the max subnet.
      config: the search.
    """
    device = model.feature_mean.device
    utterances = []
    for batch in batches:
        encoder = model.encode(batch.x.to(device), batch.x_lens.to(device), subnet)
        labels = search_labels(model, model.project_encoder(encoder.out, subnet), encoder.lens, config)
        for utterance, text, tokens in zip(batch.ids, batch.texts, labels, strict=True):
            hypothesis = tokenizer.decode(tokens).split()
            utterances.append(Utterance(utterance, tuple(text.split()), tuple(hypothesis)))
    return utterances


def describe(config: DecodingConfig) -> str:
    """The search in words, for ``results.json``."""
    if config.kind == "greedy":
        return f"greedy, at most {config.max_symbols_per_frame} per frame"
    return f"modified beam search, beam {config.beam}"


def override(
    config: DecodingConfig,
    kind: Literal["greedy", "modified_beam"] | None = None,
    beam: int | None = None,
    max_symbols_per_frame: int | None = None,
) -> DecodingConfig:
    """The configuration with another search; None keeps what is there.

    Modified beam search knows one symbol per frame only, so choosing it here sets that too.
    """
    if kind == "modified_beam" and max_symbols_per_frame is None:
        max_symbols_per_frame = 1
    changes = {"kind": kind, "beam": beam, "max_symbols_per_frame": max_symbols_per_frame}
    return config.model_copy(update={key: value for key, value in changes.items() if value is not None})


def default_device() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
