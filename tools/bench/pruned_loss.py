"""Time and memory of the pruned and of the restricted transducer loss against the full lattice, and against k2.

N 8, T 250, U 50, J 512, float32, forward and backward, at V 500 and, without targets, at V 4096. The pruned side (range
5) includes everything that pruning needs: two simple projections, the smoothed loss, ranges, pruning, joiner and pruned
loss. The restricted side (buffers of 5 and 15 frames, symbols that end at random frames) includes windows, ranges,
pruning, joiner and loss. Times are processor seconds of one thread; the sides take turns, and the fastest turn of each
counts. As in training, numbers too small for full precision are 0. Peak memory is what the process adds to what it
held before; each side runs in a process of its own (Linux). k2 is compared on the pruned loss, if it can be imported.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType

import torch
from common import added_peak_megabytes, median_seconds, report, report_figures, resident_bytes
from step import fastest
from torch import Tensor, nn

from slimasr.losses import transducer

BATCH, FRAMES, SYMBOLS, UNITS, JOINER_DIM, PRUNE_RANGE = 8, 250, 50, 500, 512, 5
MANY_UNITS = 4096
BLANK = 0
LEFT_BUFFER, RIGHT_BUFFER = 5, 15


class Inputs:
    """Encoder and predictor outputs, labels, and the layers between these outputs and the losses."""

    def __init__(self, frames: int = FRAMES, symbols: int = SYMBOLS, units: int = UNITS) -> None:
        """Draw them on the default device."""
        torch.manual_seed(0)
        self.am = torch.randn(BATCH, frames, JOINER_DIM).requires_grad_()
        self.lm = torch.randn(BATCH, symbols + 1, JOINER_DIM).requires_grad_()
        self.symbols = torch.randint(1, units, (BATCH, symbols))
        # k2's order: first label, first frame, number of labels, number of frames.
        self.boundary = torch.tensor([[0, 0, symbols, frames]]).repeat(BATCH, 1)
        # The last frame of each symbol; several symbols may end together.
        self.ends = torch.randint(frames, (BATCH, symbols)).sort(dim=1).values
        self.joiner_output = nn.Linear(JOINER_DIM, units)
        self.simple_am = nn.Linear(JOINER_DIM, units)
        self.simple_lm = nn.Linear(JOINER_DIM, units)

    def joiner(self, am: Tensor, lm: Tensor) -> Tensor:
        return self.joiner_output(torch.tanh(am + lm))


def full_loss(inputs: Inputs) -> Tensor:
    """Return the loss on the full lattice."""
    # (N, T, 1, J) and (N, 1, U + 1, J)
    logits = inputs.joiner(inputs.am.unsqueeze(2), inputs.lm.unsqueeze(1))
    return transducer.rnnt_loss(logits, inputs.symbols, BLANK, inputs.boundary, backend="torch")


def pruned_loss(inputs: Inputs) -> Tensor:
    """Return the sum of simple and pruned loss, which pruned training uses instead of `full_loss`."""
    simple, occupation = transducer.rnnt_loss_smoothed(
        inputs.simple_lm(inputs.lm),
        inputs.simple_am(inputs.am),
        inputs.symbols,
        BLANK,
        boundary=inputs.boundary,
        return_grad=True,
        backend="torch",
    )
    ranges = transducer.get_rnnt_prune_ranges(*occupation, inputs.boundary, PRUNE_RANGE, backend="torch")
    logits = inputs.joiner(*transducer.do_rnnt_pruning(inputs.am, inputs.lm, ranges, backend="torch"))
    pruned = transducer.rnnt_loss_pruned(logits, inputs.symbols, ranges, BLANK, inputs.boundary, backend="torch")
    return simple + pruned


def restricted_loss(inputs: Inputs) -> Tensor:
    """Return the loss over the alignments near `Inputs.ends`."""
    boundary = inputs.boundary
    windows = transducer.emission_windows(inputs.ends, boundary, LEFT_BUFFER, RIGHT_BUFFER)
    ranges = transducer.restricted_ranges(windows, inputs.am.shape[1])
    logits = inputs.joiner(*transducer.do_rnnt_pruning(inputs.am, inputs.lm, ranges, backend="torch"))
    return transducer.rnnt_loss_restricted(logits, inputs.symbols, ranges, windows, BLANK, boundary, backend="torch")


LOSSES: dict[str, Callable[[Inputs], Tensor]] = {
    "full": full_loss,
    "pruned": pruned_loss,
    "restricted": restricted_loss,
}


def step(side: str, inputs: Inputs) -> None:
    """Run one loss of `LOSSES`, forward and backward."""
    LOSSES[side](inputs).backward()


def added_peak_bytes(side: str, units: int) -> int:
    """Return the peak resident memory that one step adds; to be called once, in a process of its own."""
    inputs = Inputs(units=units)
    step(side, Inputs(frames=8, symbols=2, units=units))  # libraries and thread pools do not count
    before = resident_bytes("VmRSS")
    step(side, inputs)
    return resident_bytes("VmHWM") - before


def loss_step(library: ModuleType, inputs: Inputs, lm: Tensor, am: Tensor, logits: Tensor, **options: str) -> None:
    """Run smoothed loss, ranges and pruned loss with their backward passes, without any layer between them."""
    simple, occupation = library.rnnt_loss_smoothed(
        lm, am, inputs.symbols, BLANK, boundary=inputs.boundary, return_grad=True, **options
    )
    ranges = library.get_rnnt_prune_ranges(*occupation, inputs.boundary, PRUNE_RANGE, **options)
    pruned = library.rnnt_loss_pruned(logits, inputs.symbols, ranges, BLANK, inputs.boundary, **options)
    (simple + pruned).backward()


def compare_with_k2() -> None:
    """Compare the whole loss without layers: our torch backend against k2's functions on the CPU."""
    import k2

    inputs = Inputs()
    lm = torch.randn(BATCH, SYMBOLS + 1, UNITS).requires_grad_()
    am = torch.randn(BATCH, FRAMES, UNITS).requires_grad_()
    logits = torch.randn(BATCH, FRAMES, PRUNE_RANGE, UNITS).requires_grad_()
    ours = median_seconds(lambda: loss_step(transducer, inputs, lm, am, logits, backend="torch"))
    other = median_seconds(lambda: loss_step(k2, inputs, lm, am, logits))
    report("whole pruned loss, torch backend against k2, seconds", ours, other, ours / other, 2.0)


def compare_with_full(units: int, turns: int, targets: Mapping[str, tuple[float, float] | None]) -> None:
    """Compare losses with that on the full lattice.

    Args:
        units: size of the vocabulary.
        turns: how often each side is timed.
        targets: loss -> bounds on the ratios of time and memory, None = there are none.
    """
    inputs = Inputs(units=units)
    names = ("full", *targets)
    seconds = dict(zip(names, fastest([partial(step, name, inputs) for name in names], turns), strict=True))
    peaks = {name: added_peak_megabytes(__file__, name, "--units", str(units)) for name in names}
    for name, bounds in targets.items():
        target, peak_target = bounds or (None, None)
        report_figures(
            f"{name} against full-lattice loss with joiner, V {units}, processor seconds",
            ours=seconds[name],
            other=seconds["full"],
            ratio=seconds[name] / seconds["full"],
            target=target,
            ours_peak_mb=peaks[name],
            other_peak_mb=peaks["full"],
            peak_ratio=peaks[name] / peaks["full"],
            peak_target=peak_target,
        )


def main() -> None:
    """Run the comparisons, or one memory measurement in a child process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peak-bytes-of", choices=LOSSES, help="print only the memory that one step adds, in bytes")
    parser.add_argument("--units", type=int, default=UNITS, help="size of the vocabulary for --peak-bytes-of")
    options = parser.parse_args()
    torch.set_num_threads(1)
    # As in training
    torch.set_flush_denormal(True)
    if options.peak_bytes_of:
        print(added_peak_bytes(options.peak_bytes_of, options.units))
        return
    compare_with_full(UNITS, 5, {"pruned": (1 / 4, 1 / 8), "restricted": (0.35, 0.35)})
    compare_with_full(MANY_UNITS, 1, {"pruned": None, "restricted": None})
    if importlib.util.find_spec("k2"):
        compare_with_k2()


if __name__ == "__main__":
    main()
