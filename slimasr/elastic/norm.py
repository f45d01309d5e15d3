"""Normalisation with its own parameters and statistics for every residual width.

A norm is selected by the residual width (paper 1), so subnets that differ only in depth or inner sizes share it. Modes:

- ``per_width``: separate affine parameters and running statistics per width (switchable norms);
- ``shared``: one set for all widths, sliced by prefix (ablation);
- ``recalibrated``: shared affine parameters, separate running statistics per width, estimated after training
  (universally slimmable networks).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from slimasr.elastic.index import Index, size_of, take
from slimasr.supernet.cost import Count

NormMode = Literal["per_width", "shared", "recalibrated"]


class Affine(nn.Module):
    """Scale and shift of one norm."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))


class RunningStats(nn.Module):
    """Running mean and variance of a batch norm at one width, and the number of batches that went into them.

    Attributes:
        fixed: whether they never change: in training too the norm uses them and not the statistics of the batch.
    """

    mean: Tensor
    var: Tensor
    batches: Tensor
    fixed: bool = False

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def reset(self) -> None:
        """Set the statistics to mean 0 and variance 1, as before any batch, unless they are fixed."""
        if self.fixed:
            return
        self.mean.zero_()
        self.var.fill_(1.0)
        self.batches.zero_()

    def estimated(self) -> Tensor:
        """Return (C,) bool: True for channels with statistics of some batch; the others are as after `reset`."""
        # ``batches`` counts for the norm as a whole, while a subnet may run only some channels. Those that never ran
        # still have exactly the initial values.
        return (self.batches > 0) & ~((self.mean == 0.0) & (self.var == 1.0))


class _ElasticNorm(nn.Module):
    """Affine parameters, selected by residual width."""

    def __init__(self, size: int, widths: Sequence[int], mode: NormMode) -> None:
        super().__init__()
        self.size = size
        self.mode = mode
        # The full size has an entry even if width 1 is not in the space.
        sizes = sorted(set(widths) | {size}) if mode == "per_width" else [size]
        self.affine = nn.ModuleDict({str(n): Affine(n) for n in sizes})

    def affine_of(self, width: int, units: Index | None = None) -> tuple[Tensor, Tensor]:
        """Return scale and shift for a width (in channels), at the channels that run."""
        entry = cast(Affine, _entry(self.affine, width, self.size))
        index = width if units is None else units
        return take(entry.weight, index), take(entry.bias, index)

    def count(self, channels: int) -> Count:
        """Count the parameters at one size. MACs are not counted: a batch norm can be merged into its neighbour."""
        return Count(params=2 * channels)


class ElasticLayerNorm(_ElasticNorm):
    """Layer norm over the last dimension: the channels of the residual width, or those of a module that run."""

    def forward(self, x: Tensor, width: int | None = None, units: Index | None = None) -> Tensor:
        """(..., C) -> (..., C).

        Args:
            width: number of channels that the width of the subnet allows; it selects the entry; None = those of ``x``.
            units: the channels that run, out of those of ``width``; None = all.
        """
        weight, bias = self.affine_of(x.shape[-1] if width is None else width, units)
        return F.layer_norm(x, (x.shape[-1],), weight, bias)

    def extract(self, width: int, units: Index | None = None) -> ElasticLayerNorm:
        """Copy the norm of one width, at the channels that run, into a stand-alone norm."""
        weight, bias = self.affine_of(width, units)
        size = len(weight)
        norm = ElasticLayerNorm(size, (size,), self.mode)
        _copy_affine(norm, (weight, bias))
        return norm


class ElasticBatchNorm(_ElasticNorm):
    """Batch norm over valid frames: padding is excluded from the statistics, so a padded batch equals its parts.

    In training mode the statistics are computed over all processes, unless they are fixed. ``momentum=None``
    accumulates a cumulative average, as in ``torch.nn.BatchNorm1d``.
    """

    def __init__(self, size: int, widths: Sequence[int], mode: NormMode, momentum: float | None = 0.1) -> None:
        super().__init__(size, widths, mode)
        self.momentum = momentum
        self.eps = 1e-5
        sizes = [size] if mode == "shared" else sorted(set(widths) | {size})
        self.stats = nn.ModuleDict({str(n): RunningStats(n) for n in sizes})

    def forward(self, x: Tensor, padding: Tensor, width: int, units: Index | None = None) -> Tensor:
        """(N, T, C) -> (N, T, C) in the statistics' precision, also under autocast.

        Args:
            padding: (N, T), True on padding.
            width: number of channels that the width of the subnet allows; it selects the entry.
            units: the channels that run, out of those of ``width``; None = all.
        """
        index = width if units is None else units
        stats = cast(RunningStats, _entry(self.stats, width, self.size))
        x = x.to(stats.mean.dtype)
        weight, bias = self.affine_of(width, units)
        if self.training and not stats.fixed:
            return self._by_batch(x, padding, stats, index, weight, bias)
        # The four vectors are combined first, which leaves one multiplication and one addition per element of x.
        scale = weight * torch.rsqrt(take(stats.var, index) + self.eps)
        return x * scale + (bias - take(stats.mean, index) * scale)

    def _by_batch(
        self, x: Tensor, padding: Tensor, stats: RunningStats, index: Index, weight: Tensor, bias: Tensor
    ) -> Tensor:
        """Normalise by the statistics of the batch, and update the running ones."""
        valid = (~padding).to(x.dtype)
        count = _sum_over_processes(valid.sum())
        out, mean, var = cast(tuple[Tensor, Tensor, Tensor], _ByBatch.apply(x, valid, count, weight, bias, self.eps))
        with torch.no_grad():
            stats.batches += 1
            # A weight of 1 / k for batch k makes the running value the plain average of all batches.
            momentum = 1.0 / float(stats.batches) if self.momentum is None else self.momentum
            # As in torch: running variances are unbiased, the batch's own is not. A single frame must not divide by 0.
            unbiased = var * (count / (count - 1).clamp(min=1))
            _blend(stats.mean, index, mean, momentum)
            _blend(stats.var, index, unbiased, momentum)
        return out

    def extract(self, width: int, units: Index) -> ElasticBatchNorm:
        """Copy the channels that run into a stand-alone norm."""
        size = size_of(units)
        norm = ElasticBatchNorm(size, (size,), self.mode, self.momentum)
        _copy_affine(norm, self.affine_of(width, units))
        source = cast(RunningStats, _entry(self.stats, width, self.size))
        target = cast(RunningStats, norm.stats[str(size)])
        target.mean.copy_(take(source.mean, units))
        target.var.copy_(take(source.var, units))
        target.batches.copy_(source.batches)
        return norm


def norm_parameters(model: nn.Module) -> set[str]:
    """Return the names of all parameters of norms; they stay bit-identical in steps in which no pass uses them."""
    names: set[str] = set()
    for name, module in model.named_modules():
        if isinstance(module, Affine):
            names |= {f"{name}.weight", f"{name}.bias"}
    return names


def frozen_stats(model: nn.Module) -> list[str]:
    """Return the names of the statistics of batch norms whose scale and shift at that width have no gradient.

    Those of no batch yet are left out, because nothing can be normalised by them.
    """
    names = []
    for name, module in model.named_modules():
        if not isinstance(module, ElasticBatchNorm):
            continue
        for width, stats in module.stats.items():
            entry = _entry(module.affine, int(width), module.size)
            if cast(RunningStats, stats).batches > 0 and not any(p.requires_grad for p in entry.parameters()):
                names.append(f"{name}.stats.{width}")
    return names


def running_stats(model: nn.Module) -> list[RunningStats]:
    """Return the statistics of every batch norm, at every width."""
    return [module for module in model.modules() if isinstance(module, RunningStats)]


def reset_running_stats(model: nn.Module) -> None:
    """Reset the statistics of every batch norm, at every width."""
    for stats in running_stats(model):
        stats.reset()


def fully_estimated(model: nn.Module) -> bool:
    """Return whether every channel of every batch norm has statistics, at every width."""
    return all(bool(stats.estimated().all()) for stats in running_stats(model))


@contextmanager
def calibration(model: nn.Module) -> Iterator[None]:
    """Make forward passes inside the block estimate batch statistics: cumulative average, no dropout, no gradient.

    Running statistics are reset at the start; modes and momentum are restored at the end.
    """
    norms = [m for m in model.modules() if isinstance(m, ElasticBatchNorm)]
    before = [(m, m.training) for m in model.modules()]
    momenta = [norm.momentum for norm in norms]
    reset_running_stats(model)
    # Only the batch norms are in training mode, so that dropout is off as it will be when the statistics are used.
    model.eval()
    for norm in norms:
        norm.training = True
        norm.momentum = None
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in before:
            module.training = training
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


@contextmanager
def completion(model: nn.Module) -> Iterator[None]:
    """Run the block as in `calibration`, but keep the new statistics only for channels that had none before."""
    # Copies, because `calibration` resets the originals in place.
    before = [(stats, copy.deepcopy(stats)) for stats in running_stats(model)]
    with calibration(model):
        yield
    for stats, old in before:
        kept = old.estimated()
        stats.mean.copy_(torch.where(kept, old.mean, stats.mean))
        stats.var.copy_(torch.where(kept, old.var, stats.var))
        # There is one count per norm: that of the old statistics, unless none of them is left.
        if kept.any():
            stats.batches.copy_(old.batches)


def _entry(entries: nn.ModuleDict, width: int, size: int) -> nn.Module:
    """Return the entry of a width; a shared norm has only one entry, that of its full size.

    Raises:
        ValueError: the norm has no parameters or statistics for this width.
    """
    key = str(width)
    if key in entries:
        return entries[key]
    # Several entries mean one per width; then a width without one is not in the space.
    if len(entries) > 1 or width > size:
        raise ValueError(f"no norm for width {width}; there are norms for {', '.join(entries)}")
    return entries[str(size)]


def _copy_affine(norm: _ElasticNorm, source: tuple[Tensor, Tensor]) -> None:
    target = cast(Affine, norm.affine[str(norm.size)])
    with torch.no_grad():
        target.weight.copy_(source[0])
        target.bias.copy_(source[1])


def _blend(running: Tensor, index: Index, value: Tensor, momentum: float) -> None:
    if isinstance(index, int):
        running[:index].lerp_(value, momentum)
    else:
        # An index copies, so the result is written back instead of updated in place.
        index = index.to(running.device, non_blocking=True)
        running[index] = running[index].lerp(value, momentum)


class _ByBatch(torch.autograd.Function):
    """Batch norm over valid frames, with its gradient in closed form, in few passes over the tensors.

    With c = x - mean, r = 1 / sqrt(var + eps), valid frames v (1 or 0), and sums over the frames of all processes::

        y = w r c + b;   dL/dx = w r (g - v (sum(g) + r^2 c sum(g c)) / count)

    The sums of the gradient are over padding too, whose outputs depend on the statistics as well.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, valid: Tensor, count: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = _sum_over_processes(_sum_of_valid(x, valid)) / count
        # The variance is computed around the common mean, in a second reduction: a difference of two large sums of
        # squares would lose precision.
        centered = x - mean
        var = _sum_over_processes(_sum_of_valid(centered.square(), valid)) / count
        inverse = torch.rsqrt(var + eps)
        ctx.save_for_backward(centered, valid, count, weight, inverse)
        ctx.mark_non_differentiable(mean, var)
        return torch.addcmul(bias, centered, weight * inverse), mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, Tensor, Tensor, None]:
        centered, valid, count, weight, inverse = ctx.saved_tensors
        grad = grads[0]
        grad_bias = grad.sum(dim=(0, 1))
        along = (grad * centered).sum(dim=(0, 1))
        # The loss of every process depends on the values of all, by their common statistics.
        total = _sum_over_processes(grad_bias)
        total_along = _sum_over_processes(along)
        by_statistics = torch.addcmul(total, centered, inverse.square() * total_along).mul_(valid.unsqueeze(-1))
        scale = weight * inverse
        grad_x = (grad * scale).addcmul_(by_statistics, -scale / count)
        return grad_x, None, None, along * inverse, grad_bias, None


def _sum_of_valid(x: Tensor, valid: Tensor) -> Tensor:
    """(N, T, C) values and (N, T) ones or zeros -> (C,) sums of the valid frames."""
    if x.device.type != "cpu":
        # A product may have reduced precision there.
        return (x * valid.unsqueeze(-1)).sum(dim=(0, 1))
    with torch.autocast("cpu", enabled=False):
        return valid.reshape(-1) @ x.reshape(-1, x.shape[-1])


def _sum_over_processes(value: Tensor) -> Tensor:
    """Return the sum of the values of all processes, without a gradient."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    # `all_reduce` overwrites its argument.
    total = value.clone()
    dist.all_reduce(total)
    return total
