"""Multi-head state-space layers in place of attention, elastic in model width (paper 2)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimasr.elastic.blocked import block_macs, convolve_blocks, step_block
from slimasr.elastic.convolution import Convolution, convolution_macs, convolve
from slimasr.elastic.index import Index, IndexTable, in_blocks, in_groups
from slimasr.elastic.linear import ElasticLinear
from slimasr.elastic.norm import ElasticLayerNorm, NormMode
from slimasr.elastic.ssm import ElasticS4D, discretized, gather, kernels, recur
from slimasr.supernet.cost import Count


@dataclass(frozen=True)
class SsmOptions:
    """The settings that all heads share.

    Attributes:
        ssm_stacks: units in sequence within a head.
        ssm_state: real numbers per channel and direction; an even number.
        bidirectional: whether a second set of systems runs backwards in time.
        convolution: how `forward` computes the systems; with ``blocked``, `stream` takes a chunk at a time instead of a
            frame.
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

    @property
    def directions(self) -> int:
        """The number of systems of a unit."""
        return 2 if self.bidirectional else 1


class ElasticSsmUnit(nn.Module):
    """``W GELU([SSM_f(u) | Rev SSM_b(Rev u)]) + b``, or with the forward systems only (paper 2)."""

    def __init__(self, channels: int, options: SsmOptions, dt_range: tuple[float, float]) -> None:
        super().__init__()
        self.channels = channels
        self.options = options
        directions = range(options.directions)
        self.systems = nn.ModuleList(
            ElasticS4D(channels, options.ssm_state, dt_range, options.decay) for _ in directions
        )
        self.mix = ElasticLinear(options.directions * channels, channels)
        self.indices = IndexTable()

    def mixed(self, z: Tensor) -> Tensor:
        """(N, T, D C) activations of D directions -> (N, T, C)."""
        channels = z.shape[-1] // len(self.systems)
        # Columns of ``mix`` are [forward | backward], and a slice takes the first channels of each.
        return cast(Tensor, self.mix(z, out=channels, inp=self._columns(channels)))

    def _columns(self, channels: int) -> Index:
        """Return the columns of ``mix`` that run."""
        device = self.mix.weight.device
        return self.indices.get(channels, device, lambda: in_groups(channels, len(self.systems), self.channels))

    def count(self, channels: int, frames: int) -> Count:
        """Count the parameters, and the MACs of one utterance of ``frames`` frames."""
        options = self.options
        directions = len(self.systems)
        # Blocks need no kernel as long as the signal.
        blocked = options.convolution == "blocked"
        total = self.mix.count(channels, directions * channels, frames)
        for system in self.systems:
            total += cast(ElasticS4D, system).count(channels, 0 if blocked else frames)
        if blocked:
            return total + Count(macs=block_macs(channels * directions, options.ssm_state, frames))
        return total + Count(macs=convolution_macs(channels, directions, frames, options.convolution))

    def extract(self, channels: int) -> ElasticSsmUnit:
        """Copy the first channels into a stand-alone unit."""
        systems = [cast(ElasticS4D, system).extract(channels) for system in self.systems]
        module = ElasticSsmUnit(channels, self.options, systems[0].dt_range)
        module.systems = nn.ModuleList(systems)
        module.mix = self.mix.extract(channels, self._columns(channels))
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

    def between(self, index: int, u: Tensor) -> Tensor:
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
        self.options = options
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
            self.indices = IndexTable()

    def _per_head(self, channels: int) -> int:
        if channels % self.ssm_heads:
            raise ValueError(f"{channels} channels cannot be divided among {self.ssm_heads} heads")
        return channels // self.ssm_heads

    def forward(self, x: Tensor, padding: Tensor, responses: Sequence[Tensor] | None = None) -> Tensor:
        """(N, T, C) -> (N, T, C).

        Args:
            padding: (N, T), True on padding.
            responses: the result of `responses` for this shape, if the caller has it.
        """
        if responses is None:
            responses = self.responses(x.shape[-1], x.shape[1])
        u = self._projected(x)
        for position, of_unit in enumerate(in_turn(responses, self.options.ssm_stacks)):
            # A backward system would otherwise start from the padding, which is not zero after norms and biases.
            u = self._normed(position, u).masked_fill(padding.unsqueeze(-1), 0.0)
            # Every channel is a separate system, so a single convolution can process the channels of all heads.
            u = self._mixed(position, F.gelu(self._convolved(position, u, of_unit)))
        return self._gated(u)

    def _convolved(self, position: int, u: Tensor, responses: Sequence[Tensor]) -> Tensor:
        """(N, T, H C) -> (N, T, D H C) for D directions: the systems of all heads at one position of their stacks."""
        options = self.options
        if options.convolution != "blocked":
            return convolve(u, responses, options.convolution)
        systems = [system for direction in range(options.directions) for system in self._systems(position, direction)]
        return convolve_blocks(u, gather(systems, self._per_head(u.shape[-1])), options.bidirectional)

    def _systems(self, position: int, direction: int) -> list[ElasticS4D]:
        """Return the systems of all heads at one position of their stacks."""
        units = [cast(ElasticSsmUnit, cast(ElasticSsmHead, head).units[position]) for head in self.heads]
        return [cast(ElasticS4D, unit.systems[direction]) for unit in units]

    def responses(self, channels: int, frames: int) -> list[Tensor]:
        """Compute the kernels that `forward` uses for (N, frames, channels), from the weights alone.

        Returns:
            (channels, frames) kernels, all heads side by side: those of both directions for every unit of a stack; none
            of them for blocks, which need no kernel as long as the signal.
        """
        stacks = self.options.ssm_stacks
        directions = self.options.directions
        if self.options.convolution == "blocked":
            return []
        # They are computed together: each system alone is smaller than the overhead of its calls.
        systems = [
            system
            for position in range(stacks)
            for direction in range(directions)
            for system in self._systems(position, direction)
        ]
        of_heads = in_turn(kernels(systems, self._per_head(channels), frames), stacks * directions)
        return [_joined(same, 0) for same in of_heads]

    def _normed(self, position: int, u: Tensor) -> Tensor:
        """(N, T, H C) -> (N, T, H C): the norms of all heads before one position of their stacks."""
        parts = u.chunk(self.ssm_heads, dim=-1)
        heads = [cast(ElasticSsmHead, head) for head in self.heads]
        return _joined([head.between(position, part) for head, part in zip(heads, parts, strict=True)], -1)

    def _mixed(self, position: int, z: Tensor) -> Tensor:
        """(N, T, D H C) activations of D directions -> (N, T, H C)."""
        # [forward | backward] of all heads -> of every head
        by_head = z.unflatten(-1, (self.options.directions, self.ssm_heads, -1)).unbind(-2)
        mixed = [
            cast(ElasticSsmUnit, cast(ElasticSsmHead, head).units[position]).mixed(part.flatten(2))
            for head, part in zip(self.heads, by_head, strict=True)
        ]
        return _joined(mixed, -1)

    def stream(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the next (n, T, C) frames from (n, S, ...) states -> (n, T, C) and the next states."""
        assert not self.options.bidirectional, "only the forward form streams"
        # A chunk without frames has no block.
        run = step_block if self.options.convolution == "blocked" and x.shape[1] else recur
        u = self._projected(x)
        states = []
        for position, before in enumerate(state.unbind(1)):
            system = discretized(self._systems(position, 0), self._per_head(x.shape[-1]))
            z, after = run(self._normed(position, u), before, system)
            u = self._mixed(position, F.gelu(z))
            states.append(after)
        return self._gated(u), torch.stack(states, dim=1)

    def init_state(self, n: int, channels: int, device: torch.device) -> Tensor:
        """Return the (n, S, C, 2, pairs) states of all systems before the first frame; C counts all heads."""
        # All systems have states of one shape. Streams run forwards only, so there is one system per unit.
        per_unit = self._systems(0, 0)[0].init_state(n, channels, device)
        return per_unit.unsqueeze(1).repeat(1, self.options.ssm_stacks, 1, 1, 1)

    def _rows(self, heads: int, channels: int) -> Index:
        """Return the channels that run in the first ``heads`` heads."""
        device = self.in_proj.weight.device
        kept = self._per_head(channels)
        return self.indices.get((heads, channels), device, lambda: in_blocks(heads, self.head_dim, kept))

    def _projected(self, x: Tensor) -> Tensor:
        """(N, T, C) -> (N, T, C), the input of all heads."""
        if not self.projected:
            return x
        channels = x.shape[-1]
        return cast(Tensor, self.in_proj(x, out=self._rows(self.ssm_heads, channels), inp=channels))

    def _gated(self, u: Tensor) -> Tensor:
        """(N, T, C) outputs of all heads -> (N, T, C): the second half of the heads gates the first."""
        if not self.projected:
            return u
        channels = u.shape[-1]
        values, gates = u.chunk(2, dim=-1)
        rows = self._rows(self.ssm_heads // 2, channels)
        return cast(Tensor, self.out_proj(values * F.gelu(gates), out=channels, inp=rows))

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


def _joined(parts: Sequence[Tensor], dim: int) -> Tensor:
    """Concatenate tensors; a single one needs no copy."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=dim)


def _dt_ranges(whole: tuple[float, float], heads: int) -> list[tuple[float, float]]:
    """Split a range of time steps into equal parts on a log scale, from the largest steps to the smallest."""
    low, high = whole
    edges = [low * (high / low) ** (i / heads) for i in range(heads, -1, -1)]
    return [(smaller, larger) for larger, smaller in itertools.pairwise(edges)]
