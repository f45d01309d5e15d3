"""The figures of a step: its losses and other scalars, which stay on their device until the step has been computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from slimasr.data.batches.batch import Batch
from slimasr.objective.passes import PassOutput


@dataclass(frozen=True)
class PassFigures:
    """The figures of one pass for the logs, still on its device.

    Attributes:
        keys: names of the L losses and scalars in the report.
        ids: ids of the N utterances.
        values: (2L + N,) sums of the losses, then their units, then 1 for each utterance with a non-finite loss.
    """

    keys: list[str]
    ids: tuple[str, ...]
    values: Tensor


@dataclass
class StepReport:
    """Sums over one step's passes, for logs: ``losses["w0.5/transducer"]``, and the tokens or nodes summed over.

    Attributes:
        losses, units: sums of the losses and of what they are divided by, by name. Other scalars of a step count 1.
        nonfinite: ids of utterances with a non-finite loss.
        unrestricted: utterances on which the restricted loss used the full lattice (`Restriction.unrestricted`).
        waiting: figures that are still on the device; `read` adds them to the other fields.
    """

    losses: dict[str, float] = field(default_factory=dict)
    units: dict[str, float] = field(default_factory=dict)
    nonfinite: list[str] = field(default_factory=list)
    unrestricted: int = 0
    waiting: list[PassFigures] = field(default_factory=list)

    def read(self) -> StepReport:
        """Add all waiting figures to the sums, with one transfer: each waits for all work queued on the device."""
        if not self.waiting:
            return self
        numbers = torch.cat([figures.values for figures in self.waiting]).tolist()
        for figures in self.waiting:
            count = len(figures.keys)
            size = 2 * count + len(figures.ids)
            own, numbers = numbers[:size], numbers[size:]
            for key, loss, number in zip(figures.keys, own[:count], own[count : 2 * count], strict=True):
                self.losses[key] = self.losses.get(key, 0.0) + loss
                self.units[key] = self.units.get(key, 0.0) + number
            flags = zip(figures.ids, own[2 * count :], strict=True)
            self.nonfinite.extend(utterance for utterance, failed in flags if failed)
        self.waiting = []
        return self


def loss_figures(
    name: str, output: PassOutput, weighted: Mapping[str, float], part: Batch, scalars: Mapping[str, Tensor]
) -> PassFigures:
    """Return the figures of one pass, among them the utterances whose losses are not finite.

    Args:
        name: name of the pass in logs.
        output: its losses, each (N,), and their units.
        weighted: the losses that reach the gradient.
        part: its N utterances.
        scalars: other figures of the pass, 0-dimensional.
    """
    # Losses and units are (L, N), for L losses.
    names = list(output.losses)
    losses = torch.stack([output.losses[loss].detach() for loss in names])
    units = torch.stack([output.units[loss] for loss in names]).to(losses)
    # Only losses with a weight count, because the others do not reach the gradient.
    bad = ~torch.isfinite(losses[[names.index(loss) for loss in weighted]].sum(dim=0))
    values = [losses.sum(dim=1), units.sum(dim=1)]
    if scalars:
        more = torch.stack([value.detach().to(losses) for value in scalars.values()])
        values = [torch.cat([values[0], more]), torch.cat([values[1], torch.ones_like(more)])]
    keys = [f"{name}/{figure}" for figure in (*names, *scalars)]
    return PassFigures(keys, part.ids, torch.cat([*values, bad.to(losses)]))


def scalar_figures(name: str, scalars: Mapping[str, Tensor]) -> PassFigures:
    """Return scalars of a step, 0-dimensional, that belong to no pass; each counts once."""
    values = torch.stack([value.detach().to(torch.float32) for value in scalars.values()])
    return PassFigures([f"{name}/{figure}" for figure in scalars], (), torch.cat([values, torch.ones_like(values)]))
