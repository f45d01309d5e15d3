"""Guards of a long run: non-finite steps, running out of memory, and state that must survive a trial."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from slimasr.errors import UserError
from slimasr.training.checkpoint import RunState
from slimasr.training.seeding import preserved_rng

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def note_nonfinite(state: RunState, utterances: Sequence[str], limit: int) -> None:
    """Count one skipped step.

    Raises:
      UserError: it was the ``limit``-th in a row. The newest checkpoint is from before the first of them or holds
        weights that none of them touched.
    """
    state.nonfinite += 1
    state.nonfinite_row += 1
    if state.nonfinite_row < limit:
        return
    names = ", ".join(utterances[:10]) + (", ..." if len(utterances) > 10 else "")
    raise UserError(
        f"step {state.step}: non-finite loss or gradient {limit} times in a row (training.max_nonfinite), last in "
        f"{names or 'gradients alone, all losses being finite'}; check these utterances or lower "
        "training.optimizer.lr; the last good checkpoint is kept"
    )


class BufferSnapshot:
    """Buffers (running statistics and the like) as they were, to undo what a failed step did to them."""

    def __init__(self, *modules: nn.Module) -> None:
        self.saved: list[tuple[Tensor, Tensor]] = [(b, b.clone()) for m in modules for b in m.buffers()]

    @torch.no_grad()
    def restore(self) -> None:
        """Write the old values back."""
        for buffer, value in self.saved:
            buffer.copy_(value)


@contextmanager
def untouched(*modules: nn.Module) -> Iterator[None]:
    """Within, anything may run but an optimiser: gradients, buffers, random numbers are as before at the end."""
    snapshot = BufferSnapshot(*modules)
    with preserved_rng():
        try:
            yield
        finally:
            snapshot.restore()
            for module in modules:
                module.zero_grad(set_to_none=True)


@contextmanager
def explained_out_of_memory(doing: str) -> Iterator[None]:
    """Turn running out of memory into an error that names the options to lower.

    Args:
      doing: what was tried, for the message.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, MemoryError) or any(text in str(error).lower() for text in OUT_OF_MEMORY)
        if not known:
            raise
        raise UserError(f"{doing}: out of memory; lower data.batch_seconds or set data.max_cuts") from error
