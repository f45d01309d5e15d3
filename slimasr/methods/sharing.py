"""Tensors that are computed once for all passes of a step: the predictor's output, or the encoder's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from torch import Tensor

from slimasr.data.batch import Batch
from slimasr.encoders.base import EncoderOutput
from slimasr.objective.objective import Objective
from slimasr.objective.teaching import row_index
from slimasr.supernet.subnet import Subnet


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
        # Not every pass reads every tensor.
        pairs = zip(self.tensors, self.leaves, strict=True)
        used = [(tensor, leaf.grad) for tensor, leaf in pairs if leaf.grad is not None]
        if not used:
            return
        tensors, grads = zip(*used, strict=True)
        backward(tensors, grads)


class SharedPredictor(SharedTensors):
    """The predictor's output for all passes of a step."""

    def __init__(self, objective: Objective, batch: Batch) -> None:
        super().__init__([objective.model.predictor(batch.y)])

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


class SharedEncoder(SharedTensors):
    """The encoder's output for subnets that are the first layers of one network.

    One pass of that network serves them all: it keeps the hidden states after the last layer of each.
    """

    def __init__(self, objective: Objective, batch: Batch, subnets: Sequence[Subnet], taps: Iterable[int]) -> None:
        """Run the network.

        Args:
            subnets: the subnets of the step, all of one width and without units.
            taps: further layers whose hidden states the passes need.
        """
        whole = Subnet(subnets[0].width)
        ends = {subnet.path[-1] for subnet in subnets if subnet.path is not None}
        for subnet in subnets:
            is_prefix = subnet.path is None or subnet.path == tuple(range(len(subnet.path)))
            alike = subnet.width == whole.width and not subnet.units
            assert is_prefix and alike, f"{subnet.id} is not made of the first layers of {whole.id}"
        layers = sorted(ends | set(taps))
        encoded = objective.model.encode(batch.x, batch.x_lens, whole, layers)
        # The output comes first, then the taps in the order of `layers`; the leaves keep this order.
        super().__init__([encoded.out, *(encoded.taps[layer] for layer in layers)])
        out, *hidden = self.leaves
        self.output = EncoderOutput(out, encoded.lens, dict(zip(layers, hidden, strict=True)))

    def output_of(self, subnet: Subnet, rows: Sequence[int] | None) -> EncoderOutput:
        """Return what an encoder pass of this subnet alone would return for these utterances, None = all."""
        output = self.output
        # Without a path, the subnet has all layers and the network's own output.
        if subnet.path is not None:
            output = EncoderOutput(output.taps[subnet.path[-1]], output.lens, output.taps)
        return output if rows is None else output.select(rows)
