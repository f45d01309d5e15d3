"""The restricted transducer loss of a batch: windows around its alignment, and what has none takes the full lattice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slimasr.config.loss import LossConfig
from slimasr.data.batches.batch import Batch
from slimasr.losses import transducer
from slimasr.losses.transducer.restricted import EmissionWindows
from slimasr.objective.scores import Lattice, boundary, score_full


@dataclass(frozen=True)
class Restriction:
    """Which nodes of the lattice count for a batch. It depends on no subnet, so passes over one batch can share it.

    Attributes:
        inside: rows of the K utterances whose tokens keep to the windows of their alignment.
        windows: these windows, (K, U), on the batch's device; None if no utterance has any.
        ranges: (K, T, R) positions of the lattice that paths inside the windows can reach; None as well.
        unrestricted: rows of the utterances that take the full lattice, because they have no alignment, or no path
            inside its windows.
    """

    inside: tuple[int, ...]
    windows: EmissionWindows | None
    ranges: Tensor | None
    unrestricted: tuple[int, ...]


def restrict(config: LossConfig, batch: Batch, lens: Tensor) -> Restriction:
    """Open the windows of a batch.

    Args:
        config: the restricted loss.
        batch: N utterances.
        lens: (N,) encoder frames, on the CPU.
    """
    assert batch.ends is not None, "the restricted loss needs alignments"
    # On the CPU, as its inputs are: the number of positions and the two groups are numbers that Python needs.
    limits = boundary(lens, batch.y_lens)
    windows = transducer.emission_windows(batch.ends, limits, config.left_buffer, config.right_buffer, config.rnnt_type)
    free = windows.unrestricted.tolist()
    inside = tuple(row for row, takes_all in enumerate(free) if not takes_all)
    others = tuple(row for row, takes_all in enumerate(free) if takes_all)
    if not inside:
        return Restriction(inside, None, None, others)
    if others:
        rows = torch.tensor(inside)
        windows = windows.select(rows).crop(int(batch.y_lens[rows].max()))
        lens = lens[rows]
    ranges = transducer.restricted_ranges(windows, int(lens.max()))
    device = batch.y.device
    return Restriction(inside, windows.to(device), ranges.to(device, non_blocking=True), others)


def restricted_loss(lattice: Lattice, restriction: Restriction, config: LossConfig) -> Tensor:
    """Compute the (N,) loss.

    The two groups of utterances are computed apart, because those on the full lattice would make the joiner run at all
    positions for the others too.
    """
    # Losses in the order of these rows, which is that of the batch if there is one group alone.
    rows = (*restriction.inside, *restriction.unrestricted)
    losses = []
    if restriction.inside:
        losses.append(_loss_inside(_part(lattice, restriction.inside), restriction, config))
    if restriction.unrestricted:
        whole = _part(lattice, restriction.unrestricted)
        losses.append(score_full(whole, whole.logits(None), config).loss)
    if len(losses) == 1:
        return losses[0]
    # The inverse of the permutation: where each utterance's loss is.
    places = torch.tensor(rows).argsort().to(lattice.am.device, non_blocking=True)
    return torch.cat(losses)[places]


def _part(lattice: Lattice, rows: Sequence[int]) -> Lattice:
    """Return the lattice of some utterances; the lattice itself if these are all."""
    return lattice if len(rows) == len(lattice.batch) else lattice.select(rows)


def _loss_inside(lattice: Lattice, restriction: Restriction, config: LossConfig) -> Tensor:
    """Compute the (K,) loss of the utterances with windows."""
    ranges = restriction.ranges
    assert ranges is not None and restriction.windows is not None, "these utterances have windows"
    return transducer.rnnt_loss_restricted(
        lattice.logits(ranges),
        lattice.batch.y,
        ranges,
        restriction.windows,
        lattice.model.blank_id,
        lattice.limits,
        rnnt_type=config.rnnt_type,
        delay_penalty=config.delay_penalty,
        reduction="none",
        backend=config.backend,
    )
