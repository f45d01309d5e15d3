"""WER and loss of a subnet on a set, and the audio on which subnets are timed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from slimasr.config.loss import LossConfig
from slimasr.config.search import DecodingConfig
from slimasr.data.batch import Batch
from slimasr.data.tokenizer import Tokenizer
from slimasr.decoding.decode import describe
from slimasr.decoding.recognize import Recognition
from slimasr.encoders.base import EncoderOutput
from slimasr.errors import UserError
from slimasr.models.transducer import FRAMES_PER_SECOND, Transducer
from slimasr.objective.objective import Objective, scored_part
from slimasr.objective.passes import PassInputs
from slimasr.results.schema import WerEntry
from slimasr.scoring import Utterance, WerResult, score
from slimasr.supernet.subnet import Subnet

Batches = Callable[[], Iterable[Batch]]
"""Returns a new iteration over a set's batches at every call, so that the set need not fit into memory."""


@dataclass(frozen=True)
class Quality:
    """The recognition quality of a subnet on one set.

    Attributes:
        wer: word error rate.
        loss: transducer loss per reference token, over the utterances that have a loss (`Batch.unscored`); None if
            there are none, or if it is not finite.
    """

    wer: WerResult
    loss: float | None


@torch.inference_mode()
def measure_quality(
    model: Transducer,
    subnet: Subnet,
    batches: Iterable[Batch],
    tokenizer: Tokenizer,
    loss: LossConfig,
    decoding: DecodingConfig,
) -> Quality:
    """Measure the WER with its bootstrap interval, and the loss; the encoder runs once for both.

    For a model without training-only heads, the loss is that of the full lattice.

    Raises:
        UserError: the set is empty or has no word.
    """
    recognition = Recognition(model, subnet, tokenizer, decoding)
    dev_loss = TokenLoss(loss_objective(model, loss))

    def encode(part: Batch) -> EncoderOutput:
        encoder = model.encode(part.x, part.x_lens, subnet)
        dev_loss.add(part, subnet, encoder)
        return encoder

    utterances: list[Utterance] = []
    for batch in batches:
        utterances += recognition.utterances(batch.to(model.feature_mean.device), encode)
    return Quality(score(utterances), dev_loss.mean)


class TokenLoss:
    """Accumulates the transducer loss per reference token over the batches of a set."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._total = 0.0
        self._tokens = 0

    def add(
        self, batch: Batch, subnet: Subnet | None, encoder: EncoderOutput, predictor_out: Tensor | None = None
    ) -> None:
        """Add the utterances of a batch that have a loss.

        Args:
            encoder: output for the whole batch.
            predictor_out: (n, U + 1, P) for the utterances that have a loss, if it has already been computed.
        """
        scored = scored_part(batch, encoder)
        if scored is None:
            return
        part, encoded = scored
        inputs = PassInputs(encoder=encoded, predictor_out=predictor_out)
        output = self._objective(part, subnet, ("transducer",), inputs=inputs)
        self._total += float(output.losses["transducer"].sum())
        self._tokens += part.num_tokens

    @property
    def mean(self) -> float | None:
        """The mean; None if no utterance has a loss, or if the sum is not finite."""
        return self._total / self._tokens if self._tokens and math.isfinite(self._total) else None


def joined_features(batches: Iterable[Batch], seconds: float) -> Tensor:
    """(T, F) features of concatenated utterances, repeated if necessary and cut to ``seconds``.

    Raises:
        UserError: the set is empty.
    """
    wanted = round(seconds * FRAMES_PER_SECOND)
    pieces = list[Tensor]()
    frames = 0
    for batch in batches:
        for row, length in zip(batch.x, batch.x_lens.tolist(), strict=True):
            pieces.append(row[:length])
            frames += length
            if frames >= wanted:
                return torch.cat(pieces)[:wanted].clone()
    if not frames:
        raise UserError("the dev set has no utterance on which subnets could be timed")
    return torch.cat(pieces).repeat(-(-wanted // frames), 1)[:wanted].clone()


def wer_entry(quality: Quality, checkpoint: str, decoding: DecodingConfig, data: str | None = None) -> WerEntry:
    """The entry of a set in results.json.

    Args:
        data: fingerprint of the set (`slimasr.data.identity.Identity`), None if it is not known.
    """
    return quality.wer.wer_entry().measured(checkpoint, describe(decoding), data)


def loss_objective(model: Transducer, loss: LossConfig) -> Objective:
    """The objective of a transducer loss; the full-lattice loss if the model lacks the pruned loss's heads."""
    if loss.transducer == "pruned" and not hasattr(model, "simple_am_head"):
        loss = loss.model_copy(update={"transducer": "full"})
    return Objective(model, loss).eval()
