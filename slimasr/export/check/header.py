"""What an ONNX file says of itself: versions, metadata, inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from slimasr.errors import UserError
from slimasr.export.packages import needed

Signature = tuple[tuple[str, int], ...]
"""The type and the number of dimensions of each input, in order."""

SIGNATURES: Mapping[Signature, str] = {
    (("float", 3), ("int64", 1)): "encoder",
    (("int64", 2),): "decoder",
    (("float", 2), ("float", 2)): "joiner",
    (("float", 2),): "features",
}
"""The inputs of each part of a bundle; those of an encoder of streams begin with features, and states follow."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        ir_version: version of the file format.
        opset: version of the standard operators.
        metadata: key -> value.
        inputs: type and number of dimensions of each input.
        data: names of the files of its weights; empty if it has them itself.
    """

    ir_version: int
    opset: int
    metadata: Mapping[str, str]
    inputs: Signature
    data: tuple[str, ...]

    @property
    def part(self) -> str:
        """Name the part of a bundle whose inputs the file has; empty if it is none."""
        known = SIGNATURES.get(self.inputs)
        if known is not None:
            return known
        # An encoder of streams takes features and its states.
        return "encoder" if len(self.inputs) > 1 and self.inputs[0] == ("float", 3) else ""


def read_header(path: Path) -> Header:
    """Read a file without the weights that it keeps elsewhere.

    Raises:
        UserError: it is missing or no ONNX file, or the extra ``export`` is not installed.
    """
    onnx = needed("onnx")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); copy it from the bundle again") from None
    except Exception as error:  # protobuf raises classes of its own
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: is no ONNX file ({reason}); copy it from the bundle again") from None
    opsets = {one.domain: one.version for one in model.opset_import}
    return Header(
        model.ir_version,
        opsets.get("", 0),
        {entry.key: entry.value for entry in model.metadata_props},
        tuple(_inputs(onnx, model)),
        tuple(dict.fromkeys(_data(model))),
    )


def _inputs(onnx: object, model: object) -> Iterator[tuple[str, int]]:
    kinds = {1: "float", 7: "int64", 6: "int32"}
    for entry in model.graph.input:  # type: ignore[attr-defined]
        tensor = entry.type.tensor_type
        yield kinds.get(tensor.elem_type, "other"), len(tensor.shape.dim)


def _data(model: object) -> Iterator[str]:
    for constant in model.graph.initializer:  # type: ignore[attr-defined]
        for entry in constant.external_data:
            if entry.key == "location":
                yield entry.value
