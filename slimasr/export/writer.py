"""Writes the graphs of a bundle: an encoder for each size, and the decoder and the joiner that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slimasr.config.search import GraphDecodingConfig
from slimasr.elastic.blocks import Block
from slimasr.export.context import DEFAULT_CONTEXT
from slimasr.export.masked import Blocks, masked, masks_in
from slimasr.export.parity import check_part, check_rounded
from slimasr.export.parts import Part, decoder_part, encoder_part, joiner_part
from slimasr.export.quantize import quantized
from slimasr.export.streaming import streaming_part
from slimasr.export.trace import deployable, traced
from slimasr.export.weights import WeightsFile
from slimasr.files import write_atomic
from slimasr.models.base import SpeechModel
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet

if TYPE_CHECKING:
    from onnx import ModelProto

WEIGHTS = "weights.bin"
WEIGHTS_INT8 = "weights.int8.bin"
DECODER = "decoder.onnx"
JOINER = "joiner.onnx"
JOINER_INT8 = "joiner.int8.onnx"


@dataclass(frozen=True)
class BundleOptions:
    """What is written.

    Attributes:
        int8: whether each size gets int8 files, too.
        int8_bits: bits of their weights; 7 for processors whose sums of integers saturate.
        int8_joiner: whether the joiner gets an int8 file.
        standalone: whether each file has its weights inside, cut out for its size.
        context: labels that the decoder of an LSTM predictor sees.
        streaming: whether the encoders take speech chunk by chunk, and no whole utterances.
        chunk_frames: feature frames of a chunk; None = see `slimasr.export.streaming.streaming_part`.
        forced: whether int8 files are accepted though nobody measures them, which the manifest says.
    """

    int8: bool = False
    int8_bits: int = 8
    int8_joiner: bool = False
    standalone: bool = False
    context: int = DEFAULT_CONTEXT
    streaming: bool = False
    chunk_frames: int | None = None
    forced: bool = False


def encoder_file(subnet: Subnet, *, int8: bool = False) -> str:
    """Return the name of a size's encoder."""
    return f"encoder.{subnet.id}{'.int8' if int8 else ''}.onnx"


def own_file(subnet: Subnet, name: str) -> str:
    """Return the name of a size's own decoder or joiner, such as ``decoder.fr.onnx``."""
    stem, rest = name.split(".", 1)
    return f"{stem}.{subnet.id}.{rest}"


def write_graphs(
    model: SpeechModel,
    folder: Path,
    subnets: Sequence[Subnet],
    options: BundleOptions | None = None,
    scales: GraphDecodingConfig | None = None,
) -> None:
    """Write the graphs of some subnets, and their weights.

    Args:
        model: the supernet.
        folder: an existing folder.
        subnets: the sizes.
        options: what is written; None = float32 graphs and a file of weights.
        scales: of the scores in a search graph; None = the files of a CTC model have plain log-probabilities.

    Raises:
        UserError: the extra ``export`` is not installed, a file cannot be written, or a file does not compute what the
            model of its size computes.
    """
    options = options or BundleOptions()
    ready = deployable(model)
    floats, integers = (None if options.standalone else WeightsFile(name) for name in (WEIGHTS, WEIGHTS_INT8))
    writer = GraphWriter(folder, ready, options, scales, floats, integers, subnets)
    for subnet in subnets:
        writer.add_encoder(subnet)
    if isinstance(ready, Transducer):
        writer.add_search(ready, subnets)
    writer.finish(subnets)


@dataclass(frozen=True)
class GraphWriter:
    """Writes the graphs of one model.

    Attributes:
        folder: the bundle.
        model: the supernet, as `slimasr.export.trace.deployable` returns it.
        options: what is written.
        scales: of the scores in a search graph; None = the files have plain log-probabilities.
        floats: the weights of all float32 encoders; None = each file has its own.
        integers: those of all int8 encoders.
        sharing: the sizes that have their weights in these files.
    """

    folder: Path
    model: SpeechModel
    options: BundleOptions
    scales: GraphDecodingConfig | None
    floats: WeightsFile | None
    integers: WeightsFile | None
    sharing: Sequence[Subnet] = ()
    _dense: dict[Subnet, tuple[Part, ModelProto]] = field(default_factory=dict)

    def add(self, name: str, proto: ModelProto, weights: WeightsFile | None = None) -> None:
        """Write a graph, whose large tensors go to a file of weights if there is one."""
        if weights is not None:
            weights.move(proto)
        write_atomic(self.folder / name, proto.SerializeToString())

    def add_encoder(self, subnet: Subnet) -> None:
        """Write the encoder of a size."""
        part, proto = self._encoder(subnet)
        part = part.about(subnet, self.model.count(subnet).params)
        if self.options.int8:
            integers = quantized(proto, self.options.int8_bits)
            name = encoder_file(subnet, int8=True)
            self.add(name, self._kept(part, integers, subnet), self.integers)
        self.add(encoder_file(subnet), self._kept(part, proto, subnet), self.floats)

    def _encoder(self, subnet: Subnet) -> tuple[Part, ModelProto]:
        """Trace the encoder of a size; pathways share the graph of the whole model."""
        if self.options.standalone:
            part = self._encoder_part(self.model.extract(subnet), Subnet())
            return part, traced(part)
        whole = replace(subnet, pathway="")
        if whole not in self._dense:
            part = self._encoder_part(self.model, whole)
            self._dense[whole] = (part, traced(part))
        return self._dense[whole]

    def _encoder_part(self, model: SpeechModel, subnet: Subnet) -> Part:
        """Return the encoder of a subnet in the form that is asked for."""
        if self.options.streaming:
            return streaming_part(model, subnet, self.options.chunk_frames)
        return encoder_part(model, subnet, self.scales)

    def _kept(self, part: Part, proto: ModelProto, subnet: Subnet) -> ModelProto:
        """Return a copy of a graph with the description of its part, and with the masks of a pathway."""
        # Weights that are cut out have zeros already.
        masks = {} if self.options.standalone else self._masks(part, subnet)
        return part.described(masked(proto, masks, self._block, self._unions(part, masks)))

    def add_search(self, model: Transducer, subnets: Sequence[Subnet]) -> None:
        """Write decoder and joiner, and those of pathways that prune them."""
        for name, make in self._search_parts.items():
            part = make(model)
            proto = traced(part)
            if name == JOINER and self.options.int8_joiner:
                self.add(JOINER_INT8, part.described(quantized(proto, self.options.int8_bits)))
                check_rounded(part, self.folder / JOINER_INT8)
            for subnet in subnets:
                masks = self._masks(part, subnet)
                if masks:
                    own = own_file(subnet, name)
                    self.add(own, masked(proto, masks, self._block))
                    check_part(make(model.extract(subnet)), self.folder / own)
            self.add(name, proto)
            check_part(part, self.folder / name)

    @property
    def _search_parts(self) -> dict[str, Callable[[Transducer], Part]]:
        """File -> what makes its part of a model."""
        return {DECODER: partial(decoder_part, context=self.options.context), JOINER: joiner_part}

    def _masks(self, part: Part, subnet: Subnet) -> dict[str, Blocks]:
        """Return the masks of a pathway over the matrices of a part; none for other subnets."""
        pathways = self.model.pathways
        if not subnet.pathway or pathways is None:
            return {}
        return masks_in(part.module, self.model, pathways, subnet.pathway)

    def _unions(self, part: Part, masks: Mapping[str, Blocks]) -> dict[str, Blocks]:
        """Return the blocks of masked matrices that at least one size of the same file of weights keeps."""
        unions = dict(masks)
        for subnet in self.sharing:
            others = self._masks(part, subnet)
            for name, union in unions.items():
                # A size without a mask of a matrix needs all of it.
                unions[name] = union | others[name] if name in others else np.ones_like(union)
        return unions

    @property
    def _block(self) -> Block:
        return (1, 1) if self.model.pathways is None else self.model.pathways.block

    def finish(self, subnets: Sequence[Subnet]) -> None:
        """Write the files of weights, and compare the encoders with extracted models.

        Raises:
            UserError: a file does not compute what the model of its size computes.
        """
        for weights in (self.floats, self.integers):
            if weights is not None and not weights.is_empty:
                weights.write(self.folder)
        for subnet in subnets:
            alone = self._encoder_part(self.model.extract(subnet), Subnet())
            check_part(alone, self.folder / encoder_file(subnet))
            if self.options.int8:
                check_rounded(alone, self.folder / encoder_file(subnet, int8=True))
