"""``features.onnx``: from samples to the log-mel features on which models are trained, for devices.

Whatever lhotse's filter bank does with a frame before the power spectrum (removal of its mean, pre-emphasis, window,
DFT) is one linear map. So all frames together are one convolution, whose stride is the frame shift::

    samples (1, S) float, in [-1, 1]   -> features (1, T, M) float

S is any number of samples, also 0, and T the number of frames that the rest of the package computes for audio of this
length (`slimasr.data.features.frames.extract_frames`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import torch
from lhotse import Fbank, FbankConfig

from slimasr.data.features.frames import has_frame
from slimasr.export.packages import needed
from slimasr.export.trace import IR_VERSION, OPSET

FLOOR = float(np.finfo(np.float32).eps)
"""The smallest energy of a mel bin, as in lhotse."""


@dataclass(frozen=True)
class Framing:
    """How audio is cut into frames; all values are numbers of samples.

    Attributes:
        window: length of a frame.
        shift: distance between frames.
        before: mirrored samples before the first one of the audio.
        shortest: length of the shortest audio that has a frame.
    """

    window: int
    shift: int
    before: int
    shortest: int

    @classmethod
    def of(cls, config: FbankConfig) -> Framing:
        """Read lhotse's settings, and round them as lhotse does."""
        rate = config.sampling_rate
        window, shift = int(config.frame_length * rate), int(config.frame_shift * rate)
        shortest = next(samples for samples in count(1) if has_frame(samples / rate))
        return cls(window, shift, (window - shift) // 2, shortest)


def features_model(config: FbankConfig) -> Any:
    """Build the ONNX model (``onnx.ModelProto``) that computes the features of one utterance.

    Args:
        config: the settings of a recipe's features: ``make_extractor(num_mel_bins, sampling_rate).config``.

    Raises:
        UserError: the extra ``export`` is not installed.
        ValueError: a setting that this file cannot compute.
    """
    if config.dither or config.snip_edges or config.use_energy or config.use_fft_mag:
        raise ValueError("features on a device have mirrored edges, and no dither, frame energies or magnitudes")
    framing = Framing.of(config)
    filters, mel = linear_maps(config)
    graph = _Graph()
    num_samples = graph.node("Shape", ["samples"], start=1, end=2)
    num_frames = _num_frames(graph, framing, num_samples)
    samples = _mirrored(graph, framing, num_samples, num_frames, centred=config.remove_dc_offset)
    spectra = graph.node("Conv", [samples, filters.reshape(-1, 1, framing.window)], strides=[framing.shift])
    # (1, 2 bins, T) -> (1, real and imaginary part, bins, T) -> (1, bins, T)
    parts = graph.node("Reshape", [spectra, np.array([1, 2, filters.shape[1], -1])])
    power = graph.node("ReduceSumSquare", [parts, np.array([1])], keepdims=0)
    energies = graph.node("Max", [graph.node("MatMul", [mel, power]), np.array(FLOOR)])
    features = graph.node("Transpose", [graph.node("Log", [energies])], perm=[0, 2, 1])
    # The convolution computes one frame at least.
    graph.node("Slice", [features, np.array([0]), num_frames, np.array([1])], output="features")
    return graph.model({"samples": [1, "S"]}, {"features": [1, "T", config.num_filters]})


def linear_maps(config: FbankConfig) -> tuple[np.ndarray, np.ndarray]:
    """Compute the two linear maps of a filter bank, in float64.

    Returns:
        From a window to the real and imaginary parts of its spectrum, (2, bins, window), and from its power spectrum to
        the energies of the mel filters, (M, bins). Frequencies outside all mel filters are left out.
    """
    with warnings.catch_warnings():
        # lhotse advises against snipped edges, which make one frame of one window.
        warnings.simplefilter("ignore")
        bank = Fbank(replace(config, snip_edges=True)).extractor.double()
    # A linear map is known by what it makes of the unit vectors.
    units = torch.eye(Framing.of(config).window, dtype=torch.float64)
    frames, _ = bank.wav2win(units)
    spectra = np.fft.rfft(frames.squeeze(1).numpy()).T
    mel = bank.state_dict()["_fb"].numpy().T
    used = mel.any(axis=0)
    return np.stack([spectra.real, spectra.imag])[:, used], mel[:, used]


def _num_frames(graph: _Graph, framing: Framing, num_samples: str) -> str:
    """(1,) number of frames: that of frame shifts, rounded, halves up; 0 if the audio is too short."""
    rounded = graph.node("Add", [num_samples, np.array([framing.shift // 2])])
    shifts = graph.node("Div", [rounded, np.array([framing.shift])])
    enough = graph.node("GreaterOrEqual", [num_samples, np.array([framing.shortest])])
    return graph.node("Mul", [shifts, graph.node("Cast", [enough], to=graph.onnx.TensorProto.INT64)])


def _mirrored(graph: _Graph, framing: Framing, num_samples: str, num_frames: str, *, centred: bool) -> str:
    """(1, 1, P) samples of all frames, of one frame at least; beyond both ends the audio is mirrored, again and again.

    Sample -1 is sample 0, and sample S is sample S - 1, as in Kaldi.

    Args:
        graph: where the nodes go.
        framing: how audio is cut into frames.
        num_samples: (1,) length of the audio.
        num_frames: (1,) number of its frames.
        centred: whether the mean of the audio is subtracted first. Where each frame loses its mean anyway, this changes
            nothing but the rounding, which a large offset would dominate.
    """
    length = graph.node("Mul", [num_frames, np.array([framing.shift])])
    at_least = graph.node("Max", [length, np.array([framing.shift])])
    end = graph.node("Add", [at_least, np.array([framing.window - framing.shift - framing.before])])
    positions = graph.node("Range", [np.array(-framing.before), graph.node("Squeeze", [end]), np.array(1)])
    # Audio and mirror image together repeat after 2 S samples.
    period = graph.node("Add", [num_samples, num_samples])
    folded = graph.node("Mod", [positions, graph.node("Max", [period, np.array([1])])])
    image = graph.node("Sub", [graph.node("Sub", [period, np.array([1])]), folded])
    index = graph.node("Min", [folded, image])
    # Without samples, all indices are -1: a sample of silence at the end.
    samples = graph.node("Concat", ["samples", np.zeros((1, 1))], axis=1)
    if centred:
        samples = graph.node("Sub", [samples, graph.node("ReduceMean", [samples])])
    gathered = graph.node("Gather", [samples, index], axis=1)
    return graph.node("Unsqueeze", [gathered, np.array([1])])


class _Graph:
    """An ONNX graph that is built node by node; its constants are int64 and float32."""

    def __init__(self) -> None:
        self.onnx = needed("onnx")
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def node(self, op: str, inputs: Sequence[str | np.ndarray], output: str = "", **attributes: Any) -> str:
        """Append a node, and return the name of its output.

        Args:
            op: the operator.
            inputs: names of values, and constants.
            output: name of the output; empty = a name of its own.
            attributes: those of the operator.
        """
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        output = output or f"{op.lower()}_{len(self._nodes)}"
        self._nodes.append(self.onnx.helper.make_node(op, names, [output], name=output, **attributes))
        return output

    def _constant(self, value: np.ndarray) -> str:
        name = f"constant_{len(self._constants)}"
        typed = value.astype(np.float32) if value.dtype.kind == "f" else value.astype(np.int64)
        self._constants.append(self.onnx.numpy_helper.from_array(typed, name))
        return name

    def model(self, inputs: Mapping[str, list[Any]], outputs: Mapping[str, list[Any]]) -> Any:
        """Make a model with these float inputs and outputs: names -> shapes, with names of free dimensions."""
        helper = self.onnx.helper
        values = [
            [helper.make_tensor_value_info(name, self.onnx.TensorProto.FLOAT, shape) for name, shape in infos.items()]
            for infos in (inputs, outputs)
        ]
        graph = helper.make_graph(self._nodes, "features", *values, self._constants)
        opset = helper.make_opsetid("", OPSET)
        proto = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="slimasr")
        self.onnx.checker.check_model(proto)
        return proto
