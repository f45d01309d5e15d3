"""The interface of every encoder to models and methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from slimasr.config.encoders import EncoderConfig
from slimasr.config.model import FrontendConfig
from slimasr.elastic.gates import Side
from slimasr.encoders.frontend import Frontend, build_frontend
from slimasr.encoders.grouping import Granularity, encoder_groups, reweighted
from slimasr.errors import UserError
from slimasr.supernet.cost import Count
from slimasr.supernet.groups import Group
from slimasr.supernet.subnet import Subnet, refuse_pathway, scaled

MAX = Subnet()
"""The max subnet: full width, all layers, all units."""


@dataclass(frozen=True)
class EncoderOutput:
    """What flows from layer to layer of an encoder, and at last its output.

    Attributes:
        out: (N, T', C) hidden states; C is the residual width of the subnet that ran.
        lens: (N,) int64, frames of ``out``; on the device of the input's lengths, which is the CPU (see `Batch`).
        taps: layer id -> (N, T', C) hidden state after that layer, for the requested layers.
        inner: tensors (N, G, ...) that the next layer needs in addition, with one entry for every ``segment`` frames;
            what they mean is known to the encoder alone.
        segment: frames of an entry of ``inner``.
    """

    out: Tensor
    lens: Tensor
    taps: dict[int, Tensor] = field(default_factory=dict)
    inner: tuple[Tensor, ...] = ()
    segment: int = 1

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors through which gradients of the next layer pass; the frames come first."""
        return (self.out, *self.inner)

    def with_tensors(self, tensors: Sequence[Tensor]) -> EncoderOutput:
        """Return the same with other `tensors`, in their order."""
        out, *inner = tensors
        return replace(self, out=out, inner=tuple(inner))

    @property
    def num_bytes(self) -> int:
        """Bytes of the entries of all tensors; a view counts as if it were a copy."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (*self.tensors, *self.taps.values()))

    def detach(self) -> EncoderOutput:
        """Return the same values, detached from the graph."""
        taps = {layer: hidden.detach() for layer, hidden in self.taps.items()}
        return replace(self.with_tensors([tensor.detach() for tensor in self.tensors]), taps=taps)

    def select(self, rows: Sequence[int]) -> EncoderOutput:
        """Return the utterances with these indices, with padding trimmed to the longest of them."""
        chosen = torch.tensor(list(rows), dtype=torch.int64)
        lens = self.lens[chosen]
        frames = int(lens.max())
        segments = (frames + self.segment - 1) // self.segment
        index = chosen.to(self.out.device, non_blocking=True)
        return replace(
            self,
            out=self.out[index, :frames],
            lens=lens,
            taps={layer: hidden[index, :frames] for layer, hidden in self.taps.items()},
            inner=tuple(tensor[index, :segments] for tensor in self.inner),
        )


class Known:
    """What layers compute from their weights and from shapes alone, kept for later runs of the same model.

    It is to be replaced when the weights change.
    """

    def __init__(self) -> None:
        self._results: dict[Any, list[Tensor]] = {}

    def get(self, key: Hashable, frames: int, compute: Callable[[int], list[Tensor]]) -> list[Tensor]:
        """Return results (..., frames), computed if there are none yet.

        Args:
            key: what is computed: layer and sizes.
            frames: number of frames.
            compute: computes them for a number of frames. Results for fewer frames begin as those for more.
        """
        if (key, frames) not in self._results:
            self._results[key, frames] = compute(frames)
        return self._results[key, frames]


@dataclass(frozen=True)
class EncoderState:
    """The state of ``n`` streams of a streaming encoder between two chunks.

    The shapes of the layers' tensors do not depend on how long a stream has run, so that streams of different age can
    be stacked; a layer that keeps frames of the past masks by ``seen`` those that a young stream does not have.

    Attributes:
        frames: (n, k, F) input frames that no output has consumed yet; k is equal for all streams of one state.
        seen: (n,) int64, output frames of each stream so far; on the device of ``frames``.
        layers: for every layer that runs, its tensors (n, ...).
    """

    frames: Tensor
    seen: Tensor
    layers: tuple[tuple[Tensor, ...], ...]

    def __len__(self) -> int:
        """Return the number of streams."""
        return len(self.seen)

    def select(self, rows: Sequence[int]) -> EncoderState:
        """Return the states of the streams with these indices."""
        index = torch.tensor(list(rows), dtype=torch.int64, device=self.seen.device)
        layers = tuple(tuple(tensor[index] for tensor in tensors) for tensors in self.layers)
        return EncoderState(self.frames[index], self.seen[index], layers)

    @staticmethod
    def stack(states: Sequence[EncoderState]) -> EncoderState:
        """Return the streams of all states as one state, in this order.

        Args:
            states: of one encoder at one subnet, with equally many waiting frames; their streams may differ in age.

        Raises:
            ValueError: the numbers of waiting frames differ.
        """
        if len(states) == 1:
            return states[0]
        waiting = {state.frames.shape[1] for state in states}
        if len(waiting) > 1:
            raise ValueError(f"streams with {sorted(waiting)} waiting frames cannot be stacked")
        frames = torch.cat([state.frames for state in states])
        seen = torch.cat([state.seen for state in states])
        # The first transposition lists each layer of all states, the second one each tensor of a layer.
        by_layer = zip(*(state.layers for state in states), strict=True)
        layers = tuple(tuple(torch.cat(same) for same in zip(*tensors, strict=True)) for tensors in by_layer)
        return EncoderState(frames, seen, layers)


class Encoder(nn.Module, ABC):
    """Layers on top of a front end, run whole (`forward`) or in parts (`embed`, then `run_layers` per path).

    Layers are numbered from 0, those of a tree as in `EncoderSection.paths`. ``subnet=None`` is the max subnet. Calls
    change no state except, in training mode, the running statistics of the norms that they use. Passes of several
    subnets can thus share the layers that they have in common: run these once, and continue from their output.
    A pathway raises ValueError, as its weights are not those of the encoder.
    """

    config: EncoderConfig
    frontend: Frontend
    layers: nn.ModuleList
    first_half: tuple[str, ...]
    """The modules in the first half of a layer whose units `Subnet.units` may choose; see `half_runner`."""

    def __init__(
        self, config: EncoderConfig, frontend: FrontendConfig, num_mel_bins: int, widths: Sequence[float]
    ) -> None:
        """Build the front end; the subclass builds the layers.

        Args:
            widths: the fractions of all channels that get norms of their own.

        Raises:
            ValueError: a number of channels is not whole at some width.
        """
        super().__init__()
        self.config = config
        self.num_mel_bins = num_mel_bins
        self.frontend = build_frontend(frontend, num_mel_bins, config.d_model, config.dropout)

    @property
    def num_layers(self) -> int:
        """Number of layers of the max subnet; those of other branches of a tree are further ones in ``layers``."""
        return self.config.num_layers

    def width_of(self, subnet: Subnet | None) -> int:
        """Return the residual width (channels of ``out``) of a subnet."""
        return scaled(self.config.d_model, 1.0 if subnet is None else subnet.width)

    def output_lens(self, x_lens: Tensor) -> Tensor:
        """Return the (N,) output frames for (N,) input frames."""
        return self.frontend.output_lens(x_lens)

    def output_frames(self, num_frames: int) -> int:
        """Return the number of output frames for one utterance of ``num_frames`` input frames."""
        # On the CPU, because models are also built on the default device "meta", where a tensor has no value.
        return int(self.output_lens(torch.tensor(num_frames, device="cpu")))

    def embed(self, x: Tensor, x_lens: Tensor, subnet: Subnet | None = None) -> EncoderOutput:
        """Run the front end: (N, T, F) features -> the input of the first layer, (N, T', C) frames."""
        refuse_pathway(subnet)
        out = self.frontend(x, x_lens, (subnet or MAX).width, self.width_of(subnet))
        return EncoderOutput(out, self.output_lens(x_lens))

    def run_layers(
        self,
        hidden: EncoderOutput,
        layers: Sequence[int],
        subnet: Subnet | None = None,
        taps: Sequence[int] = (),
        known: Known | None = None,
    ) -> EncoderOutput:
        """Run some layers.

        Args:
            hidden: the output of `embed` or of earlier layers, at the width of ``subnet``.
            layers: ids of the layers to run, in this order; the path of ``subnet`` is ignored.
            taps: ids of the layers whose output is kept, in addition to the taps of ``hidden``.
            known: what runs of the same model share besides hidden states; None = nothing.
        """
        refuse_pathway(subnet)
        run = self.layer_runner(hidden, subnet or MAX) if known is None else self._by_halves(hidden, subnet, known)
        collected = dict(hidden.taps)
        for index in layers:
            hidden = run(index, hidden)
            if index in taps:
                collected[index] = hidden.out
        return replace(hidden, taps=collected)

    @abstractmethod
    def layer_runner(self, hidden: EncoderOutput, subnet: Subnet) -> Callable[[int, EncoderOutput], EncoderOutput]:
        """Return a function from a layer's id and its input to its output, for the lengths of ``hidden``.

        Padding and positions, which all layers share, are computed once.
        """

    def _by_halves(
        self, hidden: EncoderOutput, subnet: Subnet | None, known: Known
    ) -> Callable[[int, EncoderOutput], EncoderOutput]:
        """Return the function of `layer_runner`, made of that of `half_runner`."""
        run = self.half_runner(hidden, subnet or MAX, known)
        return lambda index, hidden: run(index, 1, run(index, 0, hidden))

    @abstractmethod
    def half_runner(
        self, hidden: EncoderOutput, subnet: Subnet, known: Known
    ) -> Callable[[int, int, EncoderOutput], EncoderOutput]:
        """Return a function from a layer's id, a half (0, then 1) and the input of that half to its output.

        The second half is the last module of a layer, which has units of its own. So subnets that differ in these
        units alone can share the first half.

        Args:
            hidden: see `layer_runner`.
            subnet: see `layer_runner`.
            known: see `run_layers`.
        """

    def forward(
        self,
        x: Tensor,
        x_lens: Tensor,
        subnet: Subnet | None = None,
        taps: Sequence[int] = (),
        known: Known | None = None,
    ) -> EncoderOutput:
        """Encode (N, T, F) features with a subnet's whole path; see `run_layers`."""
        return self.run_layers(self.embed(x, x_lens, subnet), self.path_of(subnet), subnet, taps, known)

    def path_of(self, subnet: Subnet | None) -> tuple[int, ...]:
        """Return the ids of the layers that a subnet runs, in order."""
        return path_of(self.config, subnet)

    @property
    def can_stream(self) -> bool:
        """Whether `stream` works: the encoder needs no more than some frames of look-ahead."""
        return self.config.streams

    @property
    def chunk_frames(self) -> int:
        """Input frames of one chunk: the encoder computes its output in steps of so many.

        Raises:
            UserError: this encoder needs whole utterances.
        """
        raise self._not_streaming()

    @property
    def look_ahead_frames(self) -> int:
        """Input frames behind a chunk that its output depends on.

        Raises:
            UserError: this encoder needs whole utterances.
        """
        raise self._not_streaming()

    def init_state(self, n: int, device: torch.device, subnet: Subnet | None = None) -> EncoderState:
        """Create the state before the first frame, for ``n`` streams.

        Raises:
            UserError: this encoder needs whole utterances.
        """
        raise self._not_streaming()

    def stream(
        self, x: Tensor, state: EncoderState, subnet: Subnet | None = None, final: bool = False
    ) -> tuple[Tensor, EncoderState]:
        """Encode the next frames of the streams; the outputs of all chunks together equal that of `forward`.

        Args:
            x: (n, T, F) features as `forward` receives them (`SpeechModel.normalize`), any T; frames that do not
                complete an output frame, or that wait for look-ahead, are kept in the state.
            state: from `init_state` or the previous chunk, at the same subnet.
            final: whether the streams end with ``x``, which lets out what waited for look-ahead. Frames that complete
                no output frame are dropped, as in `forward`.

        Returns:
            (n, T', C) hidden states, where T' = 0 if ``x`` completes no output frame, and the next state.

        Raises:
            UserError: this encoder needs whole utterances.
        """
        raise self._not_streaming()

    def _not_streaming(self) -> UserError:
        """Create the error of encoders that need whole utterances."""
        return UserError(
            f"model.encoder of kind {self.config.kind} needs whole utterances; "
            "to stream, train kind mh_ssm with bidirectional: false, or kind emformer"
        )

    def unit_groups(self) -> dict[str, int]:
        """Return ``"<layer>.<module>"`` -> number of units at width 1, from which `Subnet.units` chooses."""
        return {
            f"{index}.{module}": size
            for index, units in enumerate(self.config.layer_units)
            for module, size in units.items()
        }

    def groups(self, granularity: Granularity) -> list[Group]:
        """Return the groups of units of the max subnet, in running order; see `encoder_groups`."""
        return encoder_groups(self.config, granularity)

    def reweight(self, gates: Tensor, groups: Sequence[Group], side: Side = "both") -> dict[str, Tensor]:
        """Return the parameters, under their names in this encoder, that the gates of groups change.

        With them (``functional_call``), the max subnet at gates of 0 and 1 computes what the subnet of the groups of
        gate 1 computes (`subnet_of`); see `reweighted`.

        Args:
            gates: (N,) one per group.
            groups: the result of `groups`.
            side: what a gate scales.
        """
        return reweighted(self, self.module_name, gates, groups, side)

    @abstractmethod
    def module_name(self, layer: int, module: str) -> str:
        """Return the name of a layer's module, as in `Subnet.units`, among the modules of the encoder."""

    def count(self, subnet: Subnet | None, num_frames: int) -> Count:
        """Count the parameters of the stand-alone subnet, and the MACs of ``num_frames`` input frames."""
        subnet = subnet or MAX
        total = self.count_frontend(subnet, num_frames)
        # Layers run at the reduced frame rate.
        frames = self.output_frames(num_frames)
        for index in self.path_of(subnet):
            total += self.count_layer(index, subnet, frames)
        return total

    def count_frontend(self, subnet: Subnet, num_frames: int) -> Count:
        """Count the front end at a subnet: parameters, and MACs on ``num_frames`` input frames."""
        return self.frontend.count(subnet.width, self.width_of(subnet), num_frames)

    @abstractmethod
    def count_layer(self, index: int, subnet: Subnet, frames: int) -> Count:
        """Count one layer at a subnet: parameters, and MACs on ``frames`` frames at the layer's frame rate."""

    @classmethod
    @abstractmethod
    def shrink(cls, config: EncoderConfig, subnet: Subnet) -> EncoderConfig:
        """Return the configuration of a subnet's stand-alone encoder."""

    @abstractmethod
    def extract(self, subnet: Subnet) -> Encoder:
        """Copy a subnet into a stand-alone encoder of the same class with equal output.

        The configuration of the copy is that of `shrink`.
        """


def path_of(config: EncoderConfig, subnet: Subnet | None) -> tuple[int, ...]:
    """Return the ids of the layers that a subnet runs, in order; without a path, they are those of the max subnet."""
    return config.paths[0] if subnet is None or subnet.path is None else subnet.path
