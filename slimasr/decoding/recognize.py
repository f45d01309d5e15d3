"""From a batch to utterances: encode, search for words, join the parts, pair with references."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F

from slimasr.config.search import DecodingConfig
from slimasr.data.batches.batch import Batch
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.decoding.searches.label_searches import label_search
from slimasr.decoding.searches.searchable import Searchable
from slimasr.decoding.searches.word_search import WordSearch
from slimasr.decoding.searches.words import DecodedLabels
from slimasr.encoders.base import EncoderOutput
from slimasr.models.base import SpeechModel
from slimasr.scoring import Utterance
from slimasr.supernet.subnet import Subnet

Encode = Callable[[Batch], EncoderOutput]
"""Encodes one part of a batch (`Batch.parts`). A caller that needs the encoder output for something else too, such as
a loss, takes it here."""

EncodedPart = tuple[Batch, EncoderOutput]
"""A part of a batch, and its encoder output."""


def as_it_is(text: str) -> str:
    """Return a reference in words."""
    return text


@dataclass(frozen=True)
class Recognition:
    """Recognises batches with one subnet.

    Attributes:
        search: finds the words in the encoder output of the subnet.
        written: writes references in the units of the search.
    """

    search: WordSearch
    written: Callable[[str], str] = as_it_is

    def utterances(self, batch: Batch, encode: Encode) -> list[Utterance]:
        """Recognise a batch, and return references and hypotheses as words; memory is bounded by its parts."""
        return paired(batch, self.texts(batch, encode), self.written)

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
            found.append(paired(batch, _joined(texts_of_parts), self.written))
        return found

    def _search(self, parts: Sequence[EncodedPart]) -> list[list[str]]:
        """Find the texts of every part, all in one search."""
        frames = max(encoder.out.shape[1] for _, encoder in parts)
        # (n, T', C) of every part, padded to the longest T' and stacked; padded frames lie beyond ``lens``.
        out = torch.cat([F.pad(encoder.out, (0, 0, 0, frames - encoder.out.shape[1])) for _, encoder in parts])
        lens = torch.cat([part.searched_lens(encoder.lens) for part, encoder in parts])
        # One text per utterance, divided among the parts again.
        texts = iter(self.search.texts(out, lens))
        return [list(islice(texts, len(part))) for part, _ in parts]


@torch.no_grad()
def utterances_by(recognitions: Sequence[Recognition], batch: Batch, encode: Encode) -> list[list[Utterance]]:
    """Recognise a batch in several ways; every part is encoded once, and memory is bounded by the parts.

    Returns:
        The utterances of each recognition.
    """
    texts: list[list[list[str]]] = [[] for _ in recognitions]
    for part in batch.parts():
        encoded = (part, encode(part))
        for found, recognition in zip(texts, recognitions, strict=True):
            found += recognition._search([encoded])
    pairs = zip(texts, recognitions, strict=True)
    return [paired(batch, _joined(found), recognition.written) for found, recognition in pairs]


def phoneme_recognition(model: Searchable, tokenizer: Tokenizer, subnet: Subnet | None = None) -> Recognition:
    """Return the greedy recognition of phonemes, for phoneme error rates.

    References are the first pronunciations of their words.

    Args:
        model: a CTC model, in evaluation mode.
        tokenizer: its tokenizer, which does not spell.
        subnet: the subnet that makes the encoder output, None = the max subnet.
    """
    search = DecodedLabels(model, subnet, tokenizer, label_search(model, DecodingConfig()))
    return Recognition(search, lambda text: tokenizer.decode(tokenizer.encode(text)))


def encoder_of(model: SpeechModel, subnet: Subnet | None) -> Encode:
    """Return a function that encodes a part of a batch with a subnet."""
    return lambda part: model.encode(part.x, part.x_lens, subnet)


def _joined(texts: Sequence[Sequence[str]]) -> list[str]:
    """Make one text per utterance of a batch from the texts of its parts; the texts of pieces are joined by spaces."""
    # The only part of a batch is the batch itself. Several parts are the pieces of its single utterance.
    if len(texts) == 1:
        return list(texts[0])
    return [" ".join(text for (text,) in texts if text)]


def paired(batch: Batch, texts: Sequence[str], written: Callable[[str], str] = as_it_is) -> list[Utterance]:
    """Pair the references of a batch with recognised texts, both split at spaces.

    Args:
        batch: the batch.
        texts: what was recognised, utterance by utterance.
        written: writes references in the units of ``texts``.
    """
    rows = zip(batch.ids, batch.texts, texts, strict=True)
    return [Utterance(name, tuple(written(reference).split()), tuple(text.split())) for name, reference, text in rows]
