"""The objective: model and losses as one module, from a batch and a subnet to one loss per utterance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from slimasr.config.loss import LossConfig
from slimasr.data.batch import Batch
from slimasr.encoders.base import EncoderOutput
from slimasr.losses.ctc import ctc_loss
from slimasr.losses.frame_targets import IGNORED, frame_loss, frame_targets
from slimasr.models.transducer import Transducer
from slimasr.objective.passes import PassInputs, PassOutput
from slimasr.objective.scores import Lattice, Scored, score_full, score_pruned, simple_loss
from slimasr.objective.teaching import Learnt, Teaching, learn, teach
from slimasr.supernet.subnet import Subnet


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
        inputs: PassInputs | None = None,
    ) -> PassOutput:
        """Losses by name, each (N,) float32 and summed over an utterance.

        Args:
            progress: fraction of the run done, for the pruned loss's warm-up; 1 = after it.
            inputs: what passes of one step share or learn from each other, None = nothing.
        """
        inputs = inputs or PassInputs()
        encoder = inputs.encoder
        if encoder is None:
            taps = (*inputs.taps, *self.taps_of(subnet, names))
            encoder = self.model.encode(batch.x, batch.x_lens, subnet, taps)
        tokens = self._label_units(batch)
        # Loss name -> its (N,) values, and the (N,) units that they sum over. Sums and logs follow this order.
        found: dict[str, tuple[Tensor, Tensor]] = {}
        teaching = None
        if "transducer" in names:
            lattice = self._lattice(batch, encoder, inputs.predictor_out, subnet)
            taught = self._taught(lattice, inputs.teacher) if "distillation" in names else None
            scored, learnt = self._transducer(lattice, taught, progress)
            found["transducer"] = scored.loss, tokens
            if learnt is not None:
                found["distillation"] = learnt.surrogate, learnt.nodes
                found["divergence"] = learnt.divergence, learnt.nodes
            if inputs.teaches and self.config.distillation is not None:
                teaching = teach(self.config.distillation, scored)
        if "ctc" in names:
            logits = self.model.ctc_logits(encoder.out, subnet)
            found["ctc"] = ctc_loss(logits, encoder.lens, batch.y, batch.y_lens), tokens
        if "auxiliary" in names:
            found["auxiliary"] = self._auxiliary(encoder, batch, subnet)
        losses = {name: loss for name, (loss, _) in found.items()}
        units = {name: counted for name, (_, counted) in found.items()}
        return PassOutput(losses, units, encoder, teaching)

    def taps_of(self, subnet: Subnet | None, names: Sequence[str]) -> tuple[int, ...]:
        """Encoder layers whose hidden states the losses of these names need."""
        if self.config.auxiliary is None or "auxiliary" not in names:
            return ()
        path = self.model.encoder.path_of(subnet)
        return tuple(count - 1 for count in self.config.auxiliary.layers if count - 1 in path)

    def _label_units(self, batch: Batch) -> Tensor:
        """(N,) units of the losses over labels: their tokens, or 1 where the recipe averages over utterances."""
        tokens = batch.y_lens.to(torch.float32)
        per_utterance = self.config.distillation is not None and self.config.distillation.per == "utterance"
        return torch.ones_like(tokens) if per_utterance else tokens

    def _lattice(
        self, batch: Batch, encoder: EncoderOutput, predictor_out: Tensor | None, subnet: Subnet | None
    ) -> Lattice:
        if predictor_out is None:
            predictor_out = self.model.predictor(batch.y)
        return Lattice.of(self.model, batch, encoder, predictor_out, subnet)

    def _taught(self, lattice: Lattice, teacher: PassOutput | None) -> Teaching:
        """What the teacher hands on, at the frames and labels of this pass."""
        assert teacher is not None and teacher.teaching is not None, "distillation needs a teacher"
        return teacher.teaching.crop(lattice.am.shape[1], lattice.lm.shape[1])

    def _transducer(self, lattice: Lattice, taught: Teaching | None, progress: float) -> tuple[Scored, Learnt | None]:
        """The transducer loss that the recipe asks for, and the distance to a teacher where there is one."""
        if self.config.transducer == "full":
            logits, learnt = _scores(lattice, None, taught)
            return score_full(lattice, logits, self.config), learnt
        simple, ranges = simple_loss(lattice, self.config)
        if taught is not None and taught.config.lattice == "teacher":
            assert taught.ranges is not None, "a teacher with a pruned loss has a pruned lattice"
            ranges = taught.ranges
        logits, learnt = _scores(lattice, ranges, taught)
        return score_pruned(lattice, logits, simple, ranges, self.config, progress), learnt

    def _auxiliary(self, encoder: EncoderOutput, batch: Batch, subnet: Subnet | None) -> tuple[Tensor, Tensor]:
        """(N,) loss, and (N,) frames that have a target."""
        assert batch.alignment is not None, "frame targets need the alignments that loss.auxiliary names"
        targets = frame_targets(batch.alignment, batch.y, encoder.lens, encoder.out.shape[1])
        frames = (targets != IGNORED).sum(dim=1).to(torch.float32)
        total = torch.zeros_like(frames)
        for layer in self.taps_of(subnet, ("auxiliary",)):
            total = total + frame_loss(self.model.frame_logits(encoder.taps[layer], layer, subnet), targets)
        return total, frames


def _scores(lattice: Lattice, ranges: Tensor | None, taught: Teaching | None) -> tuple[Tensor, Learnt | None]:
    """The joiner's scores at the nodes at ``ranges`` (None = all), and their distance to a teacher's."""
    logits = lattice.logits(ranges)
    if taught is None:
        return logits, None
    return learn(lattice, logits, ranges, taught)


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
