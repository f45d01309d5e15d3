"""A stand-alone model as ONNX files: the parts that device runtimes load.

A transducer has three, a CTC model one::

    encoder     x (N, T, F) float, x_lens (N,)      -> am (N, T', J), lens (N,)      projection included
    predictor   labels (n,), state_0 (n, ...), ...  -> lm (n, J), next_0, ...        one label, projection included
    joiner      am (n, J), lm (n, J)                -> logits (n, V)
    ctc         x (N, T, F) float, x_lens (N,)      -> log_probs (N, T', V), lens (N,)
"""

from __future__ import annotations

import copy
import importlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.export import Dim

from slimasr.errors import UserError
from slimasr.files import replacing, write_atomic, writing
from slimasr.models.base import SpeechModel
from slimasr.models.build import build_model
from slimasr.models.ctc import CtcModel
from slimasr.models.predictor import PredictorState
from slimasr.models.transducer import Transducer

if TYPE_CHECKING:
    from typing_extensions import Self

EXAMPLE_FRAMES = 203
"""Length of the longer of the two utterances with which the encoder is traced; files accept any length."""
QUANTIZED_OPS = ["MatMul", "Gemm", "Gather"]
"""The ONNX operators of linear layers, LSTM steps and embeddings."""
FOLDED = 1024
"""A constant is computed at export only if it has at most so many numbers more than its inputs: the powers of the poles
of state space models are several times as large as the poles."""


@dataclass(frozen=True)
class OnnxFiles:
    """The files of a model: a subclass has an attribute for each part, after which the file is named."""

    @property
    def parts(self) -> dict[str, Path]:
        """The file of each part, by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def bytes(self) -> int:
        """Size of all files in bytes."""
        return sum(path.stat().st_size for path in self.parts.values())

    @classmethod
    def inside(cls, folder: Path, suffix: str) -> Self:
        """Create the folder, and name the files in it."""
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return cls(**{field.name: folder / f"{field.name}.{suffix}" for field in fields(cls)})


@dataclass(frozen=True)
class TransducerFiles(OnnxFiles):
    """The files of a transducer."""

    encoder: Path
    predictor: Path
    joiner: Path


@dataclass(frozen=True)
class CtcFiles(OnnxFiles):
    """The file of a CTC model."""

    ctc: Path


Files = TypeVar("Files", bound=OnnxFiles)


def export_onnx(model: SpeechModel, folder: Path) -> OnnxFiles:
    """Write a stand-alone model as float32 ONNX files.

    Args:
        model: a result of `SpeechModel.extract`.
        folder: where the files are written; it is created if necessary, and files of the same name are replaced.

    Raises:
        UserError: the extra ``export`` is not installed.
    """
    for package in ("onnx", "onnxscript"):
        needed(package)
    model = deployable(model)
    if isinstance(model, CtcModel):
        return _export_ctc(model, CtcFiles.inside(folder, "onnx"))
    assert isinstance(model, Transducer)
    return _export_transducer(model, TransducerFiles.inside(folder, "onnx"))


def _export_ctc(model: CtcModel, files: CtcFiles) -> CtcFiles:
    """Write the one file of a CTC model; the number of labels is a constant of the graph, as runtimes expect it."""
    _export_frames(_Ctc(model), model.config.num_mel_bins, files.ctc, "log_probs")
    return files


def _export_frames(module: nn.Module, bins: int, path: Path, output: str) -> None:
    """Write a module from features to one output per encoder frame, whose name is given, and the lengths."""
    # Batch and length stay free, so that one file serves any number of utterances and frames. Unequal lengths, so that
    # the example has padding to mask.
    lens = torch.tensor([EXAMPLE_FRAMES, EXAMPLE_FRAMES - 60])
    dynamic = {"x": {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}, "x_lens": {0: Dim.DYNAMIC}}
    export_part(module, (torch.zeros(2, EXAMPLE_FRAMES, bins), lens), path, dynamic, [output, "lens"])


def _export_transducer(model: Transducer, files: TransducerFiles) -> TransducerFiles:
    """Write the three files of a transducer, which take any number of utterances, frames and hypotheses."""
    _export_frames(_Encoder(model), model.config.num_mel_bins, files.encoder, "am")
    dim = model.config.joiner.dim
    n = Dim.DYNAMIC
    state = model.predictor.init_state(2, torch.device("cpu")).tensors
    export_part(
        _Predictor(model),
        (torch.zeros(2, dtype=torch.int64), *state),
        files.predictor,
        {"labels": {0: n}, "state": tuple({0: n} for _ in state)},
        ["lm", *(f"next_{i}" for i in range(len(state)))],
    )
    export_part(
        _Joiner(model),
        (torch.zeros(2, dim), torch.zeros(2, dim)),
        files.joiner,
        {"am": {0: n}, "lm": {0: n}},
        ["logits"],
    )
    return files


def quantize(files: Files, folder: Path, *, reduce_range: bool = False) -> Files:
    """Convert float32 files to int8 files by onnxruntime's dynamic quantisation.

    Weights of linear layers are symmetric with one scale per output channel, embeddings have one scale. The scales of
    activations are computed at run time. On processors without int8 dot products (VNNI, SDOT), sums of large products
    may saturate.

    Args:
        files: the float32 files.
        folder: where the int8 files are written.
        reduce_range: whether weights get 7 bits, whose products do not saturate on any processor.

    Raises:
        UserError: the extra ``export`` is not installed.
    """
    quantization = needed("onnxruntime.quantization")
    onnx = needed("onnx")
    quantized = files.inside(folder, "int8.onnx")
    with _quiet():
        for part, path in files.parts.items():
            proto = onnx.load(path)
            # A product with a constant that is not a matrix is no linear layer but a kernel of a state space model. A
            # node without any constant matrix, such as a product of attention, has nothing to store in int8.
            matrices = {constant.name for constant in proto.graph.initializer if len(constant.dims) == 2}
            # onnxruntime writes the file itself, so it gets a temporary name until it is complete.
            with replacing(quantized.parts[part]) as temporary:
                quantization.quantize_dynamic(
                    proto,
                    temporary,
                    op_types_to_quantize=QUANTIZED_OPS,
                    nodes_to_exclude=[node.name for node in proto.graph.node if not matrices & set(node.input)],
                    per_channel=True,
                    reduce_range=reduce_range,
                    weight_type=quantization.QuantType.QInt8,
                )
    return quantized


def deployable(model: SpeechModel) -> SpeechModel:
    """Copy a model to the CPU, in evaluation mode and in a form that runtimes without complex numbers can run."""
    encoder = model.config.encoder
    if encoder.kind != "mh_ssm" or encoder.convolution == "real":
        return copy.deepcopy(model).cpu().eval()
    # The same weights, but the convolution of the state space layers is computed with real numbers.
    real = encoder.model_copy(update={"convolution": "real"})
    copied = build_model(model.config.model_copy(update={"encoder": real}), None, model.vocab_size, (1.0,))
    copied.load_state_dict(model.state_dict())
    return copied.eval()


def needed(package: str) -> ModuleType:
    """Import an optional package.

    Raises:
        UserError: the package is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError:
        raise UserError(f"{package} is not installed: pip install 'slimasr[export]'") from None


class _Encoder(nn.Module):
    """Encoder and projection: the graph of the first file."""

    def __init__(self, model: Transducer) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, x_lens: Tensor) -> tuple[Tensor, Tensor]:
        encoded = self.model.encode(x, x_lens)
        return self.model.project_encoder(encoded.out), encoded.lens


class _Ctc(nn.Module):
    """Encoder, output layer and softmax: the graph of the only file of a CTC model."""

    def __init__(self, model: CtcModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, x_lens: Tensor) -> tuple[Tensor, Tensor]:
        encoded = self.model.encode(x, x_lens)
        return self.model.ctc_logits(encoded.out).log_softmax(-1), encoded.lens


class _Predictor(nn.Module):
    """One step of the predictor and its projection; the state is flattened into separate inputs and outputs."""

    def __init__(self, model: Transducer) -> None:
        super().__init__()
        self.predictor = model.predictor
        self.joiner = model.joiner

    def forward(self, labels: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        out, after = self.predictor.step(labels, PredictorState(state))
        return self.joiner.project_predictor(out), *after.tensors


class _Joiner(nn.Module):
    """The joiner without the projections, which the other two files include."""

    def __init__(self, model: Transducer) -> None:
        super().__init__()
        self.joiner = model.joiner

    def forward(self, am: Tensor, lm: Tensor) -> Tensor:
        logits: Tensor = self.joiner(am, lm)
        return logits


def export_part(
    module: nn.Module, example: tuple[Tensor, ...], path: Path, dynamic: dict[str, Any], outputs: Sequence[str]
) -> None:
    """Write a module as an ONNX file.

    Args:
        module: the module.
        example: inputs to trace it with.
        path: the file.
        dynamic: input name -> the free dimensions of that input; ``state`` stands for all inputs that are left.
        outputs: names of the outputs.
    """
    names = [name for name in dynamic if name != "state"]
    names += [f"state_{i}" for i in range(len(example) - len(names))]
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            module.eval(),
            example,
            dynamo=True,
            dynamic_shapes=dynamic,
            input_names=names,
            output_names=list(outputs),
            verbose=False,
            optimize=False,
        )
        assert program is not None
        # By default, the optimiser would also fold constants that make the file several times as large.
        needed("onnxscript.optimizer").optimize(program.model, output_size_limit=FOLDED)
    proto = program.model_proto
    # Source locations of the nodes and shapes of intermediate values: half a megabyte that no device needs.
    for node in proto.graph.node:
        del node.metadata_props[:]
    del proto.graph.value_info[:]
    write_atomic(path, proto.SerializeToString())


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide warnings and logs of exporter and quantiser, which are for their developers; errors are still raised."""
    # The quantiser logs to the root logger, whose name is empty.
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.onnx._internal.exporter._registration", "")]
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
