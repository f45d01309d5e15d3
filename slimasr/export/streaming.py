"""Streaming encoders in the form of models that sherpa-onnx's online recogniser knows.

An encoder reads a window of feature frames and the states of its streams, and returns the frames of its own chunk and
the next states. The runtime keeps the states without knowing what they mean: it makes them of zeros in the shapes that
the metadata say, and stacks those of several streams along an axis. So all states of all layers fit into one tensor::

    lstm        x (N, T, F), state (1, N, D), empty (1, N, 1)
    conformer   x (N, T, F), state (1, 1, N, D), empty (1, 0, N, D), processed_lens (N,) int64

Both return encoder_out (N, T', J) and the next states. The second one also gets the number of feature frames of each
stream before the window, which an encoder needs that has to know how much past there is.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from slimasr.encoders.base import Encoder, EncoderState
from slimasr.errors import UserError
from slimasr.export.parts import Part, encoder_metadata
from slimasr.models.base import FRAMES_PER_SECOND, SpeechModel
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet

Carrier = Literal["lstm", "conformer"]

CHUNK_FRAMES = 32
"""Feature frames of a chunk, unless asked otherwise."""

LAST_FRAMES = 2
"""Frames that are lost where the audio ends: the runtime waits for one more than a window has, and the last one of the
audio may need samples behind it."""


@dataclass(frozen=True)
class Stream:
    """How an encoder is fed.

    Attributes:
        carrier: the kind of model that the runtime takes it for; a key of `CARRIERS`.
        chunk_frames: feature frames by which it advances in one call.
        window_frames: feature frames that it sees in one call: the chunk, and what its front end and its layers need
            behind the chunk.
        tail_seconds: silence that has to follow the audio so that all of it has been in a chunk.
        states: shapes of the states of one stream.
    """

    carrier: Carrier
    chunk_frames: int
    window_frames: int
    tail_seconds: float
    states: tuple[tuple[int, ...], ...]


class OnlineEncoder(nn.Module):
    """A subnet's encoder and projection on one chunk of streams; subclasses say in which form states arrive."""

    model_type: Carrier
    names: tuple[str, ...]
    """Names of the states."""
    batch_axis: int
    """The axis of the states along which streams are stacked."""

    def __init__(self, model: Transducer, subnet: Subnet) -> None:
        super().__init__()
        self.model = model
        self.subnet = subnet
        layers = model.encoder.init_state(1, torch.device("cpu"), subnet).layers
        self.shapes = tuple(tuple(tensor.shape[1:] for tensor in tensors) for tensors in layers)

    @property
    def state_size(self) -> int:
        """Numbers in the state of one stream, D."""
        return sum(math.prod(shape) for layer in self.shapes for shape in layer)

    @abstractmethod
    def states(self, n: int) -> tuple[Tensor, ...]:
        """Return the states of ``n`` streams before their first frame."""

    @abstractmethod
    def sizes(self) -> Mapping[str, int]:
        """Return what the metadata say of the states."""

    def run(self, x: Tensor, flat: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Encode the next chunk.

        Args:
            x: (N, T, F) features of the chunk and of what follows it.
            flat: (N, D), the state.
            seen: (N,) frames that the encoder has put out.

        Returns:
            (N, T', J) projected output and the next state.
        """
        sizes = [math.prod(shape) for layer in self.shapes for shape in layer]
        parts = iter(flat.split(sizes, dim=1))
        layers = tuple(tuple(next(parts).unflatten(1, shape) for shape in layer) for layer in self.shapes)
        # The runtime gives what follows the chunk again with the next one, so no frame waits in the state.
        before = EncoderState(x[:, :0], seen, layers)
        out, after = self.model.encoder.stream(self.model.normalize(x), before, self.subnet)
        state = torch.cat([tensor.flatten(1) for layer in after.layers for tensor in layer], dim=1)
        return self.model.project_encoder(out, self.subnet), state


class LstmCarrier(OnlineEncoder):
    """An encoder whose state says all that there is to know of the past; see the module."""

    model_type = "lstm"
    names = ("state", "empty")
    batch_axis = 1

    def states(self, n: int) -> tuple[Tensor, ...]:
        return torch.zeros(1, n, self.state_size), torch.zeros(1, n, 1)

    def sizes(self) -> Mapping[str, int]:
        return {"num_encoder_layers": 1, "d_model": self.state_size, "rnn_hidden_size": 1}

    def forward(self, x: Tensor, state: Tensor, empty: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, T, F) features and the states -> (N, T', J) and the next states."""
        seen = torch.zeros(x.shape[0], dtype=torch.int64)
        out, after = self.run(x, state.squeeze(0), seen)
        # A runtime may not expect an input that is an output as well.
        return out, after.unsqueeze(0), empty + 0.0


class ConformerCarrier(OnlineEncoder):
    """An encoder that has to know how many frames of the past there are; see the module."""

    model_type = "conformer"
    names = ("state", "empty")
    batch_axis = 2

    def states(self, n: int) -> tuple[Tensor, ...]:
        return torch.zeros(1, 1, n, self.state_size), torch.zeros(1, 0, n, self.state_size)

    def sizes(self) -> Mapping[str, int]:
        # A kernel of one frame has no frame of the past.
        return {
            "num_encoder_layers": 1,
            "left_context": 1,
            "encoder_dim": self.state_size,
            "cnn_module_kernel": 1,
            "pad_length": self.model.encoder.look_ahead_frames,
        }

    def forward(self, x: Tensor, state: Tensor, empty: Tensor, processed_lens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, T, F) features, the states and (N,) feature frames before -> (N, T', J) and the next states."""
        seen = processed_lens // self.model.encoder.frontend.subsampling_factor
        out, after = self.run(x, state[0, 0], seen)
        return out, after.unsqueeze(0).unsqueeze(0), empty + 0.0


CARRIERS: Mapping[str, type[OnlineEncoder]] = {"mh_ssm": LstmCarrier, "emformer": ConformerCarrier}
"""Kind of encoder -> how it goes to the runtime."""


def online_encoder(model: SpeechModel, subnet: Subnet) -> OnlineEncoder:
    """Return a subnet's encoder in the form that the runtime knows.

    Args:
        model: the model, in the form that `slimasr.export.trace.deployable` returns.
        subnet: the subnet that runs.

    Raises:
        UserError: the encoder needs whole utterances, or the model is no transducer.
    """
    if not isinstance(model, Transducer):
        raise UserError("--streaming: exists for transducers alone; export a CTC model without it")
    # This is an error if there is no streaming form.
    assert model.encoder.chunk_frames
    return CARRIERS[model.config.encoder.kind](model, subnet).eval()


def stream_of(model: SpeechModel, subnet: Subnet, chunk_frames: int | None = None) -> Stream:
    """Return how a subnet's encoder is fed; see `streaming_part` for arguments and errors."""
    online = online_encoder(model, subnet)
    encoder = online.model.encoder
    chunk = _chunk_of(encoder, chunk_frames)
    window = chunk + encoder.look_ahead_frames
    tail = (window + LAST_FRAMES) / FRAMES_PER_SECOND
    return Stream(online.model_type, chunk, window, tail, tuple(tuple(state.shape) for state in online.states(1)))


def streaming_part(model: SpeechModel, subnet: Subnet, chunk_frames: int | None = None) -> Part:
    """Return the streaming encoder of a subnet, with its projection.

    Args:
        model: the supernet, in the form that `slimasr.export.trace.deployable` returns.
        subnet: the subnet that runs.
        chunk_frames: feature frames of a chunk; None = `CHUNK_FRAMES`, or the segment of an encoder that has segments.

    Raises:
        UserError: the encoder needs whole utterances, the model is no transducer, or chunks of this length are not
            possible.
    """
    online = online_encoder(model, subnet)
    stream = stream_of(model, subnet, chunk_frames)
    inputs = {"x": torch.zeros(2, stream.window_frames, model.config.num_mel_bins)}
    inputs |= dict(zip(online.names, online.states(2), strict=True))
    dynamic: dict[str, tuple[int, ...]] = {"x": (0,), **dict.fromkeys(online.names, (online.batch_axis,))}
    if isinstance(online, ConformerCarrier):
        inputs["processed_lens"] = torch.zeros(2, dtype=torch.int64)
        dynamic["processed_lens"] = (0,)
    sizes = {"T": stream.window_frames, "decode_chunk_len": stream.chunk_frames, **online.sizes()}
    return Part(
        module=online,
        inputs=inputs,
        dynamic=dynamic,
        outputs=("encoder_out", *(f"next_{name}" for name in online.names)),
        metadata={**encoder_metadata(online.model_type), **{key: str(value) for key, value in sizes.items()}},
    )


def _chunk_of(encoder: Encoder, asked: int | None) -> int:
    """Return the feature frames of a chunk.

    Raises:
        UserError: chunks of this length are not possible.
    """
    step = encoder.chunk_frames
    if encoder.config.kind == "emformer":
        if asked not in (None, step):
            raise UserError(
                f"--chunk-frames {asked}: the segments of this encoder are {step} frames; leave the option out"
            )
        return step
    chunk = CHUNK_FRAMES if asked is None else asked
    if chunk < 1 or chunk % step:
        raise UserError(f"--chunk-frames {chunk}: must be a multiple of {step}, the frames of one output frame")
    return chunk
