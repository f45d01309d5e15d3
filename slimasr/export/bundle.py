"""A bundle: a folder with one file for each size of a model, and everything else that a device needs to run them.

The weights are stored once; the file of a size slices them. See docs/bundle.md for the layout.
"""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slimasr.data.frames import FRAME_SHIFT
from slimasr.data.shards import make_extractor
from slimasr.data.tokenizer import TOKENS_FILE, VOCAB_FILE
from slimasr.experiment import Experiment
from slimasr.experiment.record import revision
from slimasr.export.features import features_model
from slimasr.export.folders import file_notes
from slimasr.export.manifest import AudioNote, Manifest, ModelNote, SizeNote, VariantNote, write_manifest
from slimasr.export.parity import check_part
from slimasr.export.parts import Part, decoder_part, encoder_part, joiner_part
from slimasr.export.quantize import quantized
from slimasr.export.trace import deployable, needed, traced
from slimasr.export.weights import WeightsFile
from slimasr.files import write_atomic
from slimasr.models.transducer import Transducer
from slimasr.results.store import read_results
from slimasr.supernet.subnet import Subnet

if TYPE_CHECKING:
    from onnx import ModelProto

WEIGHTS = "weights.bin"
WEIGHTS_INT8 = "weights.int8.bin"
FEATURES = "features.onnx"
DECODER = "decoder.onnx"
JOINER = "joiner.onnx"
JOINER_INT8 = "joiner.int8.onnx"
PACKAGES = ("slimasr", "torch", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class BundleOptions:
    """What is written.

    Attributes:
        int8: whether each size gets int8 files, too.
        int8_bits: bits of their weights; 7 for processors whose sums of integers saturate.
        int8_joiner: whether the joiner gets an int8 file.
        standalone: whether each file has its weights inside, cut out for its size.
        context: labels that the decoder of an LSTM predictor sees.
    """

    int8: bool = False
    int8_bits: int = 8
    int8_joiner: bool = False
    standalone: bool = False
    context: int = 16


@dataclass(frozen=True)
class _Writer:
    """Writes the files of one bundle.

    Attributes:
        folder: an empty folder.
        floats: the weights of all float32 encoders; None = each file has its own.
        integers: those of all int8 encoders.
    """

    folder: Path
    floats: WeightsFile | None
    integers: WeightsFile | None

    def add(self, name: str, proto: ModelProto, weights: WeightsFile | None = None) -> None:
        """Write a graph, whose large tensors go to a file of weights if there is one."""
        if weights is not None:
            weights.move(proto)
        write_atomic(self.folder / name, proto.SerializeToString())

    def finish(self) -> None:
        """Write the files of weights."""
        for weights in (self.floats, self.integers):
            if weights is not None and not weights.is_empty:
                weights.write(self.folder)


def write_bundle(experiment: Experiment, subnets: Sequence[Subnet], folder: Path, options: BundleOptions) -> Manifest:
    """Write the bundle of some subnets.

    Args:
        experiment: a trained experiment.
        subnets: the sizes.
        folder: an empty folder; see `slimasr.export.folders.new_folder`.
        options: what is written.

    Returns:
        The manifest, which is in the folder, too.

    Raises:
        UserError: the extra ``export`` is not installed, a file cannot be written, or a file that was written does not
            compute what the model computes.
    """
    model = deployable(experiment.model)
    shared = not options.standalone
    writer = _Writer(
        folder,
        WeightsFile(WEIGHTS) if shared else None,
        WeightsFile(WEIGHTS_INT8) if shared else None,
    )
    parts: dict[str, Part] = {}
    for subnet in subnets:
        alone = model.extract(subnet) if options.standalone else model
        part = encoder_part(alone, Subnet() if options.standalone else subnet).about(subnet, model.count(subnet).params)
        parts[encoder_file(subnet)] = part
        proto = traced(part)
        if options.int8:
            writer.add(encoder_file(subnet, int8=True), quantized(proto, options.int8_bits), writer.integers)
        writer.add(encoder_file(subnet), proto, writer.floats)
    if isinstance(model, Transducer):
        parts |= _write_search(model, writer, options)
    rate = experiment.config.data.sampling_rate
    writer.add(FEATURES, features_model(make_extractor(model.config.num_mel_bins, rate).config))
    write_tokens(experiment, folder)
    writer.finish()
    for name, part in parts.items():
        check_part(part, folder / name)
    manifest = _manifest(experiment, subnets, folder, options)
    write_manifest(folder, manifest)
    return manifest


def encoder_file(subnet: Subnet, *, int8: bool = False) -> str:
    """Return the name of a size's encoder."""
    return f"encoder.{subnet.id}{'.int8' if int8 else ''}.onnx"


def _write_search(model: Transducer, writer: _Writer, options: BundleOptions) -> dict[str, Part]:
    """Write decoder and joiner; return the parts that they were made of, by their files."""
    parts = {DECODER: decoder_part(model, options.context), JOINER: joiner_part(model)}
    for name, part in parts.items():
        proto = traced(part)
        if name == JOINER and options.int8_joiner:
            writer.add(JOINER_INT8, quantized(proto, options.int8_bits))
        writer.add(name, proto)
    return parts


def write_tokens(experiment: Experiment, folder: Path) -> None:
    """Write the tokens as runtimes read them, and their scores if the tokenizer has any."""
    tokens = experiment.tokenizer.tokens
    write_atomic(folder / TOKENS_FILE, "".join(f"{token} {number}\n" for number, token in enumerate(tokens)))
    vocab = experiment.dir / "lang" / VOCAB_FILE
    if vocab.is_file():
        shutil.copyfile(vocab, folder / VOCAB_FILE)


def _manifest(experiment: Experiment, subnets: Sequence[Subnet], folder: Path, options: BundleOptions) -> Manifest:
    """Describe the files of a bundle."""
    model = experiment.model
    transducer = isinstance(model, Transducer)
    sizes = [_size(experiment, subnet, folder, options) for subnet in subnets]
    languages = list(dict.fromkeys(size.language for size in sizes if size.language is not None))
    joiner_int8 = JOINER_INT8 if transducer and options.int8_joiner else None
    return Manifest(
        kind="transducer" if transducer else "ctc",
        model=ModelNote(
            name=experiment.config.name,
            experiment=str(experiment.dir),
            weights=experiment.weights_digest,
            architecture=experiment.architecture_digest,
        ),
        audio=AudioNote(
            sample_rate=experiment.config.data.sampling_rate,
            num_mel_bins=model.config.num_mel_bins,
            frame_shift=FRAME_SHIFT,
        ),
        tokens=TOKENS_FILE,
        bpe_vocab=VOCAB_FILE if (folder / VOCAB_FILE).is_file() else None,
        vocab_size=model.vocab_size,
        blank_id=model.blank_id,
        unk_id=experiment.tokenizer.unk_id,
        context_size=_context_of(folder / DECODER) if transducer else None,
        subsampling_factor=model.subsampling_factor,
        features=FEATURES,
        decoder=DECODER if transducer else None,
        joiner=JOINER if transducer else None,
        joiner_int8=joiner_int8,
        graph=None,
        streaming=None,
        languages=languages or None,
        sizes=sorted(sizes, key=lambda size: -size.params),
        files=file_notes(folder),
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
        revision=revision(),
    )


def _context_of(decoder: Path) -> int:
    """Return the number of labels that a decoder sees, which its file says."""
    onnx = needed("onnx")
    said = {entry.key: entry.value for entry in onnx.load(decoder).metadata_props}
    return int(said["context_size"])


def _size(experiment: Experiment, subnet: Subnet, folder: Path, options: BundleOptions) -> SizeNote:
    """Describe one size; its WER is what is known of it in float."""
    cost = experiment.model.count(subnet)
    entry = read_results(experiment.dir).subnets.get(subnet.id)
    known = {} if entry is None else {name: wer.wer for name, wer in entry.wer.items()}
    floats = None if options.standalone else WEIGHTS
    integers = None if options.standalone else WEIGHTS_INT8
    return SizeNote(
        id=subnet.id,
        subnet=subnet,
        language=subnet.pathway or None,
        params=cost.params,
        macs=cost.macs,
        float=_variant(folder, encoder_file(subnet), floats, known),
        int8=_variant(folder, encoder_file(subnet, int8=True), integers, {}) if options.int8 else None,
    )


def _variant(folder: Path, encoder: str, weights: str | None, wer: Mapping[str, float]) -> VariantNote:
    """Describe the files of a size in one precision."""
    opened = [encoder, *([weights] if weights else []), *(name for name in (DECODER, JOINER) if (folder / name).is_file())]
    size = sum((folder / name).stat().st_size for name in [*opened, TOKENS_FILE])
    return VariantNote(encoder=encoder, weights=weights, bytes=size, wer=dict(wer))
