"""SpecAugment's masks: where they lie, how long they are, what they hold."""

from __future__ import annotations

import pytest
import torch

from slimasr.config.training import SpecAugmentConfig
from slimasr.data.batches.batch import Batch
from slimasr.training.spec_augment import spec_augment

BINS = 12
FILL = torch.arange(BINS, dtype=torch.float32) - 50.0


def noise(lens: list[int]) -> Batch:
    n = len(lens)
    x = torch.ones(n, max(lens), BINS)
    names = tuple(str(i) for i in range(n))
    empty = torch.zeros(n, 1, dtype=torch.int64)
    return Batch(x, torch.tensor(lens), empty, empty[:, 0], names, names)


def masked_cells(batch: Batch, config: SpecAugmentConfig, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    out = spec_augment(batch, config, FILL, generator).x
    masked = out != 1.0
    assert torch.equal(out[masked], FILL.expand_as(out)[masked])
    return masked


def spans(rows: torch.Tensor) -> list[tuple[int, int]]:
    """(start, length) of the one span of every row, length 0 where there is none."""
    found = []
    for row in rows:
        places = row.nonzero().flatten().tolist()
        found.append((places[0] if places else 0, len(places)))
        assert places == list(range(found[-1][0], found[-1][0] + len(places)))
    return found


def test_one_time_mask_is_uniform_in_length_and_start() -> None:
    """t ~ U{0..5} and start ~ U{0..len - t}: means 2.5 and (len - E t) / 2, by thousands of draws."""
    lens = [30] * 2000 + [20] * 2000
    config = SpecAugmentConfig(num_freq_masks=0, num_time_masks=1, max_time_frames=5)
    masked = masked_cells(noise(lens), config, seed=1)
    assert torch.equal(masked.any(dim=2), masked.all(dim=2)), "a time mask covers all bins"
    for first, size in ((0, 30), (2000, 20)):
        found = spans(masked[first : first + 2000, :, 0])
        counts = torch.bincount(torch.tensor([length for _, length in found]), minlength=6)
        assert len(counts) == 6, "no mask is longer than T"
        assert counts.min() > 2000 / 6 * 0.8
        starts = torch.tensor([start for start, length in found if length == 5], dtype=torch.float64)
        assert starts.min() == 0
        assert starts.max() == size - 5
        assert starts.mean() == pytest.approx((size - 5) / 2, abs=1.5)


def test_one_freq_mask_is_uniform_in_length() -> None:
    config = SpecAugmentConfig(num_freq_masks=1, max_freq_bins=4, num_time_masks=0)
    masked = masked_cells(noise([7] * 3000), config, seed=2)
    assert torch.equal(masked.any(dim=1), masked.all(dim=1)), "a frequency mask covers all frames"
    found = spans(masked[:, 0])
    counts = torch.bincount(torch.tensor([length for _, length in found]), minlength=5)
    assert len(counts) == 5
    assert counts.min() > 600 * 0.8


def test_share_limits_time_masks_and_padding_stays() -> None:
    config = SpecAugmentConfig(num_freq_masks=0, num_time_masks=1, max_time_frames=100, max_time_share=0.2)
    lens = [50, 10] * 300
    masked = masked_cells(noise(lens), config, seed=3)[:, :, 0]
    lengths = masked.sum(dim=1)
    assert lengths[0::2].max() == 10
    assert lengths[1::2].max() == 2
    assert not masked[1::2, 10:].any()


def test_more_masks_than_bins_and_a_frame_alone() -> None:
    config = SpecAugmentConfig(num_freq_masks=3, max_freq_bins=99, num_time_masks=3)
    assert masked_cells(noise([1, 1]), config, seed=4).shape == (2, 1, BINS)


def numbers_of_cells(size: int, masks: range) -> torch.Tensor:
    """Probability of 0, 1, ... masked cells of ``size``, for a uniform number of masks of 0 or 1 cell each."""
    total = torch.zeros(masks[-1] + 1, dtype=torch.float64)
    for number in masks:
        found = torch.zeros_like(total)
        found[0] = 1.0
        for _ in range(number):
            # A mask has a cell in half of all cases, which is a new one unless it is one of those before.
            new = torch.tensor([0.5 * (size - k) / size for k in range(len(found))], dtype=torch.float64)
            moved = found * new
            found = found - moved
            found[1:] += moved[:-1]
        total += found / len(masks)
    return total


def assert_numbers(cells: torch.Tensor, want: torch.Tensor) -> None:
    shares = torch.bincount(cells, minlength=len(want)) / len(cells)
    assert len(shares) == len(want)
    torch.testing.assert_close(shares.double(), want, atol=0.02, rtol=0.0)


def test_the_number_of_freq_masks_is_drawn_for_every_utterance() -> None:
    config = SpecAugmentConfig(num_freq_masks=2, max_freq_masks=5, max_freq_bins=1, num_time_masks=0)
    cells = masked_cells(noise([3] * 4000), config, seed=7)[:, 0].sum(dim=1)
    assert_numbers(cells, numbers_of_cells(BINS, range(2, 6)))


def test_the_number_of_time_masks_is_drawn_up_to_one_for_so_many_frames() -> None:
    """20 frames at 4 a mask allow 5 masks; 7 allow one, but the fewest are 2."""
    config = SpecAugmentConfig(num_freq_masks=0, num_time_masks=2, frames_per_time_mask=4, max_time_frames=1)
    masked = masked_cells(noise([20, 7] * 4000), config, seed=8)[:, :, 0]
    cells = masked.sum(dim=1)
    assert_numbers(cells[0::2], numbers_of_cells(20, range(2, 6)))
    assert_numbers(cells[1::2], numbers_of_cells(7, range(2, 3)))


def test_masks_follow_from_the_seed_alone() -> None:
    config = SpecAugmentConfig(max_freq_bins=4, max_time_frames=8)
    batch = noise([40, 30])
    torch.manual_seed(0)
    first = masked_cells(batch, config, seed=5)
    torch.manual_seed(9)
    assert torch.equal(first, masked_cells(batch, config, seed=5))
    assert not torch.equal(first, masked_cells(batch, config, seed=6))
