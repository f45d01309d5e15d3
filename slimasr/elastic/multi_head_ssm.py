"""Multi-head state-space layers in place of attention, elastic in model width (paper 2)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimasr.elastic.convolution import Convolution, convolution_macs, convolve
from slimasr.elastic.index import Index, in_blocks, in_groups
from slimasr.elastic.linear import ElasticLinear
from slimasr.elastic.norm import ElasticLayerNorm, NormMode
from slimasr.elastic.ssm import ElasticS4D, kernels
from slimasr.supernet.cost import Count


@dataclass(frozen=True)
class SsmOptions:
    """The settings that all heads share.

    Attributes:
        ssm_stacks: units in sequence within a head.
        ssm_state: real numbers per channel and direction; an even number.
        bidirectional: whether a second set of systems runs backwards in time.
        convolution: the convolution method of `forward`.
        norm: mode of the layer norms between units.
        dt_range: range of the initial time steps.
        spread_heads: whether the range is divided among the heads, from the largest steps (local) in the first to the
            smallest (global) in the last.
        decay: initial decay of all poles; large values make the kernels local.
    """

    ssm_stacks: int
    ssm_state: int
    bidirectional: bool
    convolution: Convolution
    norm: NormMode
    dt_range: tuple[float, float]
    spread_heads: bool
    decay: float = 0.5


class ElasticSsmUnit(nn.Module):
    """``W GELU([SSM_f(u) | Rev SSM_b(Rev u)]) + b``, or with the forward systems only (paper 2)."""

    def __init__(self, channels: int, options: SsmOptions, dt_range: tuple[float, float]) -> None:
        super().__init__()
        self.channels = channels
        self.options = options
        directions = 2 if options.bidirectional else 1
        self.systems = nn.ModuleList(
            ElasticS4D(channels, options.ssm_state, dt_range, options.decay) for _ in range(directions)
        )
        self.mix = ElasticLinear(directions * channels, channels)

    def forward(self, u: Tensor, padding: Tensor, responses: Sequence[Tensor]) -> Tensor:
        """(N, T, C) -> (N, T, C).

        Args:
            padding: (N, T), True on padding, which the systems do not see.
            responses: (C, T) kernel of each direction, see `kernels`.
        """
        # A backward system would otherwise start from the padding, which is not zero after norms and biases.
        u = u.masked_fill(padding.unsqueeze(-1), 0.0)
        return self._mixed(convolve(u, responses, self.options.convolution))

    def stream(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the next (n, T, C) frames from a state of `ElasticS4D.recur` -> (n, T, C) and the next state."""
        assert not self.options.bidirectional, "only the forward form streams"
        out, state = cast(ElasticS4D, self.systems[0]).recur(u, state)
        return self._mixed(out), state

    def _mixed(self, z: Tensor) -> Tensor:
        directions = len(self.systems)
        channels = z.shape[-1] // directions
        # Columns of ``mix`` are [forward | backward], and a slice takes the first channels of each.
        columns = in_groups(channels, directions, self.channels)
        return cast(Tensor, self.mix(F.gelu(z), out=channels, inp=columns))

    def count(self, channels: int, frames: int) -> Count:
        """Count the parameters, and the MACs of one utterance of ``frames`` frames."""
        directions = len(self.systems)
        total = self.mix.count(channels, directions * channels, frames)
        for system in self.systems:
            total += cast(ElasticS4D, system).count(channels, frames)
        return total + Count(macs=convolution_macs(channels, directions, frames, self.options.convolution))

    def extract(self, channels: int) -> ElasticSsmUnit:
        """Copy the first channels into a stand-alone unit."""
        systems = [cast(ElasticS4D, system).extract(channels) for system in self.systems]
        module = ElasticSsmUnit(channels, self.options, systems[0].dt_range)
        module.systems = nn.ModuleList(systems)
        module.mix = self.mix.extract(channels, in_groups(channels, len(systems), self.channels))
        return module


class ElasticSsmHead(nn.Module):
    """A stack of units in sequence, with a layer norm between each two (paper 2)."""

    def __init__(
        self, channels: int, options: SsmOptions, dt_range: tuple[float, float], widths: Sequence[int]
    ) -> None:
        """Create the head with random weights.

        Args:
            widths: the numbers of channels that have their own norms.
        """
        super().__init__()
        self.options = options
        stacks = range(options.ssm_stacks)
        self.units = nn.ModuleList(ElasticSsmUnit(channels, options, dt_range) for _ in stacks)
        self.norms = nn.ModuleList(ElasticLayerNorm(channels, widths, options.norm) for _ in stacks[1:])

    def forward(self, u: Tensor, padding: Tensor, responses: Sequence[Tensor]) -> Tensor:
        """(N, T, C) -> (N, T, C).

        Args:
            padding: (N, T), True on padding.
            responses: (C, T) of every system, unit by unit and direction by direction.
        """
        by_unit = in_turn(responses, len(self.units))
        for index, unit in enumerate(self.units):
            u = unit(self._between(index, u), padding, by_unit[index])
        return u

    def stream(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the next (n, T, C) frames from (n, S, ...) states of S units -> (n, T, C) and the next states."""
        states = []
        for index, unit in enumerate(self.units):
            u, after = cast(ElasticSsmUnit, unit).stream(self._between(index, u), state[:, index])
            states.append(after)
        return u, torch.stack(states, dim=1)

    def _between(self, index: int, u: Tensor) -> Tensor:
        """Apply the norm before a unit; the first unit has none, because the layer normalises its input."""
        return cast(Tensor, self.norms[index - 1](u)) if index else u

    def count(self, channels: int, frames: int) -> Count:
        """Count the parameters, and the MACs of one utterance of ``frames`` frames."""
        total = Count()
        for unit in self.units:
            total += cast(ElasticSsmUnit, unit).count(channels, frames)
        for norm in self.norms:
            total += cast(ElasticLayerNorm, norm).count(channels)
        return total

    def extract(self, channels: int) -> ElasticSsmHead:
        """Copy the first channels into a stand-alone head."""
        units = [cast(ElasticSsmUnit, unit).extract(channels) for unit in self.units]
        # The range of steps only initialises the new units, which are replaced.
        module = ElasticSsmHead(channels, self.options, self.options.dt_range, (channels,))
        module.units = nn.ModuleList(units)
        module.norms = nn.ModuleList(cast(ElasticLayerNorm, norm).extract(channels) for norm in self.norms)
        return module


class MultiHeadSsm(nn.Module):
    """Parallel heads over equal parts of the projected channels, which gate each other in pairs (paper 2).

    With H heads, ``y_h <- y_h GELU(y_{h + H/2})`` for the first half of them, which are projected back. A single head
    has no partner and no projections: its units mix channels themselves. A width keeps the first channels of every
    head.
    """

    def __init__(self, d_model: int, ssm_heads: int, options: SsmOptions, widths: Sequence[int]) -> None:
        """Create the module with random weights.

        Args:
            widths: the residual widths that have their own norms.

        Raises:
            ValueError: the channels of a width cannot be divided among the heads.
        """
        super().__init__()
        self.ssm_heads = ssm_heads
        self.head_dim = d_model // ssm_heads
        # Norms inside a head are selected by the channels that one head has at a width.
        head_widths = [self._per_head(width) for width in widths]
        ranges = _dt_ranges(options.dt_range, ssm_heads) if options.spread_heads else [options.dt_range] * ssm_heads
        self.heads = nn.ModuleList(ElasticSsmHead(self.head_dim, options, steps, head_widths) for steps in ranges)
        self.projected = ssm_heads > 1
        if self.projected:
            self.in_proj = ElasticLinear(d_model, d_model)
            # Half of the heads are used up as gates.
            self.out_proj = ElasticLinear(d_model // 2, d_model)

    @property
    def systems(self) -> list[ElasticS4D]:
        """The systems of every head, unit and direction, in this order."""
        # `modules` returns them in the order of registration, on which the use of `in_turn` on the kernels relies.
        return [module for module in self.modules() if isinstance(module, ElasticS4D)]

    def _per_head(self, channels: int) -> int:
        if channels % self.ssm_heads:
            raise ValueError(f"{channels} channels cannot be divided among {self.ssm_heads} heads")
        return channels // self.ssm_heads

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """(N, T, C) -> (N, T, C).

        Args:
            padding: (N, T), True on padding.
        """
        # The kernels of all heads are computed together: each alone is smaller than the overhead of its calls.
        responses = kernels(self.systems, self._per_head(x.shape[-1]), x.shape[1])
        by_head = in_turn(responses, self.ssm_heads)
        outputs = [
            head(channels, padding, own_responses)
            for head, channels, own_responses in zip(self.heads, self._split(x), by_head, strict=True)
        ]
        return self._join(outputs, x.shape[-1])

    def stream(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the next (n, T, C) frames from (n, H, S, ...) states -> (n, T, C) and the next states."""
        outputs = []
        states = []
        for head, channels, before in zip(self.heads, self._split(x), state.unbind(1), strict=True):
            out, after = cast(ElasticSsmHead, head).stream(channels, before)
            outputs.append(out)
            states.append(after)
        return self._join(outputs, x.shape[-1]), torch.stack(states, dim=1)

    def init_state(self, n: int, channels: int, device: torch.device) -> Tensor:
        """Return the (n, H, S, C / H, pairs, 2) states of all systems before the first frame."""
        # All systems have states of one shape. Streams run forwards only, so there is one system per unit.
        units = cast(ElasticSsmHead, self.heads[0]).units
        system = cast(ElasticS4D, cast(ElasticSsmUnit, units[0]).systems[0])
        per_unit = system.init_state(n, self._per_head(channels), device)
        return per_unit[:, None, None].repeat(1, self.ssm_heads, len(units), 1, 1, 1)

    def _rows(self, heads: int, channels: int) -> Index:
        """Return the channels that run in the first ``heads`` heads."""
        return in_blocks(heads, self.head_dim, self._per_head(channels))

    def _split(self, x: Tensor) -> Sequence[Tensor]:
        """(N, T, C) -> (N, T, C / H) for every head."""
        if not self.projected:
            return [x]
        channels = x.shape[-1]
        projected = self.in_proj(x, out=self._rows(self.ssm_heads, channels), inp=channels)
        return cast(Tensor, projected).chunk(self.ssm_heads, dim=-1)

    def _join(self, outputs: Sequence[Tensor], channels: int) -> Tensor:
        """(N, T, C / H) of every head -> (N, T, C): the second half of the heads gates the first."""
        if not self.projected:
            return outputs[0]
        half = self.ssm_heads // 2
        values = torch.cat(list(outputs[:half]), dim=-1)
        gates = torch.cat(list(outputs[half:]), dim=-1)
        return cast(Tensor, self.out_proj(values * F.gelu(gates), out=channels, inp=self._rows(half, channels)))

    def count(self, channels: int, frames: int) -> Count:
        """Count the parameters, and the MACs of one utterance of ``frames`` frames."""
        total = Count()
        per_head = self._per_head(channels)
        for head in self.heads:
            total += cast(ElasticSsmHead, head).count(per_head, frames)
        if self.projected:
            total += self.in_proj.count(channels, channels, frames)
            total += self.out_proj.count(channels, channels // 2, frames)
        return total

    def extract(self, channels: int) -> MultiHeadSsm:
        """Copy the first channels of every head into a stand-alone module."""
        heads = [cast(ElasticSsmHead, head).extract(self._per_head(channels)) for head in self.heads]
        module = MultiHeadSsm(channels, self.ssm_heads, heads[0].options, (channels,))
        module.heads = nn.ModuleList(heads)
        if self.projected:
            module.in_proj = self.in_proj.extract(self._rows(self.ssm_heads, channels), channels)
            module.out_proj = self.out_proj.extract(channels, self._rows(self.ssm_heads // 2, channels))
        return module


def in_turn(items: Sequence[Tensor], parts: int) -> list[Sequence[Tensor]]:
    """Split items into equal parts, in their order."""
    each = len(items) // parts
    return [items[part * each : (part + 1) * each] for part in range(parts)]


def _dt_ranges(whole: tuple[float, float], heads: int) -> list[tuple[float, float]]:
    """Split a range of time steps into equal parts on a log scale, from the largest steps to the smallest."""
    low, high = whole
    edges = [low * (high / low) ** (i / heads) for i in range(heads, -1, -1)]
    return [(smaller, larger) for larger, smaller in itertools.pairwise(edges)]
