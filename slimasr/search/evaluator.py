"""The evaluator of a search: many subnets on one dev set that stays in memory."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from slimasr.config.schema import Config
from slimasr.config.search import SearchConfig
from slimasr.data.batch import Batch
from slimasr.data.tokenizer import Tokenizer
from slimasr.decoding.recognize import Recognition
from slimasr.decoding.searchable import Searchable
from slimasr.decoding.tabulated import tabulated
from slimasr.encoders.base import EncoderOutput
from slimasr.errors import UserError
from slimasr.export.int8 import fake_quantized
from slimasr.measure.quality import Quality, TokenLoss, loss_objective
from slimasr.models.transducer import FRAMES_PER_SECOND, Transducer
from slimasr.scoring import Utterance, score, word_errors
from slimasr.search.prefix import PrefixCache, layer_keys
from slimasr.search.study import Outcome
from slimasr.supernet.subnet import Subnet


class Prepared(NamedTuple):
    """A subnet made ready.

    Attributes:
        model: the supernet, or a stand-alone model.
        subnet: what to run of it.
        searched: the model as the search for its best labels sees it.
    """

    model: Transducer
    subnet: Subnet | None
    searched: Searchable


class Evaluator:
    """Word errors and loss of subnets. Features are loaded once, layers of an equal prefix run once.

    Subnets should come in the order of `order`. Batches are decoded from those with most errors so far to those with
    fewest, so that hopeless subnets show early; as many at once as ``decoding.batch_seconds`` holds.
    """

    def __init__(self, model: Transducer, tokenizer: Tokenizer, batches: Iterable[Batch], config: Config) -> None:
        """Load the set.

        Raises:
            UserError: no reference has a word; the WER is undefined.
        """
        device = model.feature_mean.device
        self.model, self._tokenizer, self._config = model, tokenizer, config
        self.batches = [batch.to(device) for batch in batches]
        self.words = sum(len(text.split()) for batch in self.batches for text in batch.texts)
        if not self.words:
            raise UserError(f"{config.data.dev}: no reference has a word: the word error rate is undefined")
        self._parts = number_parts(self.batches)
        num_parts = sum(map(len, self._parts))
        self._cache = PrefixCache(config.search.cache_megabytes * 1_000_000, num_parts)
        self._prepare = prepare(model, config.search)
        self._errors = [0] * len(self.batches)
        self._predicted: dict[int, Tensor] = {}

    def order(self, subnet: Subnet) -> tuple[object, ...]:
        """Sort key that brings subnets of an equal prefix of layers together."""
        return layer_keys(subnet, self.model.encoder.path_of(subnet))

    @torch.inference_mode()
    def evaluate(self, subnet: Subnet, bar: float = math.inf) -> Outcome:
        """Measure one subnet, as far as it matters.

        Args:
            bar: with more word errors than these the subnet is given up; its loss is measured only if it has no more.
        """
        start, prepared, errors = time.perf_counter(), self._prepare(subnet), 0
        for group in self._groups(sorted(range(len(self.batches)), key=lambda n: -self._errors[n])):
            for number, utterances in zip(group, self._decode(group, prepared, subnet), strict=True):
                found = sum(map(word_errors, utterances))
                self._errors[number] += found
                errors += found
            if errors > bar:
                return Outcome(errors, self.words, None, True, time.perf_counter() - start)
        loss = self._loss(prepared, subnet)
        return Outcome(errors, self.words, loss, False, time.perf_counter() - start)

    @torch.inference_mode()
    def quality(self, subnet: Subnet) -> Quality:
        """WER with its bootstrap interval, and loss."""
        prepared = self._prepare(subnet)
        utterances: list[Utterance] = []
        for group in self._groups(range(len(self.batches))):
            for found in self._decode(group, prepared, subnet):
                utterances += found
        return Quality(score(utterances), self._loss(prepared, subnet))

    def _groups(self, numbers: Sequence[int]) -> list[list[int]]:
        """Batches that are decoded together, in the order given."""
        limit = self._config.decoding.batch_seconds * FRAMES_PER_SECOND
        groups, utterances, frames = list[list[int]](), 0, 0
        for number in numbers:
            size = sum(len(part) for part in self._parts[number].values())
            longest = max(part.x.shape[1] for part in self._parts[number].values())
            utterances, frames = utterances + size, max(frames, longest)
            if not groups or utterances * frames > limit:
                groups.append([])
                utterances, frames = size, longest
            groups[-1].append(number)
        return groups

    def _encode(self, number: int, part: Batch, prepared: Prepared, name: Subnet) -> EncoderOutput:
        """The part of this number."""
        return self._cache.encode(number, part, prepared.model, prepared.subnet, name)

    def _decode(self, numbers: Sequence[int], prepared: Prepared, name: Subnet) -> list[list[Utterance]]:
        """The utterances of some batches, batch by batch; all of them are searched at once."""
        recognition = Recognition(prepared.searched, prepared.subnet, self._tokenizer, self._config.decoding)
        encoded = []
        for number in numbers:
            parts = self._parts[number].items()
            encoded.append([(part, self._encode(place, part, prepared, name)) for place, part in parts])
        return recognition.utterances_together(encoded)

    def _loss(self, prepared: Prepared, name: Subnet) -> float | None:
        """Per reference token. The encoder's output is still there where the cache has room for it."""
        model, subnet, _ = prepared
        loss = TokenLoss(loss_objective(model, self._config.loss))
        for number, batch in enumerate(self.batches):
            if batch.scored_rows:
                ((part_number, part),) = self._parts[number].items()
                encoded = self._encode(part_number, part, prepared, name)
                loss.add(batch, subnet, encoded, self._predictor_out(number, model))
        return loss.mean

    def _predictor_out(self, number: int, model: Transducer) -> Tensor:
        """Of the utterances of a batch that have a loss: the same for all subnets."""
        if number not in self._predicted:
            batch = self.batches[number]
            self._predicted[number] = model.predictor(batch.select(batch.scored_rows).y)
        return self._predicted[number]


def number_parts(batches: Iterable[Batch]) -> list[dict[int, Batch]]:
    """Batch by batch its parts (`Batch.parts`), by a number that no other part of the set has."""
    numbers = itertools.count()
    return [{next(numbers): part for part in batch.parts()} for batch in batches]


def prepare(model: Transducer, config: SearchConfig) -> Callable[[Subnet], Prepared]:
    """How a subnet is made ready: run as a slice of the supernet, or cut out and rounded to int8."""
    if config.int8:

        def rounded(subnet: Subnet) -> Prepared:
            alone = fake_quantized(model, subnet)
            return Prepared(alone, None, tabulated(alone))

        return rounded
    searched = tabulated(model)
    return lambda subnet: Prepared(model, subnet, searched)
