"""The transducer's lattice in one pass: the joiner's scores at all nodes or in a pruned band, and the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from slimasr.config.loss import LossConfig
from slimasr.data.batches.batch import Batch
from slimasr.encoders.base import EncoderOutput
from slimasr.losses import transducer
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet


@dataclass(frozen=True)
class Lattice:
    """Both sides of the joiner for one subnet and one batch.

    Attributes:
        encoder_out: (N, T, C) encoder output of the subnet.
        predictor_out: (N, U + 1, P) predictor output.
        am: (N, T, J) projected encoder output.
        lm: (N, U + 1, J) projected predictor output.
        limits: (N, 4) rows ``[0, 0, U, T]``, on the CPU, as are the lengths from which they are made.
    """

    model: Transducer
    batch: Batch
    subnet: Subnet | None
    encoder_out: Tensor
    predictor_out: Tensor
    am: Tensor
    lm: Tensor
    limits: Tensor

    @classmethod
    def of(
        cls, model: Transducer, batch: Batch, encoder: EncoderOutput, predictor_out: Tensor, subnet: Subnet | None
    ) -> Lattice:
        """Build the lattice of a subnet's encoder output and the (N, U + 1, P) predictor output."""
        return cls(
            model,
            batch,
            subnet,
            encoder.out,
            predictor_out,
            am=model.project_encoder(encoder.out, subnet),
            lm=model.joiner.project_predictor(predictor_out),
            limits=boundary(encoder.lens, batch.y_lens),
        )

    def select(self, rows: Sequence[int]) -> Lattice:
        """Select the utterances with these indices, with padding trimmed to the longest of them."""
        chosen = torch.tensor(list(rows), dtype=torch.int64)
        limits = self.limits[chosen]
        frames = int(limits[:, 3].max())
        positions = int(limits[:, 2].max()) + 1
        index = chosen.to(self.am.device, non_blocking=True)
        return replace(
            self,
            batch=self.batch.select(rows),
            encoder_out=self.encoder_out[index, :frames],
            predictor_out=self.predictor_out[index, :positions],
            am=self.am[index, :frames],
            lm=self.lm[index, :positions],
            limits=limits,
        )

    def logits(self, ranges: Tensor | None) -> Tensor:
        """Compute (N, T, S, V) scores at the (N, T, S) positions, None = (N, T, U + 1, V) at all of them."""
        if ranges is None:
            # (N, T, 1, J) and (N, 1, U + 1, J) broadcast over the nodes.
            return cast(Tensor, self.model.joiner(self.am.unsqueeze(2), self.lm.unsqueeze(1)))
        am, lm = transducer.do_rnnt_pruning(self.am, self.lm, ranges)
        return cast(Tensor, self.model.joiner(am, lm))

    def positions(self, ranges: Tensor | None) -> Tensor:
        """Return the (N, T, S) label positions of the nodes, from 0 (no label emitted) to U."""
        if ranges is not None:
            return ranges
        count = self.lm.shape[1]
        return torch.arange(count, device=self.lm.device).expand(*self.am.shape[:2], count)

    def valid(self, ranges: Tensor | None) -> Tensor:
        """Return which nodes are inside an utterance's own frames and labels, (N, T, S) bool."""
        # Columns 2 and 3 of the limits are U and T of each utterance. Position U is inside: all labels are emitted.
        frames = torch.arange(self.am.shape[1], device=self.am.device)
        limits = self.limits.to(self.am.device, non_blocking=True)
        in_time = frames < limits[:, 3, None]
        return in_time.unsqueeze(2) & (self.positions(ranges) <= limits[:, 2, None, None])

    def next_tokens(self, ranges: Tensor | None) -> Tensor:
        """Return the reference's next token at each node, (N, T, S), -1 after its last one."""
        positions = self.positions(ranges)
        ended = positions >= self.limits[:, 2, None, None].to(positions.device, non_blocking=True)
        # One more column, so that position U can be gathered; its value is masked below.
        labels = torch.nn.functional.pad(self.batch.y, (0, 1))
        tokens = labels.gather(1, positions.clamp(max=labels.shape[1] - 1).flatten(1)).view_as(positions)
        return tokens.masked_fill(ended, -1)


@dataclass(frozen=True)
class Scored:
    """The (N,) transducer loss of a pass, and the nodes and scores from which it was computed.

    ``ranges`` is None if these are all nodes.
    """

    loss: Tensor
    lattice: Lattice
    logits: Tensor
    ranges: Tensor | None


def score_full(lattice: Lattice, logits: Tensor, config: LossConfig) -> Scored:
    """Compute the transducer loss over all nodes, from their (N, T, U + 1, V) scores."""
    loss = transducer.rnnt_loss(
        logits,
        lattice.batch.y,
        lattice.model.blank_id,
        lattice.limits,
        rnnt_type=config.rnnt_type,
        delay_penalty=config.delay_penalty,
        reduction="none",
        backend=config.backend,
    )
    return Scored(loss, lattice, logits, None)


def score_pruned(
    lattice: Lattice, logits: Tensor, simple: Tensor, ranges: Tensor, config: LossConfig, progress: float
) -> Scored:
    """Add the simple and the pruned loss, weighted by the progress of the warm-up.

    Args:
        logits: (N, T, S, V) scores at the positions kept.
        simple: (N,) simple loss.
        ranges: (N, T, S) positions kept.
        progress: fraction of the run done.
    """
    pruned = transducer.rnnt_loss_pruned(
        logits,
        lattice.batch.y,
        ranges,
        lattice.model.blank_id,
        lattice.limits,
        rnnt_type=config.rnnt_type,
        delay_penalty=config.delay_penalty,
        reduction="none",
        backend=config.backend,
    )
    # Early in training the simple loss, which chooses the positions, has weight 1 and the pruned one 0.1. At the end of
    # the warm-up, the weights are `simple_scale` and 1.
    faded = 1.0 if config.warmup == 0 else min(1.0, progress / config.warmup)
    simple_scale = 1.0 - faded * (1.0 - config.simple_scale)
    return Scored(simple_scale * simple + (0.1 + 0.9 * faded) * pruned, lattice, logits, ranges)


def simple_loss(lattice: Lattice, config: LossConfig) -> tuple[Tensor, Tensor]:
    """Compute the (N,) smoothed loss of the additive joiner, and the (N, T, S) positions kept for the full joiner."""
    # The gradients are occupation probabilities of the arcs, which show where the full joiner is needed.
    model = lattice.model
    limits = lattice.limits
    loss, (px_grad, py_grad) = transducer.rnnt_loss_smoothed(
        model.simple_lm(lattice.predictor_out),
        model.simple_am(lattice.encoder_out, model.width_of(lattice.subnet)),
        lattice.batch.y,
        model.blank_id,
        lm_only_scale=config.lm_scale,
        am_only_scale=config.am_scale,
        boundary=limits,
        rnnt_type=config.rnnt_type,
        delay_penalty=config.delay_penalty,
        reduction="none",
        return_grad=True,
        backend=config.backend,
    )
    ranges = transducer.get_rnnt_prune_ranges(px_grad, py_grad, limits, config.prune_range, backend=config.backend)
    return loss, ranges


def boundary(encoder_out_lens: Tensor, y_lens: Tensor) -> Tensor:
    """Return (N, 4) int64 rows ``[0, 0, U, T]``: where each utterance's lattice begins and ends."""
    zeros = torch.zeros_like(y_lens)
    return torch.stack([zeros, zeros, y_lens, encoder_out_lens], dim=1).to(torch.int64)
