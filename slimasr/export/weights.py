"""The weights of several graphs in one file, each tensor once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from slimasr.export.packages import needed
from slimasr.files import replacing

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

SMALLEST = 256
"""Tensors of fewer bytes stay in the graph, where they take less than the description of their place."""

ALIGNMENT = 64
"""Tensors start at multiples of so many bytes: a cache line, as the runtime's kernels read them in place."""

PAGE = 4096
"""Tensors of a page or more start at a page, so that the runtime can map each of them."""


class WeightsFile:
    """A file of tensors that grows by those that no earlier graph had."""

    def __init__(self, name: str) -> None:
        """Begin an empty file.

        Args:
            name: the name by which graphs refer to it; it lies beside them.
        """
        self.name = name
        self._content = bytearray()
        self._places: dict[str, int] = {}

    @property
    def is_empty(self) -> bool:
        """Whether it has no tensor."""
        return not self._content

    def move(self, proto: ModelProto) -> None:
        """Move the large tensors of a graph into the file; the graph then refers to them."""
        for tensor in proto.graph.initializer:
            data = needed("onnx.numpy_helper").to_array(tensor).tobytes()
            if len(data) >= SMALLEST:
                _refer(tensor, self.name, self._place(data), len(data))

    def _place(self, data: bytes) -> int:
        """Return the offset of a tensor in bytes, which is appended if its content is new."""
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._places:
            step = PAGE if len(data) >= PAGE else ALIGNMENT
            self._content.extend(bytes(-len(self._content) % step))
            self._places[digest] = len(self._content)
            self._content.extend(data)
        return self._places[digest]

    def write(self, folder: Path) -> Path:
        """Write the file.

        Raises:
            UserError: it cannot be written.
        """
        path = folder / self.name
        with replacing(path) as temporary:
            temporary.write_bytes(self._content)
        return path


def _refer(tensor: TensorProto, file: str, offset: int, length: int) -> None:
    """Replace the content of a tensor by a reference to a file."""
    tensor.ClearField("raw_data")
    # Tensors that torch makes have raw data; those of the optimiser may have their numbers in fields of their type.
    for field in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        tensor.ClearField(field)
    tensor.data_location = needed("onnx").TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", file), ("offset", str(offset)), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key = key
        entry.value = value
