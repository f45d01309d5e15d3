"""SpecAugment masks frequencies and frames of training features (Park et al. 2019)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from slimasr.config.training import SpecAugmentConfig
from slimasr.data.batch import Batch


def spec_augment(batch: Batch, config: SpecAugmentConfig, fill: Tensor, generator: torch.Generator) -> Batch:
    """Return the batch with masked features.

    Each utterance has its own masks: ``f ~ U{0..F}`` bins from ``U{0..n_mels - f}``, and ``t ~ U{0..min(T, p len)}``
    frames from ``U{0..len - t}``.

    Args:
        fill: (F,) values for masked cells. Features are not normalised, so these are their means, which the model
            normalises to 0.
        generator: random generator on the CPU; the masks depend on nothing else, on any device.
    """
    num_frames, num_bins = batch.x.shape[1:]
    # Masks are drawn on the CPU, where the lengths are, and combined on the device, so that little is moved.
    lens = batch.x_lens
    bins = torch.full_like(lens, num_bins)
    max_bins = bins.clamp(max=config.max_freq_bins)
    max_frames = (lens * config.max_time_share).long().clamp(max=config.max_time_frames)
    # (N, F) and (N, T). Frequencies are drawn first: the order determines the numbers that the generator returns.
    freq = _spans(config.num_freq_masks, max_bins, bins, num_bins, generator)
    time = _spans(config.num_time_masks, max_frames, lens, num_frames, generator)
    freq, time = (covered.to(batch.x.device, non_blocking=True) for covered in (freq, time))
    masked = freq.unsqueeze(1) | time.unsqueeze(2)
    return replace(batch, x=torch.where(masked, fill.to(batch.x.dtype), batch.x))


def _spans(count: int, longest: Tensor, size: Tensor, total: int, generator: torch.Generator) -> Tensor:
    """Draw ``count`` random spans per row, each within the row's first ``size`` entries; their union is (N, total)."""
    positions = torch.arange(total)
    covered = torch.zeros(len(size), total, dtype=torch.bool)
    for _ in range(count):
        length = _uniform(longest, generator)
        start = _uniform(size - length, generator)
        covered |= (positions >= start.unsqueeze(1)) & (positions < (start + length).unsqueeze(1))
    return covered


def _uniform(upper: Tensor, generator: torch.Generator) -> Tensor:
    """Draw integers uniformly from {0..upper}, one per entry."""
    # torch.randint accepts one limit for all entries only. float64 keeps the product below upper + 1.
    drawn = torch.rand(upper.shape, generator=generator, dtype=torch.float64)
    return (drawn * (upper + 1)).long()
