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
from slimasr.data.batches.batch import Batch
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.decoding.recognize import Recognition
from slimasr.decoding.searches.graph import SearchGraph
from slimasr.decoding.searches.searchable import Searchable
from slimasr.decoding.searches.tabulated import tabulated
from slimasr.decoding.searches.words import word_search
from slimasr.encoders.base import EncoderOutput
from slimasr.errors import UserError
from slimasr.export.int8 import fake_quantized
from slimasr.measure.quality import Quality, TokenLoss, loss_objective, quality_of
from slimasr.models.base import FRAMES_PER_SECOND, SpeechModel
from slimasr.models.prepared import Prepared, prepare
from slimasr.scoring import Utterance, word_errors
from slimasr.search.prefix import PrefixCache, layer_keys
from slimasr.search.study import Outcome
from slimasr.supernet.subnet import Subnet


@dataclass(frozen=True)
class Evaluated(Prepared):
    """A subnet that is ready to be evaluated.

    Attributes:
        searched: the model as the search for the best labels sees it.
    """

    searched: Searchable


class Evaluator:
    """Word errors and loss of subnets on one set.

    It is fast for four reasons. Features are loaded once. Layers that a subnet shares with earlier ones run once, so
    subnets should be evaluated in the order of `order`. As many batches are decoded at once as
    ``decoding.batch_seconds`` holds. The batches with most errors so far come first, so that hopeless subnets are
    recognised early.

    A pathway is evaluated on the batches in its own language.

    Attributes:
        batches: the batches of the set, on the model's device.
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
            UserError: no reference, or none in the language of a pathway, has a word, so that its WER is undefined.
        """
        device = model.feature_mean.device
        self.model = model
        self.batches = [batch.to(device) for batch in batches]
        self._tokenizer = tokenizer
        self._config = config
        self._graph = graph
        if not self.words_of(Subnet()):
            raise UserError(f"{config.data.dev}: no reference has a word: the word error rate is undefined")
        for name in () if model.pathways is None else model.pathways.names:
            if not self.words_of(Subnet(pathway=name)):
                raise UserError(
                    f"{config.data.dev}: no reference in the language {name} has a word: the word error rate of its "
                    "pathway is undefined"
                )
        self._parts = number_parts(self.batches)
        num_parts = sum(map(len, self._parts))
        self._cache = PrefixCache(config.search.cache_megabytes * 1_000_000, num_parts)
        self._prepare = preparation(model, config.search)
        # Word errors of all subnets so far, batch by batch.
        self._errors = [0] * len(self.batches)
        # The same by subnet, for the batches on which it was evaluated.
        self._errors_of: dict[Subnet, dict[int, int]] = {}
        # Predictor outputs by pathway and batch: subnets share the predictor, of which a pathway keeps a part.
        self._predicted: dict[tuple[str, int], Tensor | None] = {}

    def words_of(self, subnet: Subnet) -> int:
        """Return the number of reference words on which a subnet is evaluated."""
        return sum(len(text.split()) for number in self._numbers(subnet) for text in self.batches[number].texts)

    def _numbers(self, subnet: Subnet) -> list[int]:
        """Return the numbers of the batches on which a subnet is evaluated."""
        return [number for number, batch in enumerate(self.batches) if subnet.serves(batch.language)]

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
        numbers = self._numbers(subnet)
        hardest_first = sorted(numbers, key=lambda number: -self._errors[number])
        words = self.words_of(subnet)
        for group in self._groups(hardest_first):
            for number, utterances in zip(group, self._decode(group, prepared), strict=True):
                found[number] = sum(map(word_errors, utterances))
                self._errors[number] += found[number]
                errors += found[number]
            if errors > threshold or (len(found) < len(numbers) and self._in_worse_half(found, rivals)):
                seconds = time.perf_counter() - start
                return Outcome(errors, words, None, stopped=True, seconds=seconds)
        loss = self._loss(prepared)
        seconds = time.perf_counter() - start
        return Outcome(errors, words, loss, stopped=False, seconds=seconds)

    @torch.inference_mode()
    def quality(self, subnet: Subnet) -> Quality:
        """Measure the WER with its bootstrap interval, and the loss."""
        prepared = self._prepare(subnet)
        utterances: list[Utterance] = []
        numbers = self._numbers(subnet)
        for group in self._groups(numbers):
            for found in self._decode(group, prepared):
                utterances += found
        utt2lang = {name: self.batches[n].language for n in numbers for name in self.batches[n].ids}
        return quality_of(utterances, utt2lang, subnet, self._loss(prepared), self._config.data.dev)

    def _in_worse_half(self, found: Mapping[int, int], rivals: Sequence[Subnet]) -> bool:
        """Return whether most rivals made fewer errors on these batches (number -> errors)."""
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

    def _encode(self, number: int, part: Batch, prepared: Evaluated) -> EncoderOutput:
        """Return the encoder output of a part of a batch; ``number`` is the part's own."""
        return self._cache.encode(number, part, prepared.model, prepared.active, prepared.subnet)

    def _decode(self, numbers: Sequence[int], prepared: Evaluated) -> list[list[Utterance]]:
        """Return the utterances of some batches, batch by batch; all of them are searched at once."""
        search = word_search(prepared.searched, self._tokenizer, self._config.decoding, prepared.active, self._graph)
        encoded = []
        for number in numbers:
            parts = self._parts[number].items()
            encoded.append([(part, self._encode(part_number, part, prepared)) for part_number, part in parts])
        return Recognition(search).utterances_together(encoded)

    def _loss(self, prepared: Evaluated) -> float | None:
        """Return the loss per reference token; the encoder does not run again if the cache still holds its output."""
        loss = TokenLoss(loss_objective(prepared.model, self._config.loss))
        for number in self._numbers(prepared.subnet):
            batch = self.batches[number]
            if batch.scored_rows:
                # Only long utterances are cut into parts, and they have no loss: this batch is one part.
                ((part_number, part),) = self._parts[number].items()
                encoded = self._encode(part_number, part, prepared)
                loss.add(batch, prepared.active, encoded, self._predictor_out(number, prepared))
        return loss.mean

    def _predictor_out(self, number: int, prepared: Evaluated) -> Tensor | None:
        """Return `SpeechModel.predictor_out` of the utterances of a batch that have a loss; it is the same for all
        subnets with the same pathway, or without one."""
        # In int8 every subnet has its own copy of the predictor, but all copies are rounded alike: it is never slimmed.
        key = prepared.subnet.pathway, number
        if key not in self._predicted:
            batch = self.batches[number]
            self._predicted[key] = prepared.model.predictor_out(batch.select(batch.scored_rows).y)
        return self._predicted[key]


def number_parts(batches: Iterable[Batch]) -> list[dict[int, Batch]]:
    """Map the parts (`Batch.parts`) of every batch from numbers that are unique in the whole set."""
    # The cache knows a part by its number.
    numbers = itertools.count()
    return [{next(numbers): part for part in batch.parts()} for batch in batches]


def preparation(model: SpeechModel, config: SearchConfig) -> Callable[[Subnet], Evaluated]:
    """Return what prepares a subnet: it runs as a slice of the supernet, or is cut out, and in int8 rounded then."""
    if config.int8:

        def rounded(subnet: Subnet) -> Evaluated:
            stand_alone = fake_quantized(model, subnet)
            return Evaluated(subnet, stand_alone, None, tabulated(stand_alone))

        return rounded
    # All subnets that run in the supernet share predictor and vocabulary, so one table serves them all.
    shared = tabulated(model)

    def prepared(subnet: Subnet) -> Evaluated:
        found = prepare(model, subnet)
        searched = shared if found.model is model else tabulated(found.model)
        return Evaluated(subnet, found.model, found.active, searched)

    return prepared
