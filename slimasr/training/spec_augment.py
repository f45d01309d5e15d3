"""SpecAugment masks frequencies and frames of training features (Park et al. 2019)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from slimasr.config.training import SpecAugmentConfig
from slimasr.data.batches.batch import Batch


def spec_augment(batch: Batch, config: SpecAugmentConfig, fill: Tensor, generator: torch.Generator) -> Batch:
    """Return the batch with masked features.

    Each utterance has its own masks: ``f ~ U{0..F}`` bins from ``U{0..n_mels - f}``, and ``t ~ U{0..min(T, p len)}``
    frames from ``U{0..len - t}``. Their numbers are fixed, or drawn uniformly for each utterance up to a number that is
    fixed (frequency) or in proportion to the utterance's length (time; paper 4).

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
    freq_masks = _numbers(config.num_freq_masks, _most_freq_masks(config, lens), generator)
    freq = _spans(freq_masks, max_bins, bins, num_bins, generator)
    time_masks = _numbers(config.num_time_masks, _most_time_masks(config, lens), generator)
    time = _spans(time_masks, max_frames, lens, num_frames, generator)
    freq, time = (covered.to(batch.x.device, non_blocking=True) for covered in (freq, time))
    masked = freq.unsqueeze(1) | time.unsqueeze(2)
    return replace(batch, x=torch.where(masked, fill.to(batch.x.dtype), batch.x))


def _most_freq_masks(config: SpecAugmentConfig, lens: Tensor) -> Tensor | None:
    """Return the (N,) largest numbers of frequency masks; None = all utterances have the same number."""
    return None if config.max_freq_masks is None else torch.full_like(lens, config.max_freq_masks)


def _most_time_masks(config: SpecAugmentConfig, lens: Tensor) -> Tensor | None:
    """Return the (N,) largest numbers of time masks; None = all utterances have the same number."""
    return None if config.frames_per_time_mask is None else lens // config.frames_per_time_mask


def _numbers(fewest: int, most: Tensor | None, generator: torch.Generator) -> int | Tensor:
    """Draw the (N,) numbers of masks from {fewest..most}; where the most are fewer than ``fewest``, it is these."""
    return fewest if most is None else fewest + _uniform((most - fewest).clamp(min=0), generator)


def _spans(number: int | Tensor, longest: Tensor, size: Tensor, total: int, generator: torch.Generator) -> Tensor:
    """Draw random spans, each within a row's first ``size`` entries; their union in every row is (N, total).

    Args:
        number: spans of every row, or (N,) those of each.
        longest: (N,) largest lengths.
        size: (N,) entries of the rows.
        total: entries of the longest row.
    """
    positions = torch.arange(total)
    covered = torch.zeros(len(size), total, dtype=torch.bool)
    for index in range(number if isinstance(number, int) else int(number.max())):
        length = _uniform(longest, generator)
        start = _uniform(size - length, generator)
        if not isinstance(number, int):
            # Rows with fewer spans draw as many numbers as the others; a span without entries covers nothing.
            length = length.masked_fill(number <= index, 0)
        covered |= (positions >= start.unsqueeze(1)) & (positions < (start + length).unsqueeze(1))
    return covered


def _uniform(upper: Tensor, generator: torch.Generator) -> Tensor:
    """Draw integers uniformly from {0..upper}, one per entry."""
    # torch.randint accepts one limit for all entries only. float64 keeps the product below upper + 1.
    drawn = torch.rand(upper.shape, generator=generator, dtype=torch.float64)
    return (drawn * (upper + 1)).long()
