"""What a pass passes on to those that learn from it, at nodes of the lattice (paper 2) or frame by frame (paper 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slimasr.config.loss import DistillationConfig
from slimasr.losses.distillation import (
    Divergence,
    TeacherClasses,
    distil,
    distillation_loss,
    target_blank_classes,
    top_classes,
)
from slimasr.objective.scores import Lattice, Scored


def row_index(rows: Sequence[int], device: torch.device) -> Tensor:
    """Return the indices of some utterances as a tensor on a device, without waiting for the copy."""
    return torch.tensor(list(rows), dtype=torch.int64).to(device, non_blocking=True)


@dataclass(frozen=True)
class NodeTeaching:
    """A teacher's distributions at nodes of the lattice.

    Attributes:
        config: how students are compared with it.
        classes: its probabilities at the (N, T, S) nodes.
        ranges: (N, T, S) positions of these nodes, None = all nodes of the lattice.
    """

    config: DistillationConfig
    classes: TeacherClasses
    ranges: Tensor | None

    def select(self, rows: Sequence[int]) -> NodeTeaching:
        """Select the utterances with these indices."""
        index = row_index(rows, self.classes.index.device)
        return self._map(lambda nodes: nodes[index])

    def crop(self, frames: int, positions: int) -> NodeTeaching:
        """Keep the first frames and label positions, which are all that a batch of shorter utterances has.

        A band wider than the lattice begins at position 0 on every frame, so its first positions are the lattice's.
        """
        return self._map(lambda nodes: nodes[:, :frames, :positions])

    def _map(self, cut: Callable[[Tensor], Tensor]) -> NodeTeaching:
        classes = TeacherClasses(cut(self.classes.index), cut(self.classes.log_probs))
        return NodeTeaching(self.config, classes, None if self.ranges is None else cut(self.ranges))


@dataclass(frozen=True)
class Teaching:
    """What a pass passes on to those that learn from it in the same step; no part holds a graph.

    Attributes:
        nodes: its distributions at nodes of the lattice, None = it teaches no lattice.
        frames: (N, T, S) its log posteriors of the frame targets at the output, None = it teaches no frames.
    """

    nodes: NodeTeaching | None = None
    frames: Tensor | None = None

    def select(self, rows: Sequence[int]) -> Teaching:
        """Select the utterances with these indices."""
        return Teaching(
            None if self.nodes is None else self.nodes.select(rows),
            None if self.frames is None else self.frames[row_index(rows, self.frames.device)],
        )

    def crop(self, frames: int, positions: int) -> Teaching:
        """Keep the first frames and label positions, which are all that a batch of shorter utterances has."""
        return Teaching(
            None if self.nodes is None else self.nodes.crop(frames, positions),
            None if self.frames is None else self.frames[:, :frames],
        )


@torch.no_grad()
def teach(config: DistillationConfig, scored: Scored) -> NodeTeaching:
    """Keep the distributions of a pass at nodes of the lattice for those that learn from it."""
    lattice = scored.lattice
    ranges = None if config.lattice == "full" else scored.ranges
    # With a pruned loss and distillation on the full lattice, the joiner runs again at all nodes.
    logits = scored.logits if ranges is scored.ranges else lattice.logits(ranges)
    if config.classes == "target_blank":
        classes = target_blank_classes(logits, lattice.next_tokens(ranges), lattice.model.blank_id)
        return NodeTeaching(config, classes, ranges)
    # (N, T, S, 2): the next token and blank are among the classes even if the teacher finds them improbable.
    required = None
    if config.include_target_blank:
        targets = lattice.next_tokens(ranges)
        required = torch.stack([targets, torch.full_like(targets, lattice.model.blank_id)], dim=3)
    return NodeTeaching(config, top_classes(logits, config.num_kd_tokens, required), ranges)


@dataclass(frozen=True)
class Learnt:
    """How far a pass is from its teacher.

    Attributes:
        surrogate: (N,) sums over nodes, whose gradient is the divergence's.
        divergence: (N,) sums over nodes, without gradient.
        nodes: (N,) how many nodes both sum over.
    """

    surrogate: Tensor
    divergence: Tensor
    nodes: Tensor


def learn(lattice: Lattice, logits: Tensor, ranges: Tensor | None, teaching: NodeTeaching) -> tuple[Tensor, Learnt]:
    """Compare a pass with its teacher.

    Args:
        lattice: the pass's own lattice.
        logits: (N, T, S, V) the pass's scores at the nodes at ``ranges``.
        ranges: (N, T, S) positions of these nodes, None = all nodes.
        teaching: cut to this pass's utterances, frames and positions.

    Returns:
        The scores from which to compute the transducer loss, and nothing else: if both losses are over the same nodes,
        they share the memory of one gradient (`distil`). The second value is the distance.
    """
    config = teaching.config
    valid = lattice.valid(teaching.ranges)
    divergence = Divergence(config.divergence, config.alpha_min, config.alpha_max, config.iw_clip)
    # The same tensor, or None on both sides: both losses are over the same nodes, and the joiner runs once.
    if teaching.ranges is ranges:
        logits, surrogate, value = distil(logits, teaching.classes, valid, divergence)
    else:
        others = lattice.logits(teaching.ranges)
        surrogate, value = distillation_loss(others, teaching.classes, valid, divergence)
    return logits, Learnt(surrogate, value, valid.sum(dim=(1, 2)).to(surrogate.dtype))
