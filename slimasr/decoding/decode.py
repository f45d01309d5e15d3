"""Decodes batches with one subnet, by the search that a recipe names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from slimasr.config.search import DecodingConfig, DecodingKind
from slimasr.data.batches.batch import Batch
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.decoding.recognize import Recognition, encoder_of, phoneme_recognition, utterances_by
from slimasr.decoding.searches.word_search import Unfinished
from slimasr.decoding.searches.words import word_search
from slimasr.models.base import SpeechModel
from slimasr.scoring import Utterance
from slimasr.supernet.subnet import Subnet

if TYPE_CHECKING:
    from slimasr.data.graphs.graph import Graph
    from slimasr.decoding.searches.graph import SearchGraph


def decode_batches(
    model: SpeechModel,
    batches: Iterable[Batch],
    tokenizer: Tokenizer,
    subnet: Subnet | None,
    config: DecodingConfig,
    graph: SearchGraph | None = None,
) -> list[Utterance]:
    """Recognise batches, and return references and hypotheses of all utterances in the order of the batches.

    Args:
        model: in eval mode; the batches are moved to its device.
        batches: features and references.
        tokenizer: turns token ids into text.
        subnet: the subnet that runs, None = the max subnet; a pathway has been cut out (`models.prepared.prepare`).
        config: the search for the words.
        graph: the graph of ``kind: graph``.
    """
    (utterances,) = decode_by(
        model, batches, subnet, [Recognition(word_search(model, tokenizer, config, subnet, graph))]
    )
    return utterances


def decode_by(
    model: SpeechModel, batches: Iterable[Batch], subnet: Subnet | None, recognitions: Sequence[Recognition]
) -> list[list[Utterance]]:
    """Recognise batches in several ways; the encoder runs once for all of them.

    Args:
        model: in eval mode; the batches are moved to its device.
        batches: features and references.
        subnet: the subnet that runs, None = the max subnet.
        recognitions: of this subnet.

    Returns:
        The utterances of each recognition, in the order of the batches.
    """
    encode = encoder_of(model, subnet)
    found: list[list[Utterance]] = [[] for _ in recognitions]
    for batch in (batch.to(model.feature_mean.device) for batch in batches):
        for utterances, more in zip(found, utterances_by(recognitions, batch, encode), strict=True):
            utterances += more
    return found


@dataclass(frozen=True)
class Decoding:
    """What one subnet has recognised.

    Attributes:
        words: references and hypotheses; None = the search finds phonemes alone.
        phonemes: the same in phonemes; None = these are not the model's tokens.
        notes: what is unusual about the search.
    """

    words: tuple[Utterance, ...] | None
    phonemes: tuple[Utterance, ...] | None
    notes: tuple[str, ...] = ()


def decode_units(
    model: SpeechModel,
    batches: Iterable[Batch],
    tokenizer: Tokenizer,
    subnet: Subnet | None,
    config: DecodingConfig,
    graph: SearchGraph | None = None,
) -> Decoding:
    """Recognise batches in words and, if these are the model's tokens, in phonemes; arguments as in `decode_batches`.

    Greedy search in a model of phonemes finds no words.
    """
    unfinished = Unfinished()
    recognitions = {}
    if tokenizer.spells or config.kind != "greedy":
        recognitions["words"] = Recognition(word_search(model, tokenizer, config, subnet, graph, unfinished))
    if not tokenizer.spells:
        recognitions["phonemes"] = phoneme_recognition(model, tokenizer, subnet)
    found = decode_by(model, batches, subnet, list(recognitions.values()))
    of = {name: tuple(utterances) for name, utterances in zip(recognitions, found, strict=True)}
    return Decoding(of.get("words"), of.get("phonemes"), tuple(unfinished.notes()))


def describe(config: DecodingConfig, graph: SearchGraph | Graph | None = None) -> str:
    """Describe the search in words, for ``results.json``; ``graph`` is that of ``kind: graph``."""
    # Results are compared by these words: changing them would make all earlier results count as another decoding.
    if config.kind == "greedy":
        return f"greedy, at most {config.max_symbols_per_frame} per frame"
    if config.kind == "modified_beam":
        return f"modified beam search, beam {config.beam}"
    assert graph is not None, "a search in a graph needs one"
    settings = config.graph
    return (
        f"graph {graph.digest}, acoustic scale {settings.acoustic_scale:g}, prior scale {settings.prior_scale:g}, "
        f"beam {settings.beam:g}, at most {settings.max_active} states"
    )


def override(
    config: DecodingConfig,
    kind: DecodingKind | None = None,
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
