"""Time and memory that distillation on the pruned lattice adds, over ten tokens and over the whole vocabulary.

N 8, T 250, range 5, V 4096, J 512, float32. Each side runs the joiner's output layer, the pruned loss and distillation,
forward and backward, and keeps what it needs of the teacher's logits, which exist on all sides. Each peak is measured
in a process of its own. The unit is one tensor of nodes and tokens, (N, T, 5, V), of 164 MB; the peaks are

    transducer loss alone      2  logits, their gradient
    with ten tokens            2  the same; for j tokens, (12 j + 4) bytes per node of the teacher and (4 j + 9) for the
                                  backward pass are 0.01 units
    with the whole vocabulary  6  logits, both log probabilities, the teacher's probabilities, the difference of the
                                  log probabilities and the product of the last two
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
from common import added_peak_megabytes, median_seconds, report, resident_bytes
from torch import Tensor, nn
from torch.nn import functional

from slimasr.losses.distillation import Divergence, distil, top_classes
from slimasr.losses.transducer import rnnt_loss_pruned

BATCH, FRAMES, SYMBOLS, UNITS, JOINER_DIM, PRUNE_RANGE = 8, 250, 50, 4096, 512, 5
NUM_TOKENS = 10
BLANK = 0


class Inputs:
    """A teacher's logits, and the student's joiner before its last layer, on a band along the lattice's diagonal."""

    def __init__(self, batch: int = BATCH, frames: int = FRAMES, symbols: int = SYMBOLS) -> None:
        torch.manual_seed(0)
        nodes = (batch, frames, PRUNE_RANGE)
        self.joint = torch.randn(*nodes, JOINER_DIM).requires_grad_()
        self.output = nn.Linear(JOINER_DIM, UNITS)
        self.teacher_logits = torch.randn(*nodes, UNITS)
        self.symbols = torch.randint(1, UNITS, (batch, symbols))
        # The band moves up from the first label to the last one: (N, T, range) label positions.
        first = torch.linspace(0, symbols + 1 - PRUNE_RANGE, frames).long()
        self.ranges = (first[:, None] + torch.arange(PRUNE_RANGE)).expand(nodes)
        self.valid = torch.ones(nodes, dtype=torch.bool)

    def transducer_loss(self, logits: Tensor) -> Tensor:
        return rnnt_loss_pruned(logits, self.symbols, self.ranges, BLANK, backend="torch")


def transducer_alone(inputs: Inputs) -> Tensor:
    """Return the pruned loss."""
    return inputs.transducer_loss(inputs.output(inputs.joint))


def with_top_tokens(inputs: Inputs) -> Tensor:
    """Return the pruned loss plus the adaptive alpha-divergence over the teacher's top tokens."""
    teacher = top_classes(inputs.teacher_logits, NUM_TOKENS)
    logits, loss, _ = distil(inputs.output(inputs.joint), teacher, inputs.valid, Divergence("alpha"))
    return inputs.transducer_loss(logits) + loss.sum()


def with_vocabulary(inputs: Inputs) -> Tensor:
    """Return the pruned loss plus torch's KL divergence over all tokens."""
    teacher = inputs.teacher_logits.log_softmax(dim=-1)
    logits = inputs.output(inputs.joint)
    loss = inputs.transducer_loss(logits)
    student = logits.log_softmax(dim=-1)
    divergence = functional.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=-1)
    return loss + divergence.masked_fill(~inputs.valid, 0.0).sum()


SIDES: dict[str, Callable[[Inputs], Tensor]] = {
    "alone": transducer_alone,
    "top": with_top_tokens,
    "vocabulary": with_vocabulary,
}


def added_peak_bytes(side: str) -> int:
    """Return the peak resident memory that one step adds; to be called once, in a process of its own."""
    inputs = Inputs()
    SIDES[side](Inputs(batch=1, frames=8, symbols=6)).backward()  # libraries and thread pools do not count
    before = resident_bytes("VmRSS")
    SIDES[side](inputs).backward()
    return resident_bytes("VmHWM") - before


def backward(loss: Callable[[Inputs], Tensor], inputs: Inputs) -> None:
    """Run one step of a side."""
    loss(inputs).backward()


def main() -> None:
    """Run the comparison, or one memory measurement in a child process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peak-bytes-of", choices=SIDES, help="print only the memory that one step adds, in bytes")
    side = parser.parse_args().peak_bytes_of
    if side:
        print(added_peak_bytes(side))
        return
    peaks = {side: added_peak_megabytes(__file__, side) for side in SIDES}
    ours = peaks["top"] - peaks["alone"]
    other = peaks["vocabulary"] - peaks["alone"]
    inputs = Inputs()
    seconds = {side: median_seconds(partial(backward, step, inputs), 3) for side, step in SIDES.items()}
    report(
        "distillation over ten tokens against the whole vocabulary, peak MB beyond the transducer loss's",
        ours,
        other,
        ours / other,
        1 / 4,
        one_tensor_mb=inputs.teacher_logits.numel() * 4 / 1e6,
        **{f"{side}_peak_mb": peak for side, peak in peaks.items()},
        **{f"{side}_seconds": taken for side, taken in seconds.items()},
    )


if __name__ == "__main__":
    main()
