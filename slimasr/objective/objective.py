"""The objective joins model and losses in one module, which maps a batch and a subnet to losses per utterance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from slimasr.config.loss import LossConfig
from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.encoders.base import EncoderOutput
from slimasr.losses.ctc import ctc_loss
from slimasr.losses.frame_targets import IGNORED, frame_divergence, frame_loss, frame_posteriors
from slimasr.models.base import SpeechModel
from slimasr.models.transducer import Transducer
from slimasr.objective.passes import PassInputs, PassOutput
from slimasr.objective.restricted import Restriction, restrict, restricted_loss
from slimasr.objective.scores import Lattice, Scored, score_full, score_pruned, simple_loss
from slimasr.objective.teaching import Learnt, NodeTeaching, Teaching, learn, teach
from slimasr.supernet.subnet import Subnet, refuse_pathway

Found = dict[str, tuple[Tensor, Tensor]]
"""Loss name -> its (N,) values, and the (N,) units that they sum over."""


class Objective(nn.Module):
    """The module that computes the losses of one subnet on one batch, and to which ``functional_call`` is applied.

    Loss names: ``transducer`` (full, pruned or restricted, see ``loss.transducer``), ``ctc`` (of a CTC model's output,
    or of a transducer's auxiliary head), ``auxiliary`` (frame targets, summed over the places of ``loss.auxiliary``
    that the subnet has), and for a pass that has a teacher ``distillation``, whose true value is logged as
    ``divergence``, and ``frame_distillation`` (KL of the posteriors at the output). The model's kind decides which of
    them it has: a CTC model has no lattice, so ``transducer`` and ``distillation`` need a transducer.
    """

    def __init__(self, model: SpeechModel, config: LossConfig) -> None:
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

        Raises:
            ValueError: the subnet is a pathway, which is cut out of the model first (`slimasr.models.prepared`).
        """
        # Here as well as in the encoder, whose output another pass may have computed.
        refuse_pathway(subnet)
        inputs = inputs or PassInputs()
        encoder = inputs.encoder
        if encoder is None:
            taps = (*inputs.taps, *self.taps_of(subnet, names))
            encoder = self.model.encode(batch.x, batch.x_lens, subnet, taps, inputs.known)
        tokens = batch.y_lens.to(batch.y.device, torch.float32, non_blocking=True)
        taught = _taught(inputs.teacher, names, batch, encoder)
        # Sums and logs follow the order of these losses.
        found: Found = {}
        nodes = None
        if "transducer" in names:
            lattice = self._lattice(batch, encoder, inputs.predictor_out, subnet)
            if self.config.transducer == "restricted":
                restriction = inputs.restriction or restrict(self.config, batch, encoder.lens)
                found["transducer"] = restricted_loss(lattice, restriction, self.config), tokens
            else:
                scored, learnt = self._transducer(lattice, None if taught is None else taught.nodes, progress)
                found["transducer"] = scored.loss, tokens
                found |= {} if learnt is None else _distances(learnt)
                if inputs.teaches and self.config.distillation is not None:
                    nodes = teach(self.config.distillation, scored)
        if "ctc" in names:
            logits = self.model.ctc_logits(encoder.out, subnet)
            found["ctc"] = ctc_loss(logits, encoder.lens, batch.y, batch.y_lens), tokens
        more, posteriors = self._frames(batch, encoder, subnet, names, inputs.teaches, taught)
        found |= more
        losses = {name: loss for name, (loss, _) in found.items()}
        frames = encoder.lens.to(batch.y.device, torch.float32, non_blocking=True)
        units = {name: self._units(own, tokens, frames) for name, (_, own) in found.items()}
        return PassOutput(losses, units, encoder, Teaching(nodes, posteriors) if inputs.teaches else None)

    @property
    def transducer(self) -> Transducer:
        """The model as a transducer, which losses over the lattice need."""
        assert isinstance(self.model, Transducer), "only a transducer has a lattice"
        return self.model

    def restriction(self, batch: Batch) -> Restriction | None:
        """Open the windows of the restricted loss for all passes over this batch; None with any other loss."""
        if self.model.main_loss != "transducer" or self.config.transducer != "restricted":
            return None
        return restrict(self.config, batch, self.model.encoder.output_lens(batch.x_lens))

    def taps_of(self, subnet: Subnet | None, names: Sequence[str]) -> tuple[int, ...]:
        """Return the ids of the encoder layers whose hidden states the losses of these names need."""
        return tuple(layer for _, layer in self._places(subnet)) if "auxiliary" in names else ()

    def _places(self, subnet: Subnet | None) -> list[tuple[int, int]]:
        """Return the layers after which frames of a subnet are classified: their number in its path, and their id."""
        if self.config.auxiliary is None:
            return []
        path = self.model.encoder.path_of(subnet)
        return [(count, path[count - 1]) for count in self.config.auxiliary.layers if count <= len(path)]

    def weight_of(self, batch: Batch) -> float:
        """Return the weight of a batch in the mean of several batches' losses, by ``loss.per``.

        With tokens as weights, a loss per token is one sum over all batches and processes, divided by all their tokens,
        and likewise with frames of the encoder and with utterances. Losses per unit are weighted by tokens.
        """
        if self.config.per == "utterance":
            return float(len(batch))
        if self.config.per == "frame":
            return float(self.model.encoder.output_lens(batch.x_lens).sum().clamp(min=1))
        return float(max(1, batch.num_tokens))

    def _units(self, own: Tensor, tokens: Tensor, frames: Tensor) -> Tensor:
        """Return the (N,) units by which a loss is divided (``loss.per``).

        Args:
            own: (N,) what the loss sums over: tokens, frames or nodes.
            tokens: (N,) tokens of the utterances.
            frames: (N,) frames of the encoder.
        """
        units = {"unit": own, "token": tokens, "frame": frames, "utterance": torch.ones_like(tokens)}
        return units[self.config.per]

    def _lattice(
        self, batch: Batch, encoder: EncoderOutput, predictor_out: Tensor | None, subnet: Subnet | None
    ) -> Lattice:
        """Build the lattice, and run the predictor unless the pass shares its output with others."""
        if predictor_out is None:
            predictor_out = self.transducer.predictor_out(batch.y)
        return Lattice.of(self.transducer, batch, encoder, predictor_out, subnet)

    def _transducer(
        self, lattice: Lattice, taught: NodeTeaching | None, progress: float
    ) -> tuple[Scored, Learnt | None]:
        """Compute the full or pruned transducer loss, and the distance to a teacher if there is one."""
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

    def _frames(
        self,
        batch: Batch,
        encoder: EncoderOutput,
        subnet: Subnet | None,
        names: Sequence[str],
        teaches: bool,
        taught: Teaching | None,
    ) -> tuple[Found, Tensor | None]:
        """Compute the losses of frames, and the (N, T, S) log posteriors for those that learn from this pass."""
        found: Found = {}
        config = self.config.auxiliary
        teaches = teaches and config is not None and config.teaching_weight > 0
        learns = "frame_distillation" in names
        if config is None or not (teaches or learns or "auxiliary" in names):
            return found, None
        # The scores at the output serve both losses and later passes.
        logits = self.model.frame_logits(encoder.out, None, subnet) if config.output else None
        if "auxiliary" in names:
            found["auxiliary"] = self._auxiliary(encoder, batch, subnet, logits)
        if learns:
            assert logits is not None and taught is not None and taught.frames is not None, "a teacher at the output"
            lens = encoder.lens.to(logits.device, non_blocking=True)
            inside = torch.arange(logits.shape[1], device=logits.device) < lens.unsqueeze(1)
            found["frame_distillation"] = frame_divergence(logits, taught.frames, inside), lens.to(torch.float32)
        return found, frame_posteriors(logits) if teaches and logits is not None else None

    def _auxiliary(
        self, encoder: EncoderOutput, batch: Batch, subnet: Subnet | None, output: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Compute the (N,) cross-entropy, and count the (N,) frames that have a target.

        Args:
            output: (N, T, S) scores at the output of the encoder, None = frames are not classified there.
        """
        assert batch.targets is not None, "the loss of frame targets needs alignments"
        # Padding behind the longest utterance goes.
        targets = batch.targets[:, : encoder.out.shape[1]]
        frames = (targets != IGNORED).sum(dim=1).to(torch.float32)
        total = torch.zeros_like(frames)
        for count, layer in self._places(subnet):
            total = total + frame_loss(self.model.frame_logits(encoder.taps[layer], count, subnet), targets)
        if output is not None:
            total = total + frame_loss(output, targets)
        return total, frames


def _taught(teacher: PassOutput | None, names: Sequence[str], batch: Batch, encoder: EncoderOutput) -> Teaching | None:
    """Cut what the teacher passes on to the frames and labels of this pass; None if no loss needs it."""
    if not {"distillation", "frame_distillation"} & set(names):
        return None
    # A teacher has run on more utterances, some of which may be longer than all of this pass.
    assert teacher is not None and teacher.teaching is not None, "distillation needs a teacher"
    return teacher.teaching.crop(encoder.out.shape[1], batch.y.shape[1] + 1)


def _distances(learnt: Learnt) -> Found:
    """Return the losses of a student at nodes of the lattice: what is differentiated, and the value for the logs."""
    return {
        "distillation": (learnt.surrogate, learnt.nodes),
        "divergence": (learnt.divergence, learnt.nodes),
    }


def _scores(lattice: Lattice, ranges: Tensor | None, taught: NodeTeaching | None) -> tuple[Tensor, Learnt | None]:
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


def loss_weights(config: Config) -> dict[str, float]:
    """Return names and weights of the losses with which every subnet is trained and validated."""
    loss = config.loss
    # Of a CTC model, the main loss is CTC itself, and there is no auxiliary one.
    weights = {config.model.main_loss: 1.0}
    if loss.ctc_weight > 0:
        weights["ctc"] = loss.ctc_weight
    if loss.auxiliary is not None:
        weights["auxiliary"] = loss.auxiliary.aux_weight
    return weights
