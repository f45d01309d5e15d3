"""The objective joins model and losses in one module, which maps a batch and a subnet to losses per utterance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from slimasr.config.loss import LossConfig
from slimasr.data.batch import Batch
from slimasr.encoders.base import EncoderOutput
from slimasr.losses.ctc import ctc_loss
from slimasr.losses.frame_targets import IGNORED, frame_loss
from slimasr.models.transducer import Transducer
from slimasr.objective.passes import PassInputs, PassOutput
from slimasr.objective.scores import Lattice, Scored, score_full, score_pruned, simple_loss
from slimasr.objective.teaching import Learnt, Teaching, learn, teach
from slimasr.supernet.subnet import Subnet


class Objective(nn.Module):
    """The module that computes the losses of one subnet on one batch, and to which ``functional_call`` is applied.

    Loss names: ``transducer`` (full or pruned, see ``loss.transducer``), ``ctc``, ``auxiliary`` (frame targets at those
    of its layers that the subnet runs, summed over layers), and for a pass that has a teacher ``distillation``, whose
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
        """Compute losses by name, each (N,) float32 and summed over an utterance.

        Args:
            batch: N utterances, each of which has at least one alignment (`scored_part`).
            subnet: the subnet that runs, None = the whole network.
            names: the losses to compute; without any, the encoder runs alone.
            progress: fraction of the run done, for the pruned loss's warm-up; 1 = after it.
            inputs: what passes of one step share or learn from each other, None = nothing.
        """
        inputs = inputs or PassInputs()
        encoder = inputs.encoder
        if encoder is None:
            taps = (*inputs.taps, *self.taps_of(subnet, names))
            encoder = self.model.encode(batch.x, batch.x_lens, subnet, taps)
        tokens = batch.y_lens.to(batch.y.device, torch.float32, non_blocking=True)
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
        units = {name: self._units(own, tokens) for name, (_, own) in found.items()}
        return PassOutput(losses, units, encoder, teaching)

    def taps_of(self, subnet: Subnet | None, names: Sequence[str]) -> tuple[int, ...]:
        """Return the encoder layers, counted from 0, whose hidden states the losses of these names need."""
        if self.config.auxiliary is None or "auxiliary" not in names:
            return ()
        # Recipes count layers from 1: the state after `count` layers is that of layer count - 1.
        path = self.model.encoder.path_of(subnet)
        return tuple(count - 1 for count in self.config.auxiliary.layers if count - 1 in path)

    def _units(self, own: Tensor, tokens: Tensor) -> Tensor:
        """Return the (N,) units by which a loss is divided (``loss.per``).

        Args:
            own: (N,) what the loss sums over: tokens, frames or nodes.
            tokens: (N,) tokens of the utterances.
        """
        if self.config.per == "unit":
            return own
        return tokens if self.config.per == "token" else torch.ones_like(tokens)

    def _lattice(
        self, batch: Batch, encoder: EncoderOutput, predictor_out: Tensor | None, subnet: Subnet | None
    ) -> Lattice:
        """Build the lattice, and run the predictor unless the pass shares its output with others."""
        if predictor_out is None:
            predictor_out = self.model.predictor(batch.y)
        return Lattice.of(self.model, batch, encoder, predictor_out, subnet)

    def _taught(self, lattice: Lattice, teacher: PassOutput | None) -> Teaching:
        """Cut what the teacher passes on to the frames and labels of this pass."""
        # A teacher has run on more utterances, some of which may be longer than all of this pass.
        assert teacher is not None and teacher.teaching is not None, "distillation needs a teacher"
        return teacher.teaching.crop(lattice.am.shape[1], lattice.lm.shape[1])

    def _transducer(self, lattice: Lattice, taught: Teaching | None, progress: float) -> tuple[Scored, Learnt | None]:
        """Compute the configured transducer loss, and the distance to a teacher if there is one."""
        if self.config.transducer == "full":
            logits, learnt = _scores(lattice, None, taught)
            return score_full(lattice, logits, self.config), learnt
        simple, ranges = simple_loss(lattice, self.config)
        if taught is not None and taught.config.lattice == "teacher":
            assert taught.ranges is not None, "a teacher with a pruned loss has a pruned lattice"
            # `learn` compares ranges by identity: this very tensor makes both losses use the same scores.
            ranges = taught.ranges
        logits, learnt = _scores(lattice, ranges, taught)
        return score_pruned(lattice, logits, simple, ranges, self.config, progress), learnt

    def _auxiliary(self, encoder: EncoderOutput, batch: Batch, subnet: Subnet | None) -> tuple[Tensor, Tensor]:
        """Compute the (N,) loss, and count the (N,) frames that have a target."""
        assert batch.targets is not None, "the loss of frame targets needs alignments"
        # Padding behind the longest utterance goes.
        targets = batch.targets[:, : encoder.out.shape[1]]
        frames = (targets != IGNORED).sum(dim=1).to(torch.float32)
        total = torch.zeros_like(frames)
        for layer in self.taps_of(subnet, ("auxiliary",)):
            total = total + frame_loss(self.model.frame_logits(encoder.taps[layer], layer, subnet), targets)
        return total, frames


def _scores(lattice: Lattice, ranges: Tensor | None, taught: Teaching | None) -> tuple[Tensor, Learnt | None]:
    """Compute the joiner's scores at the nodes at ``ranges`` (None = all), and their distance to a teacher's."""
    logits = lattice.logits(ranges)
    if taught is None:
        return logits, None
    return learn(lattice, logits, ranges, taught)


def scored_part(batch: Batch, encoder: EncoderOutput) -> tuple[Batch, EncoderOutput] | None:
    """Select the utterances that have losses (`Batch.scored_rows`), with their encoder output; None = there are none.

    Others, such as those with more labels than frames, have no alignment, so their loss would be infinite.
    """
    rows = batch.scored_rows
    if len(rows) == len(batch):
        return batch, encoder
    if not rows:
        return None
    return batch.select(rows), encoder.select(rows)


def loss_weights(config: LossConfig) -> dict[str, float]:
    """Return names and weights of the losses with which every subnet is trained and validated."""
    weights = {"transducer": 1.0}
    if config.ctc_weight > 0:
        weights["ctc"] = config.ctc_weight
    if config.auxiliary is not None:
        weights["auxiliary"] = config.auxiliary.aux_weight
    return weights
