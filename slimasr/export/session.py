"""An ONNX file in onnxruntime, opened as on a device, with tensors as inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from slimasr.errors import UserError
from slimasr.export import device
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
            UserError: the extra ``export`` is not installed, or the file does not open.
        """
        needed("onnxruntime")
        try:
            self._session = device.Session(path, threads)
        except device.BundleError as error:
            raise UserError(str(error)) from None
        self.inputs = [entry.name for entry in self._session.session.get_inputs()]

    def run(self, *inputs: Tensor) -> list[Tensor]:
        """Run the file on inputs in the order in which it was exported.

        Raises:
            UserError: the file does not run, or takes other inputs.
        """
        assert len(inputs) == len(self.inputs)
        try:
            outputs = self._session(*(value.contiguous().numpy() for value in inputs))
        except device.BundleError as error:
            raise UserError(str(error)) from None
        return [torch.from_numpy(value) for value in outputs]
