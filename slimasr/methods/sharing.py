"""Tensors that are computed once for all passes of a step: the predictor's output, or the encoder's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from slimasr.data.batch import Batch
from slimasr.encoders.base import EncoderOutput
from slimasr.objective.objective import Objective
from slimasr.supernet.subnet import Subnet


class SharedTensors:
    """One forward and one backward pass for all passes of a step that read these tensors; in between, each tensor is a
    leaf that gathers the gradients of those passes, so that memory holds the graph of one of them at a time."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = list(tensors)
        self.leaves = [tensor.detach().requires_grad_() for tensor in tensors]

    def backward(self) -> None:
        """Pass the gathered gradients on into what made the tensors."""
        pairs = zip(self.tensors, self.leaves, strict=True)
        used = [(tensor, leaf.grad) for tensor, leaf in pairs if leaf.grad is not None]
        if not used:
            return
        tensors, grads = zip(*used, strict=True)
        # Backward operations take the types of their forward ones by themselves.
        with torch.autocast(tensors[0].device.type, enabled=False):
            torch.autograd.backward(tensors, grads)


class SharedPredictor(SharedTensors):
    """The predictor's output for all passes of a step."""

    def __init__(self, objective: Objective, batch: Batch) -> None:
        super().__init__([objective.model.predictor(batch.y)])

    def output_of(self, rows: Sequence[int] | None, part: Batch) -> Tensor:
        """(N, U + 1, P) for the utterances of one pass.

        Args:
            rows: their indices in the batch, None = all.
            part: the batch of these utterances alone.
        """
        (leaf,) = self.leaves
        chosen = leaf if rows is None else leaf[list(rows)]
        return chosen[:, : part.y.shape[1] + 1]


class SharedEncoder(SharedTensors):
    """The encoder's output for subnets that are the first layers of one network: all of them are read off one pass of
    that network, which holds its hidden states after the last layer of each."""

    def __init__(self, objective: Objective, batch: Batch, subnets: Sequence[Subnet], taps: Iterable[int]) -> None:
        """Run the network.

        Args:
            subnets: those of the step, all of one width and without units.
            taps: more layers whose hidden states the passes need.
        """
        whole = Subnet(subnets[0].width)
        ends = {subnet.path[-1] for subnet in subnets if subnet.path is not None}
        for subnet in subnets:
            is_prefix = subnet.path is None or subnet.path == tuple(range(len(subnet.path)))
            alike = subnet.width == whole.width and not subnet.units
            assert is_prefix and alike, f"{subnet.id} is not made of the first layers of {whole.id}"
        layers = sorted(ends | set(taps))
        encoded = objective.model.encode(batch.x, batch.x_lens, whole, layers)
        super().__init__([encoded.out, *(encoded.taps[layer] for layer in layers)])
        out, *hidden = self.leaves
        self.output = EncoderOutput(out, encoded.lens, dict(zip(layers, hidden, strict=True)))

    def output_of(self, subnet: Subnet, rows: Sequence[int] | None) -> EncoderOutput:
        """What a pass of its own would return for these utterances, None = all."""
        output = self.output
        if subnet.path is not None:
            output = EncoderOutput(output.taps[subnet.path[-1]], output.lens, output.taps)
        return output if rows is None else output.select(rows)
