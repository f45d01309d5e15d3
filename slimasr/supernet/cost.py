"""Costs of a subnet on a device, which are sums over its layers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kept:
    """How much of a matrix is stored, of which whole blocks are zero.

    Attributes:
        weights: entries of the blocks that are stored.
        blocks: all blocks, of each of which one bit says whether it is stored.
        block: outputs and inputs of a block.
    """

    weights: int
    blocks: int
    block: tuple[int, int]

    @property
    def mask_bytes(self) -> int:
        """Bytes of the bits."""
        return (self.blocks + 7) // 8


@dataclass(frozen=True)
class Count:
    """Size and work of a part of a network; parts add up with ``+``.

    Attributes:
        params: number of parameters, whether quantised or not; without those of blocks that are zero and not stored.
        quantized: number of parameters that int8 export stores in one byte (weights of linear layers and embeddings).
        scales: number of their float32 scales, one per output channel.
        macs: multiply-accumulate operations of the counted call.
        pruned: number of parameters in blocks that are zero and not stored.
        mask_bytes: bytes of the bits that say which blocks are stored.
    """

    params: int = 0
    quantized: int = 0
    scales: int = 0
    macs: int = 0
    pruned: int = 0
    mask_bytes: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.params + other.params,
            self.quantized + other.quantized,
            self.scales + other.scales,
            self.macs + other.macs,
            self.pruned + other.pruned,
            self.mask_bytes + other.mask_bytes,
        )

    @property
    def int8_bytes(self) -> int:
        """Bytes on a device: 1 for each quantised weight, 4 for each float parameter and each scale, and the bits."""
        return self.quantized + 4 * (self.params - self.quantized + self.scales) + self.mask_bytes


@dataclass(frozen=True)
class Cost:
    """The counted costs of a subnet; the search adds measured ones.

    Attributes:
        params: number of parameters of the stand-alone model; of a pathway those that it keeps.
        int8_bytes: see `Count.int8_bytes`.
        paper_size: 1 byte for each parameter of the dense model, the "model size" of papers.
        macs: MACs per second of audio, counted on 10 s: encoder, and joiner once per encoder frame.
        predictor_macs: MACs of the predictor per emitted token, which ``macs`` does not include.
    """

    params: int
    int8_bytes: int
    paper_size: int
    macs: float
    predictor_macs: int


@dataclass(frozen=True)
class CostUnit:
    """How one cost is named and shown: ``value / divisor`` in ``unit``.

    Attributes:
        cost: key of the cost in results.json and in `Measurement.costs`.
        raw: unit of the value itself.
        title: name of the cost, for the axis of a plot.
        unit: unit of ``value / divisor``.
        heading: name and unit together, for the column of a table.
        divisor: what a shown figure is divided by.
        decimals: digits that a table shows after the point.
    """

    cost: str
    raw: str
    title: str
    unit: str
    heading: str
    divisor: float
    decimals: int

    def figure(self, value: float) -> str:
        """The value as a table shows it."""
        return f"{value / self.divisor:.{self.decimals}f}"


COST_UNITS = {
    unit.cost: unit
    for unit in (
        CostUnit("params", "parameters", "parameters", "million", "params M", 1e6, 3),
        CostUnit("int8_bytes", "bytes in int8", "size in int8", "MB", "int8 MB", 1e6, 3),
        CostUnit("paper_size", "bytes", "model size as papers count it", "MB", "paper size MB", 1e6, 3),
        CostUnit("macs", "MACs per second of audio", "MACs per second of audio", "million", "MMACs/s", 1e6, 1),
        CostUnit("predictor_macs", "MACs per token", "predictor MACs per token", "thousand", "predictor kMACs", 1e3, 1),
        CostUnit(
            "rtf",
            "real-time factor",
            "real-time factor (RTF), one thread",
            "s/s",
            "RTF",
            1.0,
            4,
        ),
        CostUnit("peak_memory", "bytes of memory", "peak memory", "MB", "peak MB", 1e6, 1),
        CostUnit("latency", "ms", "latency of the encoder on a device", "ms", "device latency ms", 1.0, 1),
    )
}
"""Every cost that is counted, measured or predicted, in the order of a table's columns."""
