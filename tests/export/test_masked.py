"""Matrices of pathways in a graph, whole and packed, against products in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")

from slimasr.elastic.blocks import Block  # noqa: E402
from slimasr.export.masked import Blocks, masked  # noqa: E402
from slimasr.export.quantize import SUFFIX  # noqa: E402
from slimasr.export.trace import IR_VERSION, OPSET  # noqa: E402

SHAPE = (13, 21)
BLOCKS: list[Block] = [(8, 1), (1, 1), (3, 5), (13, 21)]


def graph_of(weights: np.ndarray) -> onnx.ModelProto:
    """A graph that returns its one matrix, in float32 or int8."""
    name = "weight" + (SUFFIX if weights.dtype == np.int8 else "")
    kind = onnx.helper.np_dtype_to_tensor_dtype(weights.dtype)
    out = onnx.helper.make_tensor_value_info("out", kind, list(SHAPE))
    nodes = [onnx.helper.make_node("Identity", [name], ["out"])]
    graph = onnx.helper.make_graph(nodes, "matrix", [], [out], [onnx.numpy_helper.from_array(weights, name)])
    operators = [onnx.helper.make_opsetid("", OPSET)]
    return onnx.helper.make_model(graph, opset_imports=operators, ir_version=IR_VERSION)


def drawn(kept: float, block: Block, seed: int) -> Blocks:
    """Blocks of which a share is kept."""
    rows, columns = (-(-size // step) for size, step in zip(SHAPE, block, strict=True))
    return np.random.default_rng(seed).random((rows, columns)) < kept


def entries(mask: Blocks, block: Block) -> np.ndarray:
    """(outputs, inputs): which numbers of the matrix a mask keeps."""
    return np.kron(mask, np.ones(block, dtype=bool))[: SHAPE[0], : SHAPE[1]]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("kept", [0.0, 0.2, 0.8, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_a_graph_has_the_matrix_of_its_language(block: Block, kept: float, dtype: type) -> None:
    weights = np.random.default_rng(0).integers(-127, 128, SHAPE).astype(dtype)
    mask, other = (drawn(kept, block, seed) for seed in (1, 2))
    union = mask | other
    proto = masked(graph_of(weights), {"weight": mask}, block, {"weight": union})
    onnx.checker.check_model(proto)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {})[0], weights * entries(mask, block))


@pytest.mark.parametrize(("kept", "packed"), [(0.3, True), (1.0, False)])
def test_a_sparse_matrix_is_packed_and_its_mask_is_gone_once_it_is_loaded(
    tmp_path: Path, kept: float, packed: bool
) -> None:
    weights = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    mask = drawn(kept, (8, 1), 1)
    proto = masked(graph_of(weights), {"weight": mask}, (8, 1))
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    assert ("weight.packed" in stored, "weight" in stored) == (packed, not packed)
    if packed:
        assert stored["weight.packed"].shape == (mask.sum() + 1, 8, 1)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    loaded = onnx.load(tmp_path / "loaded.onnx").graph
    assert {node.op_type for node in loaded.node} <= {"Identity"}


def test_languages_share_what_is_packed() -> None:
    weights = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    masks = [drawn(0.2, (8, 1), seed) for seed in (1, 2)]
    union = masks[0] | masks[1]
    protos = [masked(graph_of(weights), {"weight": mask}, (8, 1), {"weight": union}) for mask in masks]
    first, second = (
        {tensor.name: tensor.SerializeToString() for tensor in proto.graph.initializer} for proto in protos
    )
    assert [name for name in first if first[name] != second[name]] == ["weight.mask"]
