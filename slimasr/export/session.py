"""An ONNX file in onnxruntime, with tensors as inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from slimasr.export.packages import needed


class Session:
    """An open file.

    Attributes:
        inputs: names of the inputs, in their order.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Open a file; its weights may be in another file beside it.

        Args:
            path: the file.
            threads: number of threads that compute.

        Raises:
            UserError: the extra ``export`` is not installed.
        """
        runtime = needed("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [entry.name for entry in self._session.get_inputs()]

    def run(self, *inputs: Tensor) -> list[Tensor]:
        """Run the file on inputs in the order in which it was exported."""
        feeds = {name: value.contiguous().numpy() for name, value in zip(self.inputs, inputs, strict=True)}
        return [torch.from_numpy(value) for value in self._session.run(None, feeds)]
