"""Writes a part of a model as an ONNX graph whose weights keep their names and their layout in the model.

A graph slices the weights of the supernet itself, and the runtime computes the slices once, when it loads the file. So
the graphs of all subnets have the same constants, which a bundle stores once.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from slimasr.export.packages import needed
from slimasr.export.parts import Part
from slimasr.export.shared import replaced
from slimasr.models.base import SpeechModel
from slimasr.models.build import build_model

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
"""The version of the operators that torch's exporter writes; it does not write older ones."""

IR_VERSION = 8
"""The version of the file format. The exporter writes a newer one, which older runtimes refuse; onnxruntime reads this
one from 1.15 on."""

FOLDED = 1024
"""What follows from sizes alone is computed at export if it has at most so many numbers."""


def deployable(model: SpeechModel) -> SpeechModel:
    """Copy a model to the CPU, in evaluation mode and in a form that runtimes without complex numbers can run."""
    encoder = model.config.encoder
    if encoder.kind != "mh_ssm" or encoder.convolution == "blocked":
        return copy.deepcopy(model).cpu().eval()
    # The same weights, but the state space layers are computed block by block, with real numbers.
    blocked = encoder.model_copy(update={"convolution": "blocked"})
    copied = build_model(
        model.config.model_copy(update={"encoder": blocked}), None, model.vocab_size, model.widths, tuple(model.heads)
    )
    copied.load_state_dict({name: value for name, value in model.state_dict().items() if name in copied.state_dict()})
    return copied.eval()


def traced(part: Part) -> ModelProto:
    """Trace a part.

    Returns:
        The graph with its weights, whose names are those of the parameters and buffers of the module.

    Raises:
        UserError: the extra ``export`` is not installed.
    """
    for package in ("onnx", "onnxscript"):
        needed(package)
    proto = replaced(_exported(part), _exported)
    proto.ir_version = IR_VERSION
    return part.described(proto)


def _exported(part: Part) -> ModelProto:
    """Trace a part; operators that are traced on their own are one node each."""
    with torch.no_grad(), quiet():
        program = torch.onnx.export(
            part.module.eval(),
            tuple(part.inputs.values()),
            dynamo=True,
            dynamic_shapes=part.dynamic_shapes,
            input_names=list(part.inputs),
            output_names=list(part.outputs),
            opset_version=OPSET,
            verbose=False,
            optimize=False,
        )
        assert program is not None
        weights = set(dict(part.module.named_parameters())) | set(dict(part.module.named_buffers()))

        def folds(node: Any) -> bool | None:
            # What is computed from weights, such as slices and transposed copies, would be stored beside them.
            return False if any(value is not None and value.name in weights for value in node.inputs) else None

        needed("onnxscript.optimizer").optimize_ir(program.model, output_size_limit=FOLDED, should_fold=folds)
    proto = program.model_proto
    _strip(proto)
    return proto


def _strip(proto: ModelProto) -> None:
    """Remove source locations of the nodes and shapes of intermediate values: half a megabyte that no device needs."""
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")
    del proto.graph.value_info[:]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
    del proto.metadata_props[:]
    del proto.graph.metadata_props[:]


@contextmanager
def quiet() -> Iterator[None]:
    """Hide warnings and logs of the exporter, which are for its developers; errors are still raised."""
    names = ("torch.onnx", "torch.onnx._internal.exporter._registration")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
