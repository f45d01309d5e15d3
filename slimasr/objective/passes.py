"""What one forward pass of the objective may be given, and what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from slimasr.encoders.base import EncoderOutput
from slimasr.objective.teaching import Teaching


@dataclass(frozen=True)
class PassOutput:
    """What one forward pass returns.

    Attributes:
        losses: name -> (N,), summed over an utterance. Names without a weight are for the logs.
        units: name -> (N,), how many tokens or lattice nodes each of them sums over.
        encoder: the encoder's output.
        teaching: what the pass hands to its students, where any was announced.
    """

    losses: dict[str, Tensor] = field(default_factory=dict)
    units: dict[str, Tensor] = field(default_factory=dict)
    encoder: EncoderOutput | None = None
    teaching: Teaching | None = None

    def total(self, weights: Mapping[str, float]) -> Tensor:
        """The weighted sum of the losses' means per unit, a scalar."""
        means = [w * self.losses[name].sum() / self.units[name].sum().clamp(min=1) for name, w in weights.items()]
        return torch.stack(means).sum()

    def detach(self) -> PassOutput:
        """The same values outside the graph: what a teacher hands on."""
        losses = {name: value.detach() for name, value in self.losses.items()}
        return replace(self, losses=losses, encoder=None if self.encoder is None else self.encoder.detach())

    def select(self, rows: Sequence[int]) -> PassOutput:
        """The utterances with these indices."""
        index = list(rows)
        return PassOutput(
            {name: value[index] for name, value in self.losses.items()},
            {name: value[index] for name, value in self.units.items()},
            None if self.encoder is None else self.encoder.select(index),
            None if self.teaching is None else self.teaching.select(index),
        )


@dataclass(frozen=True)
class PassInputs:
    """What a pass is given besides its batch and its subnet; whatever is None the pass computes itself.

    Attributes:
        taps: encoder layers whose hidden states the output holds; an ``encoder`` that is given has its own.
        teacher: detached output, for the utterances of this pass, of the pass that teaches it.
        teaches: later passes learn from this one, as ``loss.distillation`` says.
        encoder: output of the encoder for the pass's subnet, where passes share it.
        predictor_out: (N, U + 1, P) output of the predictor, where passes share it.
    """

    taps: tuple[int, ...] = ()
    teacher: PassOutput | None = None
    teaches: bool = False
    encoder: EncoderOutput | None = None
    predictor_out: Tensor | None = None
