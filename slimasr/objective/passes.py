"""The inputs that one forward pass of the objective accepts besides its batch, and its output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from slimasr.encoders.base import EncoderOutput, Known
from slimasr.objective.restricted import Restriction
from slimasr.objective.teaching import Teaching, row_index


@dataclass(frozen=True)
class PassOutput:
    """The output of one forward pass.

    Attributes:
        losses: name -> (N,), summed over an utterance. Names without a weight are for the logs.
        units: name -> (N,), the tokens, frames or lattice nodes that each of them sums over, or what all
            losses are divided by (``loss.per``).
        encoder: the encoder's output.
        teaching: what the pass passes on to its students; None unless ``PassInputs.teaches`` was set.
    """

    losses: dict[str, Tensor] = field(default_factory=dict)
    units: dict[str, Tensor] = field(default_factory=dict)
    encoder: EncoderOutput | None = None
    teaching: Teaching | None = None

    def total(self, weights: Mapping[str, float]) -> Tensor:
        """Return the weighted sum of the losses' means per unit, a scalar."""
        # Each loss is divided by its own units. At least one unit: a batch may have no token, or no aligned frame.
        means = [w * self.losses[name].sum() / self.units[name].sum().clamp(min=1) for name, w in weights.items()]
        return torch.stack(means).sum()

    def detach(self) -> PassOutput:
        """Return the same values outside the graph, as a teacher passes them on."""
        # Units are counts and teaching is computed without a graph, so neither holds one.
        losses = {name: value.detach() for name, value in self.losses.items()}
        encoder = None if self.encoder is None else self.encoder.detach()
        return replace(self, losses=losses, encoder=encoder)

    def select(self, rows: Sequence[int]) -> PassOutput:
        """Select the utterances with these indices."""

        def chosen(values: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: value[row_index(rows, value.device)] for name, value in values.items()}

        return PassOutput(
            chosen(self.losses),
            chosen(self.units),
            None if self.encoder is None else self.encoder.select(rows),
            None if self.teaching is None else self.teaching.select(rows),
        )


@dataclass(frozen=True)
class PassInputs:
    """The inputs of a pass besides its batch and its subnet. The pass computes itself whatever is None.

    Attributes:
        taps: encoder layers whose hidden states the output holds; an ``encoder`` that is given has its own.
        teacher: detached output, for the utterances of this pass, of the pass that teaches it.
        teaches: whether later passes learn from this one (``loss.distillation``, ``loss.auxiliary``).
        encoder: output of the encoder for the pass's subnet, if passes share it.
        predictor_out: (N, U + 1, P) output of the predictor, if passes share it.
        restriction: windows of the restricted loss for the utterances of this pass, if passes share them.
        known: what encoder layers compute from their weights alone, if passes share it.
    """

    taps: tuple[int, ...] = ()
    teacher: PassOutput | None = None
    teaches: bool = False
    encoder: EncoderOutput | None = None
    predictor_out: Tensor | None = None
    restriction: Restriction | None = None
    known: Known | None = None
