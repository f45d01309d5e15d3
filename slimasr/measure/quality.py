"""WER and loss of one subnet on a set, batch by batch, and the audio that subnets are timed on."""

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
"""Gives a set's batches anew at every call, so that no set need fit into memory."""


@dataclass(frozen=True)
class Quality:
    """How well a subnet does on one set.

    Attributes:
        loss: transducer loss per reference token of the utterances that have one (`Batch.unscored`); None where none
            has, or where it is not finite.
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
    """WER, by the search that the recipe names, with its bootstrap interval, and loss; the encoder runs once for both.

    A model without training-only heads is given the full-lattice loss.

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
    """The transducer loss per reference token of a set, batch by batch."""

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
            predictor_out: (n, U + 1, P) for the utterances that have a loss, where it is known already.
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
        """None where no utterance has a loss, or where the sum is not finite."""
        return self._total / self._tokens if self._tokens and math.isfinite(self._total) else None


def joined_features(batches: Iterable[Batch], seconds: float) -> Tensor:
    """(T, F): real utterances one after the other, over and over if need be, cut to ``seconds``.

    Raises:
        UserError: the set is empty.
    """
    wanted = round(seconds * FRAMES_PER_SECOND)
    pieces, frames = list[Tensor](), 0
    for batch in batches:
        for row, length in zip(batch.x, batch.x_lens.tolist(), strict=True):
            pieces.append(row[:length])
            frames += length
            if frames >= wanted:
                return torch.cat(pieces)[:wanted].clone()
    if not frames:
        raise UserError("the dev set has no utterance to time the subnets on")
    return torch.cat(pieces).repeat(-(-wanted // frames), 1)[:wanted].clone()


def wer_entry(quality: Quality, checkpoint: str, decoding: DecodingConfig, data: str | None = None) -> WerEntry:
    """The entry of a set in results.json.

    Args:
        data: fingerprint of the set (`slimasr.data.identity.Identity`), None where it is not known.
    """
    return quality.wer.wer_entry().measured(checkpoint, describe(decoding), data)


def loss_objective(model: Transducer, loss: LossConfig) -> Objective:
    """What measures a recipe's transducer loss; the full-lattice one for models without the pruned one's heads."""
    if loss.transducer == "pruned" and not hasattr(model, "simple_am_head"):
        loss = loss.model_copy(update={"transducer": "full"})
    return Objective(model, loss).eval()
