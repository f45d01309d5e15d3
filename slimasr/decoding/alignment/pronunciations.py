"""Align references with all pronunciations of their words: the best CTC path through any of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from slimasr.data.batches.batch import Batch
from slimasr.data.graphs.hlg import import_graph_library
from slimasr.data.timelines.timeline import spans_of_runs
from slimasr.data.tokens.phonemes import PhonemeTokenizer, shares
from slimasr.decoding.searches.graph import best_path
from slimasr.models.base import SpeechModel
from slimasr.supernet.subnet import Subnet

WIDE = 1e9
"""A beam that leaves out no path."""

Labels = tuple[int, ...]
Variants = Sequence[Labels]
"""The pronunciations of one word as token ids."""


@dataclass(frozen=True)
class Pronounced:
    """The pronunciations that an utterance's words have, and when their labels are spoken.

    Attributes:
        counts: for each label, the number of units of the transcript that it stands for.
        spans: for each label, its first feature frame and the frame behind its last one.
    """

    counts: list[int]
    spans: list[tuple[int, int]]


@torch.no_grad()
def align_pronunciations(
    model: SpeechModel, batches: Iterable[Batch], subnet: Subnet | None, tokenizer: PhonemeTokenizer
) -> Iterator[tuple[str, Pronounced | None]]:
    """Align the utterances of some batches with the best pronunciations of their references.

    Args:
        model: a model with a CTC head, in eval mode; the batches are moved to its device.
        batches: features and references.
        subnet: the subnet that aligns, None = the max subnet.
        tokenizer: has the lexicon.

    Yields:
        The id of each utterance and its alignment, None if it has none: it is too short or too long, has no audio, or
        a word without pronunciation.

    Raises:
        UserError: the extra ``graph`` is not installed.
    """
    device = model.feature_mean.device
    for batch in (batch.to(device) for batch in batches):
        if batch.pieces:
            # Too long for the model at once. It is encoded in pieces, and nobody knows which piece has which words.
            yield batch.ids[0], None
            continue
        encoder = model.encode(batch.x, batch.x_lens, subnet)
        scores = model.ctc_logits(encoder.out, subnet).float().log_softmax(-1).cpu().numpy()
        rows = zip(batch.ids, batch.texts, scores, encoder.lens.tolist(), batch.x_lens.tolist(), strict=True)
        for name, text, row, length, frames in rows:
            words = text.split()
            variants = [variants_of(word, tokenizer) for word in words]
            path = None
            if all(variants) and name not in batch.unheard:
                path = pronounced_path(row[:length], variants, model.blank_id)
            if path is None:
                yield name, None
                continue
            chosen, labels = path
            counts = _unit_counts(words, chosen)
            yield name, Pronounced(counts, spans_of_runs(labels, len(counts), model.subsampling_factor, frames))


def _unit_counts(words: Sequence[str], chosen: Sequence[Labels]) -> list[int]:
    """Share the units of each word, which begins with a boundary, out over the labels of its pronunciation."""
    return [count for word, labels in zip(words, chosen, strict=True) for count in shares(len(word) + 1, len(labels))]


def variants_of(word: str, tokenizer: PhonemeTokenizer) -> list[Labels]:
    """Return the pronunciations of a word as token ids; none if the lexicon lacks it."""
    ids = {label: number for number, label in enumerate(tokenizer.tokens)}
    return [tuple(ids[label] for label in variant) for variant in tokenizer.lexicon.pronunciations.get(word, ())]


def pronounced_path(
    scores: np.ndarray, words: Sequence[Variants], blank: int = 0
) -> tuple[list[Labels], list[int]] | None:
    """Find the best CTC path through one pronunciation of every word.

    Args:
        scores: (T, V) float32 log-probabilities.
        words: the pronunciations of each word.
        blank: token id of blank.

    Returns:
        The pronunciation of each word, and for each frame the position of its label among the labels of these
        pronunciations, -1 for blank; None if there are too few frames, or no word.
    """
    if not words or not len(scores):
        return None
    places = [
        _Place(word, variant, place, label)
        for word, variants in enumerate(words)
        for variant, labels in enumerate(variants)
        for place, label in enumerate(labels)
    ]
    # A column for every label of every pronunciation, so that the path tells which of them it takes.
    columns = scores[:, [blank, *(place.label for place in places)]]
    found = best_path(columns, _chain(words), WIDE)
    if found is None:
        return None
    # Symbol 1 is blank, those behind it are the places.
    visited = [places[symbol - 2] if symbol > 1 else None for symbol in found[0]]
    taken = {place.word: place.variant for place in visited if place is not None}
    chosen = [tuple(words[word][variant]) for word, variant in sorted(taken.items())]
    starts = np.cumsum([0, *map(len, chosen)])
    return chosen, [-1 if place is None else int(starts[place.word]) + place.place for place in visited]


@dataclass(frozen=True)
class _Place:
    """A label of a pronunciation of a word: its number among the words, the variants, and the labels of the variant."""

    word: int
    variant: int
    place: int
    label: int


def _chain(words: Sequence[Variants]) -> Any:
    """Build the acceptor of all CTC paths: blanks anywhere, at least one of them between two equal labels.

    Its symbols are 1 for blank, and from 2 onwards the labels of all pronunciations in order.
    """
    library = import_graph_library("kaldifst")
    fst = library.StdVectorFst()

    def add_arc(source: int, symbol: int, target: int) -> None:
        fst.add_arc(source, library.StdArc(symbol, 0, 0.0, target))

    def add_state(symbol: int) -> int:
        """Add a state in which the symbol may be repeated."""
        state: int = fst.add_state()
        add_arc(state, symbol, state)
        return state

    # The blanks before every word and behind the last one.
    between = [add_state(1) for _ in range(len(words) + 1)]
    fst.start = between[0]
    # The states in which the words so far may end, and the label that each of them has emitted.
    ends: list[tuple[int, int]] = []
    symbol = 1
    for word, variants in enumerate(words):
        before, ends = ends, []
        for labels in variants:
            blanks, sources = between[word], before
            for place, label in enumerate(labels):
                symbol += 1
                state = add_state(symbol)
                add_arc(blanks, symbol, state)
                for source, last in sources:
                    if last != label:
                        add_arc(source, symbol, state)
                blanks = between[word + 1] if place == len(labels) - 1 else add_state(1)
                add_arc(state, 1, blanks)
                sources = [(state, label)]
            ends += sources
    for state in (between[-1], *(state for state, _ in ends)):
        fst.set_final(state, 0.0)
    return fst
