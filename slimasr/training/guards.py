"""Guards of a long run: non-finite steps, running out of memory, and state that a trial step must not change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from slimasr.data.batches.batch import Batch
from slimasr.errors import UserError
from slimasr.models.base import FRAMES_PER_SECOND
from slimasr.training.checkpoint import RunState
from slimasr.training.seeding import preserved_rng

# Parts of the messages of CUDA and of torch's CPU allocator, in lower case.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def note_nonfinite(state: RunState, utterances: Sequence[str], limit: int) -> None:
    """Count one skipped step.

    Raises:
        UserError: it was the ``limit``-th in a row. None of them changed the weights of the newest checkpoint.
    """
    state.nonfinite += 1
    state.nonfinite_row += 1
    if state.nonfinite_row < limit:
        return
    names = ", ".join(utterances[:10])
    if len(utterances) > 10:
        names += ", ..."
    raise UserError(
        f"step {state.step}: non-finite loss or gradient {limit} times in a row (training.max_nonfinite), last in "
        f"{names or 'gradients alone, all losses being finite'}; check these utterances or lower "
        "training.optimizer.lr; the last good checkpoint is kept"
    )


class BufferSnapshot:
    """A snapshot of buffers such as running statistics, to undo the changes of a failed step."""

    def __init__(self, *modules: nn.Module) -> None:
        # The buffers are kept together with their values, so that restoring needs no names.
        self.saved: list[tuple[Tensor, Tensor]] = [(b, b.clone()) for m in modules for b in m.buffers()]

    @torch.no_grad()
    def restore(self) -> None:
        """Restore the old values."""
        for buffer, value in self.saved:
            buffer.copy_(value)


@contextmanager
def untouched(*modules: nn.Module) -> Iterator[None]:
    """Restore gradients, buffers and random states after the block, which may run anything except an optimiser."""
    snapshot = BufferSnapshot(*modules)
    with preserved_rng():
        try:
            yield
        finally:
            snapshot.restore()
            for module in modules:
                module.zero_grad(set_to_none=True)


def explained_validation(batch: Batch) -> AbstractContextManager[None]:
    """Convert running out of memory in validation into an error that names the utterances and the option to lower."""
    names = ", ".join(batch.ids[:3])
    if len(batch) > 3:
        names += f" and {len(batch) - 3} more"
    seconds = float(batch.x_lens.max()) / FRAMES_PER_SECOND
    doing = f"validation of {names} (the longest has {seconds:.1f} s)"
    return explained_out_of_memory(doing, "lower decoding.batch_seconds and run the same command again")


@contextmanager
def explained_out_of_memory(
    doing: str, remedy: str = "lower data.batch_seconds or set data.max_cuts"
) -> Iterator[None]:
    """Convert running out of memory into an error that names the options to lower.

    Args:
        doing: the attempted operation, for the message.
        remedy: what the user can do.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # On a CPU, torch raises a plain RuntimeError, which only its message distinguishes.
        known = isinstance(error, MemoryError) or any(text in str(error).lower() for text in OUT_OF_MEMORY)
        if not known:
            raise
        raise UserError(f"{doing}: out of memory; {remedy}") from error
