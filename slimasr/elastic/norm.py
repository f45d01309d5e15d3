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
    """Running mean and variance of one batch norm, and the number of batches over which they were estimated."""

    mean: Tensor
    var: Tensor
    batches: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def reset(self) -> None:
        """Reset the statistics."""
        self.mean.zero_()
        self.var.fill_(1.0)
        self.batches.zero_()

    def estimated(self) -> Tensor:
        """(C,) bool: channels that some batch has gone into; the others are as `reset` leaves them."""
        return (self.batches > 0) & ~((self.mean == 0.0) & (self.var == 1.0))


class _ElasticNorm(nn.Module):
    """Affine parameters, selected by residual width."""

    def __init__(self, size: int, widths: Sequence[int], mode: NormMode) -> None:
        super().__init__()
        self.size = size
        self.mode = mode
        sizes = sorted(set(widths) | {size}) if mode == "per_width" else [size]
        self.affine = nn.ModuleDict({str(n): Affine(n) for n in sizes})

    def affine_of(self, width: int, units: Index | None = None) -> tuple[Tensor, Tensor]:
        """Scale and shift for a residual width, at the channels that run."""
        entry = cast(Affine, _entry(self.affine, width, self.size))
        index = width if units is None else units
        return take(entry.weight, index), take(entry.bias, index)

    def count(self, channels: int) -> Count:
        """Parameters at one size; the work is not counted, because a batch norm can be merged into its neighbour."""
        return Count(params=2 * channels)


class ElasticLayerNorm(_ElasticNorm):
    """Layer norm over the last dimension, whose size is the residual width."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        width = x.shape[-1]
        weight, bias = self.affine_of(width)
        return F.layer_norm(x, (width,), weight, bias)

    def extract(self, width: int) -> ElasticLayerNorm:
        """A stand-alone norm of one width."""
        norm = ElasticLayerNorm(width, (width,), self.mode)
        _copy_affine(norm, self.affine_of(width))
        return norm


class ElasticBatchNorm(_ElasticNorm):
    """Batch norm over valid frames: padding is excluded from the statistics, so a padded batch equals its parts.

    In training mode the statistics are computed over all processes. ``momentum=None`` accumulates a cumulative average,
    as in ``torch.nn.BatchNorm1d``.
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
            width: residual width of the subnet.
            units: the channels that run, out of those of ``width``; None = all.
        """
        index = width if units is None else units
        stats = cast(RunningStats, _entry(self.stats, width, self.size))
        x = x.to(stats.mean.dtype)
        if self.training:
            mean, var = self._batch_moments(x, padding, stats, index)
        else:
            mean = take(stats.mean, index)
            var = take(stats.var, index)
        weight, bias = self.affine_of(width, units)
        scale = weight * torch.rsqrt(var + self.eps)
        return x * scale + (bias - mean * scale)

    def _batch_moments(self, x: Tensor, padding: Tensor, stats: RunningStats, index: Index) -> tuple[Tensor, Tensor]:
        valid = (~padding).to(x.dtype).unsqueeze(-1)
        count = _sum_over_processes(valid.sum())
        mean = _sum_over_processes((x * valid).sum(dim=(0, 1))) / count
        var = _sum_over_processes(((x - mean).square() * valid).sum(dim=(0, 1))) / count
        with torch.no_grad():
            stats.batches += 1
            momentum = 1.0 / float(stats.batches) if self.momentum is None else self.momentum
            unbiased = var * (count / (count - 1).clamp(min=1))
            _blend(stats.mean, index, mean, momentum)
            _blend(stats.var, index, unbiased, momentum)
        return mean, var

    def extract(self, width: int, units: Index) -> ElasticBatchNorm:
        """A stand-alone norm of the channels that run."""
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
    """Names of all parameters of norms; they stay bit-identical in steps in which no pass uses them."""
    return {
        f"{name}.{parameter}"
        for name, module in model.named_modules()
        if isinstance(module, Affine)
        for parameter in ("weight", "bias")
    }


def running_stats(model: nn.Module) -> list[RunningStats]:
    """The statistics of every batch norm, at every width."""
    return [module for module in model.modules() if isinstance(module, RunningStats)]


def reset_running_stats(model: nn.Module) -> None:
    """Reset the statistics of every batch norm, at every width."""
    for stats in running_stats(model):
        stats.reset()


def fully_estimated(model: nn.Module) -> bool:
    """Whether every channel of every batch norm has statistics, at every width."""
    return all(bool(stats.estimated().all()) for stats in running_stats(model))


@contextmanager
def calibration(model: nn.Module) -> Iterator[None]:
    """Inside the block, a forward pass only estimates batch statistics: cumulative average, no dropout, no gradient.

    Running statistics are reset at the start; modes and momentum are restored at the end.
    """
    norms = [m for m in model.modules() if isinstance(m, ElasticBatchNorm)]
    before = [(m, m.training) for m in model.modules()]
    momenta = [norm.momentum for norm in norms]
    reset_running_stats(model)
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
    """Within, as in `calibration`. At the end, only channels that had no statistics before keep the new ones."""
    before = [(stats, copy.deepcopy(stats)) for stats in running_stats(model)]
    with calibration(model):
        yield
    for stats, old in before:
        kept = old.estimated()
        stats.mean.copy_(torch.where(kept, old.mean, stats.mean))
        stats.var.copy_(torch.where(kept, old.var, stats.var))
        if kept.any():
            stats.batches.copy_(old.batches)


def _entry(entries: nn.ModuleDict, width: int, size: int) -> nn.Module:
    """The entry of a width; a shared norm has only one entry, that of its full size."""
    key = str(width)
    if key in entries:
        return entries[key]
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
        index = index.to(running.device)
        running[index] = running[index].lerp(value, momentum)


class _SumOverProcesses(torch.autograd.Function):
    """An all-reduce through which gradients flow: every process's loss depends on every process's sum."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def _sum_over_processes(value: Tensor) -> Tensor:
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    return cast(Tensor, _SumOverProcesses.apply(value))
