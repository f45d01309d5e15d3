"""The objective: model and losses as one module, from a batch and a subnet to one loss per utterance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from slimasr.config.schema import LossConfig
from slimasr.data.batch import Batch
from slimasr.encoders.base import EncoderOutput
from slimasr.losses.ctc import ctc_loss
from slimasr.losses.frame_targets import IGNORED, frame_loss, frame_targets
from slimasr.models.transducer import Transducer
from slimasr.objective.scores import Lattice, Scored, score_full, score_pruned, simple_loss
from slimasr.objective.teaching import Learnt, Teaching, learn, teach
from slimasr.supernet.subnet import Subnet


@dataclass(frozen=True)
class PassOutput:
    """What one forward pass gives.

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


class Objective(nn.Module):
    """Losses of one subnet on one batch. The unit to which ``torch.func.functional_call`` is applied.

    Loss names: ``transducer`` (full or pruned, as the recipe says), ``ctc``, ``auxiliary`` (frame targets at those of
    its layers that the subnet runs, summed over layers), and for a pass that has a teacher ``distillation``, whose
    true value is logged as ``divergence``.
    """

    def __init__(self, model: Transducer, config: LossConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config

    def forward(
        self,
        batch: Batch,
        subnet: Subnet | None,
        names: Sequence[str],
        progress: float = 1.0,
        taps: Sequence[int] = (),
        teacher: PassOutput | None = None,
        encoder: EncoderOutput | None = None,
        predictor_out: Tensor | None = None,
        teaches: bool = False,
    ) -> PassOutput:
        """Losses by name, each (N,) float32 and summed over an utterance.

        Args:
            progress: share of the run done, for the pruned loss's warm-up; 1 = after it.
            taps: encoder layers whose hidden states are handed back.
            teacher: detached output, for these utterances, of the pass that teaches this one.
            encoder: output already computed by a method that shares it between passes.
            predictor_out: (N, U + 1, P), likewise.
            teaches: later passes learn from this one, as ``loss.distillation`` says.
        """
        if encoder is None:
            encoder = self.model.encode(batch.x, batch.x_lens, subnet, (*taps, *self.taps_of(subnet, names)))
        tokens = batch.y_lens.to(torch.float32)
        if self.config.distillation is not None and self.config.distillation.per == "utterance":
            tokens = torch.ones_like(tokens)
        losses: dict[str, Tensor] = {}
        units: dict[str, Tensor] = {}
        teaching = None
        if "transducer" in names:
            predictor_out = self.model.predictor(batch.y) if predictor_out is None else predictor_out
            given = None
            if "distillation" in names:
                assert teacher is not None and teacher.teaching is not None, "distillation needs a teacher"
                given = teacher.teaching.crop(encoder.out.shape[1], predictor_out.shape[1])
            scored, learnt = self._transducer(encoder, predictor_out, batch, subnet, progress, given)
            losses["transducer"], units["transducer"] = scored.loss, tokens
            if learnt is not None:
                losses |= {"distillation": learnt.surrogate, "divergence": learnt.divergence}
                units |= {"distillation": learnt.nodes, "divergence": learnt.nodes}
            if teaches and self.config.distillation is not None:
                teaching = teach(self.config.distillation, scored)
        if "ctc" in names:
            logits = self.model.ctc_logits(encoder.out, subnet)
            losses["ctc"] = ctc_loss(logits, encoder.lens, batch.y, batch.y_lens)
            units["ctc"] = tokens
        if "auxiliary" in names:
            losses["auxiliary"], units["auxiliary"] = self._auxiliary(encoder, batch, subnet)
        return PassOutput(losses, units, encoder, teaching)

    def taps_of(self, subnet: Subnet | None, names: Sequence[str]) -> tuple[int, ...]:
        """Encoder layers whose hidden states the losses of these names need."""
        if self.config.auxiliary is None or "auxiliary" not in names:
            return ()
        path = self.model.encoder.path_of(subnet)
        return tuple(count - 1 for count in self.config.auxiliary.layers if count - 1 in path)

    def _transducer(
        self,
        encoder: EncoderOutput,
        predictor_out: Tensor,
        batch: Batch,
        subnet: Subnet | None,
        progress: float,
        given: Teaching | None,
    ) -> tuple[Scored, Learnt | None]:
        config, distillation = self.config, self.config.distillation
        lattice = Lattice.of(self.model, batch, encoder, predictor_out, subnet)
        simple, ranges, learnt = None, None, None
        if config.transducer == "pruned":
            simple, ranges = simple_loss(lattice, encoder, predictor_out, subnet, config)
        if given is not None and distillation is not None and distillation.lattice == "teacher":
            ranges = given.ranges
        logits = lattice.logits(ranges)
        if given is not None:
            assert distillation is not None, "a teacher teaches as loss.distillation says"
            logits, learnt = learn(distillation, lattice, logits, ranges, given)
        if simple is None or ranges is None:
            return score_full(lattice, logits, config), learnt
        return score_pruned(lattice, logits, simple, ranges, config, progress), learnt

    def _auxiliary(self, encoder: EncoderOutput, batch: Batch, subnet: Subnet | None) -> tuple[Tensor, Tensor]:
        """(N,) loss, and (N,) frames that have a target."""
        assert batch.alignment is not None, "frame targets need the alignments that loss.auxiliary names"
        targets = frame_targets(batch.alignment, batch.y, encoder.lens, encoder.out.shape[1])
        frames = (targets != IGNORED).sum(dim=1).to(torch.float32)
        total = torch.zeros_like(frames)
        for layer in self.taps_of(subnet, ("auxiliary",)):
            total = total + frame_loss(self.model.frame_logits(encoder.taps[layer], layer, subnet), targets)
        return total, frames


def scored_part(batch: Batch, encoder: EncoderOutput) -> tuple[Batch, EncoderOutput] | None:
    """The utterances that losses are computed of (`Batch.scored_rows`), with their encoder output; None = none."""
    rows = batch.scored_rows
    if len(rows) == len(batch):
        return batch, encoder
    return (batch.select(rows), encoder.select(rows)) if rows else None


def loss_weights(config: LossConfig) -> dict[str, float]:
    """Names and weights of the losses that every subnet is trained and validated with."""
    weights = {"transducer": 1.0}
    if config.ctc_weight > 0:
        weights["ctc"] = config.ctc_weight
    if config.auxiliary is not None:
        weights["auxiliary"] = config.auxiliary.aux_weight
    return weights
