"""The evaluator of a search: many subnets on one dev set that stays in memory."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slimasr.config.schema import Config
from slimasr.config.search import SearchConfig
from slimasr.data.batch import Batch
from slimasr.data.tokenizer import Tokenizer
from slimasr.decoding.graph import SearchGraph
from slimasr.decoding.recognize import Recognition
from slimasr.decoding.searchable import Searchable
from slimasr.decoding.tabulated import tabulated
from slimasr.decoding.words import word_search
from slimasr.encoders.base import EncoderOutput
from slimasr.errors import UserError
from slimasr.export.int8 import fake_quantized
from slimasr.measure.quality import Quality, TokenLoss, loss_objective
from slimasr.models.base import FRAMES_PER_SECOND, SpeechModel
from slimasr.scoring import Utterance, score, word_errors
from slimasr.search.prefix import PrefixCache, layer_keys
from slimasr.search.study import Outcome
from slimasr.supernet.subnet import Subnet


@dataclass(frozen=True)
class Prepared:
    """A subnet that is ready to be evaluated.

    Attributes:
        subnet: the subnet, as the search space knows it.
        model: the supernet, or a stand-alone model that was extracted from it.
        active: the subnet to run of ``model``, None for all of a stand-alone model.
        searched: the model as the search for the best labels sees it.
    """

    subnet: Subnet
    model: SpeechModel
    active: Subnet | None
    searched: Searchable


class Evaluator:
    """Word errors and loss of subnets on one set.

    It is fast for four reasons. Features are loaded once. Layers that a subnet shares with earlier ones run once, so
    subnets should be evaluated in the order of `order`. As many batches are decoded at once as
    ``decoding.batch_seconds`` holds. The batches with most errors so far come first, so that hopeless subnets are
    recognised early.

    Attributes:
        batches: the batches of the set, on the model's device.
        words: number of reference words.
    """

    def __init__(
        self,
        model: SpeechModel,
        tokenizer: Tokenizer,
        batches: Iterable[Batch],
        config: Config,
        graph: SearchGraph | None = None,
    ) -> None:
        """Load the set.

        Args:
            model: the supernet, in evaluation mode; the batches are moved to its device.
            tokenizer: turns labels into text.
            batches: the batches of the set.
            config: the experiment's configuration.
            graph: the graph of ``decoding.kind: graph``.

        Raises:
            UserError: no reference has a word, so the WER is undefined.
        """
        device = model.feature_mean.device
        self.model = model
        self.batches = [batch.to(device) for batch in batches]
        self._tokenizer = tokenizer
        self._config = config
        self._graph = graph
        self.words = sum(len(text.split()) for batch in self.batches for text in batch.texts)
        if not self.words:
            raise UserError(f"{config.data.dev}: no reference has a word: the word error rate is undefined")
        self._parts = number_parts(self.batches)
        num_parts = sum(map(len, self._parts))
        self._cache = PrefixCache(config.search.cache_megabytes * 1_000_000, num_parts)
        self._prepare = prepare(model, config.search)
        # Word errors of all subnets so far, batch by batch.
        self._errors = [0] * len(self.batches)
        # The same by subnet, for the batches on which it was evaluated.
        self._errors_of: dict[Subnet, dict[int, int]] = {}
        # Predictor outputs by batch: subnets share the predictor.
        self._predicted: dict[int, Tensor | None] = {}

    def order(self, subnet: Subnet) -> tuple[object, ...]:
        """Return a sort key that makes neighbours of the subnets with an equal prefix of layers."""
        return layer_keys(subnet, self.model.encoder.path_of(subnet))

    @torch.inference_mode()
    def evaluate(self, subnet: Subnet, threshold: float = math.inf, rivals: Sequence[Subnet] = ()) -> Outcome:
        """Measure one subnet, as far as it matters.

        Args:
            subnet: the subnet to measure.
            threshold: number of word errors; an evaluation that finds more is stopped early, without a loss.
            rivals: an evaluation is also stopped when more than half of these subnets made fewer errors in what was
                decoded so far. Those that this evaluator has not evaluated there count as if they made more.
        """
        start = time.perf_counter()
        prepared = self._prepare(subnet)
        errors = 0
        # Batch number -> word errors
        found: dict[int, int] = {}
        self._errors_of[subnet] = found
        # Batches that were hard for other subnets reach the threshold soonest.
        hardest_first = sorted(range(len(self.batches)), key=lambda number: -self._errors[number])
        for group in self._groups(hardest_first):
            for number, utterances in zip(group, self._decode(group, prepared), strict=True):
                found[number] = sum(map(word_errors, utterances))
                self._errors[number] += found[number]
                errors += found[number]
            if errors > threshold or self._in_worse_half(found, rivals):
                seconds = time.perf_counter() - start
                return Outcome(errors, self.words, None, stopped=True, seconds=seconds)
        loss = self._loss(prepared)
        seconds = time.perf_counter() - start
        return Outcome(errors, self.words, loss, stopped=False, seconds=seconds)

    @torch.inference_mode()
    def quality(self, subnet: Subnet) -> Quality:
        """Measure the WER with its bootstrap interval, and the loss."""
        prepared = self._prepare(subnet)
        utterances: list[Utterance] = []
        for group in self._groups(range(len(self.batches))):
            for found in self._decode(group, prepared):
                utterances += found
        return Quality(score(utterances), self._loss(prepared))

    def _in_worse_half(self, found: Mapping[int, int], rivals: Sequence[Subnet]) -> bool:
        """Return whether most rivals made fewer errors on these batches (number -> errors), some of which are left."""
        if len(found) == len(self.batches):
            return False
        known = [self._errors_of[rival] for rival in rivals if rival in self._errors_of]
        errors = [sum(rival[number] for number in found) for rival in known if rival.keys() >= found.keys()]
        better = sum(e < sum(found.values()) for e in errors)
        return 2 * better > len(rivals) > 0

    def _groups(self, numbers: Sequence[int]) -> list[list[int]]:
        """Divide the batches with these numbers into groups that are decoded together, in the same order."""
        limit = self._config.decoding.batch_seconds * FRAMES_PER_SECOND
        groups: list[list[int]] = []
        utterances = 0
        frames = 0
        for number in numbers:
            size = sum(len(part) for part in self._parts[number].values())
            longest = max(part.x.shape[1] for part in self._parts[number].values())
            utterances += size
            frames = max(frames, longest)
            # All utterances of a group are padded to the longest one.
            if not groups or utterances * frames > limit:
                groups.append([])
                utterances = size
                frames = longest
            groups[-1].append(number)
        return groups

    def _encode(self, number: int, part: Batch, prepared: Prepared) -> EncoderOutput:
        """Return the encoder output of a part of a batch; ``number`` is the part's own."""
        return self._cache.encode(number, part, prepared.model, prepared.active, prepared.subnet)

    def _decode(self, numbers: Sequence[int], prepared: Prepared) -> list[list[Utterance]]:
        """Return the utterances of some batches, batch by batch; all of them are searched at once."""
        search = word_search(prepared.searched, self._tokenizer, self._config.decoding, prepared.active, self._graph)
        encoded = []
        for number in numbers:
            parts = self._parts[number].items()
            encoded.append([(part, self._encode(part_number, part, prepared)) for part_number, part in parts])
        return Recognition(search).utterances_together(encoded)

    def _loss(self, prepared: Prepared) -> float | None:
        """Return the loss per reference token; the encoder does not run again if the cache still holds its output."""
        loss = TokenLoss(loss_objective(prepared.model, self._config.loss))
        for number, batch in enumerate(self.batches):
            if batch.scored_rows:
                # Only long utterances are cut into parts, and they have no loss: this batch is one part.
                ((part_number, part),) = self._parts[number].items()
                encoded = self._encode(part_number, part, prepared)
                loss.add(batch, prepared.active, encoded, self._predictor_out(number, prepared.model))
        return loss.mean

    def _predictor_out(self, number: int, model: SpeechModel) -> Tensor | None:
        """Return `SpeechModel.predictor_out` of the utterances of a batch that have a loss; it is the same for all
        subnets."""
        # In int8 every subnet has its own copy of the predictor, but all copies are rounded alike: it is never slimmed.
        if number not in self._predicted:
            batch = self.batches[number]
            self._predicted[number] = model.predictor_out(batch.select(batch.scored_rows).y)
        return self._predicted[number]


def number_parts(batches: Iterable[Batch]) -> list[dict[int, Batch]]:
    """Map the parts (`Batch.parts`) of every batch from numbers that are unique in the whole set."""
    # The cache knows a part by its number.
    numbers = itertools.count()
    return [{next(numbers): part for part in batch.parts()} for batch in batches]


def prepare(model: SpeechModel, config: SearchConfig) -> Callable[[Subnet], Prepared]:
    """Return what prepares a subnet: it runs as a slice of the supernet, or is extracted and rounded to int8."""
    if config.int8:

        def rounded(subnet: Subnet) -> Prepared:
            stand_alone = fake_quantized(model, subnet)
            return Prepared(subnet, stand_alone, None, tabulated(stand_alone))

        return rounded
    # All subnets share predictor and vocabulary, so one table serves them all.
    searched = tabulated(model)
    return lambda subnet: Prepared(subnet, model, subnet, searched)
