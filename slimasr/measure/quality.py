"""WER and loss of a subnet on a set, and the audio on which subnets are timed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from slimasr.config.loss import LossConfig, standalone_loss
from slimasr.config.search import DecodingConfig
from slimasr.data.batches.batch import Batch
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.decoding.recognize import Recognition
from slimasr.decoding.searches.graph import SearchGraph
from slimasr.decoding.searches.words import word_search
from slimasr.encoders.base import EncoderOutput
from slimasr.errors import UserError
from slimasr.models.base import FRAMES_PER_SECOND, SpeechModel
from slimasr.objective.objective import Objective, scored_part
from slimasr.objective.passes import PassInputs
from slimasr.results.schema import WerEntry
from slimasr.scoring import Utterance, WerResult, score
from slimasr.scoring.languages import score_languages, with_languages
from slimasr.supernet.subnet import Subnet

Batches = Callable[[], Iterable[Batch]]
"""Returns a new iteration over a set's batches at every call, so that the set need not fit into memory."""


@dataclass(frozen=True)
class Quality:
    """The recognition quality of a subnet on one set.

    Attributes:
        wer: word error rate, with its bootstrap interval.
        loss: the model's main loss per reference token, over the utterances that have a loss (`Batch.unscored`); None
            if there are none, or if it is not finite.
        languages: the same as ``wer`` by language; empty where all of a set is in one and the subnet is no pathway.
    """

    wer: WerResult
    loss: float | None
    languages: Mapping[str, WerResult] = field(default_factory=dict)


def quality_of(
    utterances: Sequence[Utterance], utt2lang: Mapping[str, str], subnet: Subnet, loss: float | None, set_name: str
) -> Quality:
    """Score what a subnet has recognised, language by language if there are several or the subnet is a pathway.

    Args:
        utterances: of all batches.
        utt2lang: utterance id -> language, "" where it is not known.
        subnet: the subnet.
        loss: its loss per reference token.
        set_name: for messages.

    Raises:
        UserError: the set is empty, or there is no reference word at all or in a language.
    """
    several = len(set(utt2lang.values())) > 1
    languages = score_languages(utterances, utt2lang, set_name) if several or subnet.pathway else {}
    return Quality(score(utterances), loss, languages)


@torch.inference_mode()
def measure_quality(
    model: SpeechModel,
    subnet: Subnet,
    batches: Iterable[Batch],
    tokenizer: Tokenizer,
    loss: LossConfig,
    decoding: DecodingConfig,
    graph: SearchGraph | None = None,
) -> Quality:
    """Measure the WER with its bootstrap interval, and the loss; the encoder runs once for both.

    Args:
        model: in evaluation mode; the batches are moved to its device. Without training-only heads, and with a
            recipe's restricted loss, the loss is that of the full lattice.
        subnet: the subnet to measure.
        batches: the batches of the set.
        tokenizer: turns labels into text.
        loss: the loss of the recipe.
        decoding: the search for the words.
        graph: the graph of ``decoding.kind: graph``.

    Raises:
        UserError: the set is empty or has no word.
    """
    recognition = Recognition(word_search(model, tokenizer, decoding, subnet, graph))
    dev_loss = TokenLoss(loss_objective(model, loss))

    def encode(part: Batch) -> EncoderOutput:
        encoder = model.encode(part.x, part.x_lens, subnet)
        # A part of a longer utterance is among the unscored, so it adds nothing here.
        dev_loss.add(part, subnet, encoder)
        return encoder

    utterances: list[Utterance] = []
    utt2lang: dict[str, str] = {}
    for batch in batches:
        utterances += recognition.utterances(batch.to(model.feature_mean.device), encode)
        utt2lang |= dict.fromkeys(batch.ids, batch.language)
    return quality_of(utterances, utt2lang, subnet, dev_loss.mean, "the set")


class TokenLoss:
    """Accumulates the model's main loss per reference token over the batches of a set."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._total = 0.0
        self._tokens = 0

    def add(
        self, batch: Batch, subnet: Subnet | None, encoder: EncoderOutput, predictor_out: Tensor | None = None
    ) -> None:
        """Add the utterances of a batch that have a loss.

        Args:
            batch: the batch; its unscored utterances are skipped.
            subnet: the subnet that made ``encoder``, None = the max subnet.
            encoder: encoder output for the whole batch.
            predictor_out: (n, U + 1, P) for the n utterances that have a loss, None if it has not been computed yet.
        """
        scored = scored_part(batch, encoder)
        if scored is None:
            return
        part, encoded = scored
        inputs = PassInputs(encoder=encoded, predictor_out=predictor_out)
        name = self._objective.model.main_loss
        output = self._objective(part, subnet, (name,), inputs=inputs)
        self._total += float(output.losses[name].sum())
        self._tokens += part.num_tokens

    @property
    def mean(self) -> float | None:
        """The mean; None if no utterance has a loss, or if the sum is not finite."""
        if not self._tokens or not math.isfinite(self._total):
            return None
        return self._total / self._tokens


def joined_features(batches: Iterable[Batch], seconds: float) -> Tensor:
    """Concatenate utterances to (T, F) features of ``seconds``, repeating them if they are too short together.

    Raises:
        UserError: the set is empty.
    """
    wanted = round(seconds * FRAMES_PER_SECOND)
    pieces: list[Tensor] = []
    frames = 0
    for batch in batches:
        for row, length in zip(batch.x, batch.x_lens.tolist(), strict=True):
            # Padding is left out, so that all of the audio is speech.
            pieces.append(row[:length])
            frames += length
            if frames >= wanted:
                # The slice is a view; its copy frees the frames beyond it.
                return torch.cat(pieces)[:wanted].clone()
    if not frames:
        raise UserError("the dev set has no utterance on which subnets could be timed")
    # Rounded up
    repeats = -(-wanted // frames)
    return torch.cat(pieces).repeat(repeats, 1)[:wanted].clone()


def wer_entry(quality: Quality, checkpoint: str, decoding: str, data: str | None = None) -> WerEntry:
    """Make the entry of a set in results.json.

    Args:
        quality: what was measured on the set.
        checkpoint: name of the checkpoint that was measured.
        decoding: the search in words (`slimasr.decoding.decode.describe`).
        data: fingerprint of the set (`slimasr.data.identity.digests.Identity`), None if it is not known.
    """
    return with_languages(quality.wer.wer_entry().measured(checkpoint, decoding, data), quality.languages)


def loss_objective(model: SpeechModel, loss: LossConfig) -> Objective:
    """Build the objective of a model's main loss outside training.

    There are no alignments here, so the loss of the full lattice replaces the restricted one. Extracted models lack the
    heads of the pruned loss, so it replaces that one for them. CTC models have none of these losses.
    """
    loss = standalone_loss(loss)
    if loss.transducer == "pruned" and not hasattr(model, "simple_am_head"):
        loss = loss.model_copy(update={"transducer": "full"})
    return Objective(model, loss).eval()
