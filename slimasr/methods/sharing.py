"""Tensors that are computed once for all passes of a step, such as the predictor's output."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from torch import Tensor

from slimasr.data.batches.batch import Batch
from slimasr.encoders.base import Known
from slimasr.objective.objective import Objective
from slimasr.objective.teaching import row_index


class Backward(Protocol):
    """Accumulates gradients, as `torch.autograd.backward` does; the trainer's also scales them for mixed precision."""

    def __call__(self, tensors: Tensor | Sequence[Tensor], grads: Sequence[Tensor] | None = None, /) -> None:
        """Propagate the gradient of a loss, or the known gradients of some tensors, to the leaves."""


class SharedTensors:
    """Tensors computed once, with one forward and one backward pass, for all passes of a step that read them.

    In between, a detached leaf stands in for each tensor and gathers the gradients of those passes, so that memory
    holds the graph of one of them at a time.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = list(tensors)
        # A leaf has the tensor's memory but no graph: the backward pass of a pass ends here.
        self.leaves = [tensor.detach().requires_grad_() for tensor in tensors]

    def backward(self, backward: Backward) -> None:
        """Propagate the gathered gradients into the computation of the tensors."""
        # Not every pass reads every tensor, and what comes from frozen weights has no graph.
        pairs = zip(self.tensors, self.leaves, strict=True)
        used = [(tensor, leaf.grad) for tensor, leaf in pairs if leaf.grad is not None and tensor.requires_grad]
        if not used:
            return
        tensors, grads = zip(*used, strict=True)
        backward(tensors, grads)


class SharedKnown(Known):
    """What layers compute from their weights alone, such as kernels, once for all passes of a step."""

    def __init__(self) -> None:
        super().__init__()
        self._shared: list[SharedTensors] = []
        # Key -> frames and leaves of the longest results; shorter passes read the beginning.
        self._longest: dict[Hashable, tuple[int, list[Tensor]]] = {}

    def get(self, key: Hashable, frames: int, compute: Callable[[int], list[Tensor]]) -> list[Tensor]:
        if key not in self._longest or self._longest[key][0] < frames:
            shared = SharedTensors(compute(frames))
            self._shared.append(shared)
            self._longest[key] = frames, shared.leaves
        return [leaf[..., :frames] for leaf in self._longest[key][1]]

    def backward(self, backward: Backward) -> None:
        """Propagate the gathered gradients into the weights."""
        for shared in self._shared:
            shared.backward(backward)


class SharedPredictor(SharedTensors):
    """The predictor's output for all passes of a step."""

    def __init__(self, objective: Objective, batch: Batch) -> None:
        super().__init__([objective.transducer.predictor_out(batch.y)])

    def output_of(self, rows: Sequence[int] | None, part: Batch) -> Tensor:
        """Return (N, U + 1, P) output for the utterances of one pass.

        Args:
            rows: their indices in the batch, None = all.
            part: the batch of these utterances alone.
        """
        (leaf,) = self.leaves
        chosen = leaf if rows is None else leaf[row_index(rows, leaf.device)]
        # A part is padded to its own longest label sequence, which may be shorter than the batch's.
        return chosen[:, : part.y.shape[1] + 1]
