"""Decodes batches with one subnet, by the search that a recipe names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch

from slimasr.config.search import DecodingConfig
from slimasr.data.batch import Batch
from slimasr.data.tokenizer import Tokenizer
from slimasr.decoding.recognize import Recognition, encoder_of
from slimasr.models.base import SpeechModel
from slimasr.scoring import Utterance
from slimasr.supernet.subnet import Subnet


def decode_batches(
    model: SpeechModel,
    batches: Iterable[Batch],
    tokenizer: Tokenizer,
    subnet: Subnet | None,
    config: DecodingConfig,
) -> list[Utterance]:
    """Recognise batches, and return references and hypotheses of all utterances in the order of the batches.

    Args:
        model: in eval mode; the batches are moved to its device.
        batches: features and references.
        tokenizer: turns token ids into text.
        subnet: the subnet that runs, None = the max subnet.
        config: the search for the best labels.
    """
    recognition = Recognition(word_search(model, tokenizer, config, subnet))
    encode = encoder_of(model, subnet)
    utterances: list[Utterance] = []
    for batch in batches:
        utterances += recognition.utterances(batch.to(model.feature_mean.device), encode)
    return utterances


def describe(config: DecodingConfig) -> str:
    """Describe the search in words, for ``results.json``."""
    # Results are compared by these words: changing them would make all earlier results count as another decoding.
    if config.kind == "greedy":
        return f"greedy, at most {config.max_symbols_per_frame} per frame"
    return f"modified beam search, beam {config.beam}"


def override(
    config: DecodingConfig,
    kind: Literal["greedy", "modified_beam"] | None = None,
    beam: int | None = None,
    max_symbols_per_frame: int | None = None,
) -> DecodingConfig:
    """Return the configuration with another search; None keeps a value.

    Modified beam search emits at most one symbol per frame, so choosing it here sets that limit too.
    """
    if kind == "modified_beam" and max_symbols_per_frame is None:
        max_symbols_per_frame = 1
    changes = {"kind": kind, "beam": beam, "max_symbols_per_frame": max_symbols_per_frame}
    return config.model_copy(update={key: value for key, value in changes.items() if value is not None})


def default_device() -> torch.device:
    """Return the first GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
