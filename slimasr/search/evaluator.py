"""The evaluator of a search: many subnets on one dev set that stays in memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence

import kaldialign
import torch
from torch import Tensor

from slimasr.config.schema import Config, SearchConfig
from slimasr.data.batch import Batch
from slimasr.data.tokenizer import Tokenizer
from slimasr.decoding.greedy import greedy_search
from slimasr.encoders.base import EncoderOutput
from slimasr.errors import UserError
from slimasr.export.int8 import fake_quantized
from slimasr.models.transducer import Transducer
from slimasr.scoring import Utterance, score
from slimasr.search.evaluate import Quality, loss_objective
from slimasr.search.prefix import PrefixCache, layer_keys
from slimasr.search.study import Outcome
from slimasr.supernet.subnet import Subnet

Prepared = tuple[Transducer, Subnet | None]
"""A model, and the subnet of it to run."""


class Evaluator:
    """Word errors and loss of subnets. Features are loaded once, layers of an equal prefix run once.

    Subnets should come in the order of `order`. Batches are decoded from the one with most errors so far to the one
    with fewest, so that hopeless subnets show early.
    """

    def __init__(self, model: Transducer, tokenizer: Tokenizer, batches: Iterable[Batch], config: Config) -> None:
        """Load the set.

        Raises:
          UserError: no reference has a word; the WER is undefined.
        """
        device = model.feature_mean.device
        self.model, self._tokenizer, self._config = model, tokenizer, config
        self.batches = [batch.to(device) for batch in batches]
        self._refs = [[text.split() for text in batch.texts] for batch in self.batches]
        self.words = sum(len(ref) for refs in self._refs for ref in refs)
        if not self.words:
            raise UserError(f"{config.data.dev}: no reference has a word: the word error rate is undefined")
        self._cache = PrefixCache(config.search.cache_megabytes * 1_000_000)
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
        for number in sorted(range(len(self.batches)), key=lambda n: -self._errors[n]):
            found = sum(self._word_errors(number, self._decode(number, prepared, subnet)))
            self._errors[number] += found
            errors += found
            if errors > bar:
                return Outcome(errors, self.words, None, True, time.perf_counter() - start)
        loss = self._loss(prepared, subnet)
        return Outcome(errors, self.words, loss, False, time.perf_counter() - start)

    @torch.inference_mode()
    def quality(self, subnet: Subnet) -> Quality:
        """WER with its bootstrap interval, and loss."""
        prepared, utterances = self._prepare(subnet), list[Utterance]()
        for number, batch in enumerate(self.batches):
            hypotheses = self._decode(number, prepared, subnet)
            for name, ref, hyp in zip(batch.ids, self._refs[number], hypotheses, strict=True):
                utterances.append(Utterance(name, tuple(ref), tuple(hyp)))
        return Quality(score(utterances), self._loss(prepared, subnet))

    def _encode(self, number: int, prepared: Prepared, name: Subnet) -> EncoderOutput:
        return self._cache.encode(number, self.batches[number], *prepared, name)

    def _decode(self, number: int, prepared: Prepared, name: Subnet) -> list[list[str]]:
        """The words of a batch."""
        model, subnet = prepared
        encoded = self._encode(number, prepared, name)
        limit = self._config.decoding.max_symbols_per_frame
        ids = greedy_search(model, model.project_encoder(encoded.out, subnet), encoded.lens, limit)
        return [self._tokenizer.decode(hypothesis).split() for hypothesis in ids]

    def _word_errors(self, number: int, hypotheses: Sequence[Sequence[str]]) -> list[int]:
        pairs = zip(self._refs[number], hypotheses, strict=True)
        return [int(kaldialign.edit_distance(list(ref), list(hyp))["total"]) for ref, hyp in pairs]

    def _loss(self, prepared: Prepared, name: Subnet) -> float:
        """Per reference token. The encoder's output is still there where the cache has room for it."""
        model, subnet = prepared
        objective, total = loss_objective(model, self._config.loss), 0.0
        for number, batch in enumerate(self.batches):
            if number not in self._predicted:
                self._predicted[number] = model.predictor(batch.y)  # the same for all subnets
            encoded, predicted = self._encode(number, prepared, name), self._predicted[number]
            output = objective(batch, subnet, ("transducer",), encoder=encoded, predictor_out=predicted)
            total += float(output.losses["transducer"].sum())
        return total / max(1, sum(batch.num_tokens for batch in self.batches))


def prepare(model: Transducer, config: SearchConfig) -> Callable[[Subnet], Prepared]:
    """How a subnet is made ready: run as a slice of the supernet, or cut out and rounded to int8."""
    if config.int8:
        return lambda subnet: (fake_quantized(model, subnet), None)
    return lambda subnet: (model, subnet)
