"""A bundle: a folder with one file for each size of a model, and everything else that a device needs to run them.

The weights are stored once; the file of a size slices them. See docs/bundle.md for the layout.
"""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Sequence
from pathlib import Path

from slimasr.data.features.frames import FRAME_SHIFT
from slimasr.data.features.shards import make_extractor
from slimasr.data.graphs.graph import Graph
from slimasr.data.tokens.subwords import VOCAB_FILE
from slimasr.data.tokens.tokenizer import TOKENS_FILE
from slimasr.decoding.searches.graphs import noted_graph
from slimasr.experiment import Experiment
from slimasr.experiment.architecture import architecture_digest
from slimasr.experiment.record import revision
from slimasr.export.features import features_model
from slimasr.export.folders import file_notes
from slimasr.export.manifest import AudioNote, Manifest, ModelNote, SizeNote, StreamingNote, VariantNote, write_manifest
from slimasr.export.measure import float_rates
from slimasr.export.packages import needed
from slimasr.export.streaming import stream_of
from slimasr.export.writer import (
    DECODER,
    JOINER,
    JOINER_INT8,
    WEIGHTS,
    WEIGHTS_INT8,
    BundleOptions,
    encoder_file,
    own_file,
    write_graphs,
)
from slimasr.files import write_atomic
from slimasr.models.base import SpeechModel
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet

FEATURES = "features.onnx"
GRAPH = "HLG.fst"
WORDS = "words.txt"
PACKAGES = ("slimasr", "torch", "onnx", "onnxscript", "onnxruntime")


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
        UserError: the extra ``export`` is not installed, the search needs a graph that is not there, a file cannot be
            written, or a file that was written does not compute what the model computes.
    """
    decoding = experiment.config.decoding
    searches_graph = decoding.kind == "graph"
    # Before the models are traced, which takes minutes.
    graph = noted_graph(experiment) if searches_graph else None
    write_graphs(experiment.model, folder, subnets, options, decoding.graph if searches_graph else None)
    rate = experiment.config.data.sampling_rate
    features = features_model(make_extractor(experiment.model.config.num_mel_bins, rate).config)
    write_atomic(folder / FEATURES, features.SerializeToString())
    write_tokens(experiment, folder)
    if graph is not None:
        _copy_graph(graph, folder)
    manifest = _manifest(experiment, subnets, folder, options)
    if graph is not None:
        manifest = manifest.model_copy(update={"graph": GRAPH, "words": WORDS})
    write_manifest(folder, manifest)
    return manifest


def name_for(subnet: Subnet, name: str, folder: Path) -> str | None:
    """Return the name of a size's own decoder or joiner; None if it has none of its own."""
    own = own_file(subnet, name)
    return own if (folder / own).is_file() else None


def write_tokens(experiment: Experiment, folder: Path) -> None:
    """Write the tokens as runtimes read them, and their scores if the tokenizer has any."""
    tokens = experiment.tokenizer.tokens
    write_atomic(folder / TOKENS_FILE, "".join(f"{token} {number}\n" for number, token in enumerate(tokens)))
    vocab = experiment.dir / "lang" / VOCAB_FILE
    if vocab.is_file():
        shutil.copyfile(vocab, folder / VOCAB_FILE)


def _copy_graph(graph: Graph, folder: Path) -> None:
    """Copy the graph in which the experiment searches for words, and write its words."""
    shutil.copyfile(graph.path, folder / GRAPH)
    # Output symbol 0 is epsilon.
    write_atomic(folder / WORDS, "".join(f"{word} {number}\n" for number, word in enumerate(graph.words)))


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
            architecture=architecture_digest(experiment),
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
        streaming=_streaming(model, subnets[0], options),
        languages=languages or None,
        sizes=sorted(sizes, key=lambda size: -size.params),
        files=file_notes(folder),
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
        revision=revision(),
    )


def _streaming(model: SpeechModel, subnet: Subnet, options: BundleOptions) -> StreamingNote | None:
    """Describe how encoders of streams are fed; None = they take whole utterances."""
    if not options.streaming:
        return None
    stream = stream_of(model, subnet, options.chunk_frames)
    return StreamingNote(
        carrier=stream.carrier,
        chunk_frames=stream.chunk_frames,
        window_frames=stream.window_frames,
        tail_seconds=stream.tail_seconds,
        states=[list(shape) for shape in stream.states],
    )


def _context_of(decoder: Path) -> int:
    """Return the number of labels that a decoder sees, which its file says."""
    onnx = needed("onnx")
    said = {entry.key: entry.value for entry in onnx.load(decoder).metadata_props}
    return int(said["context_size"])


def _size(experiment: Experiment, subnet: Subnet, folder: Path, options: BundleOptions) -> SizeNote:
    """Describe one size; its WER is what is known of it in float."""
    cost = experiment.model.count(subnet)
    floats = None if options.standalone else WEIGHTS
    integers = None if options.standalone else WEIGHTS_INT8
    note = _streaming(experiment.model, subnet, options)
    states = None if note is None else note.states
    decoder, joiner = (name_for(subnet, name, folder) for name in (DECODER, JOINER))
    search = [name for name in (decoder or DECODER, joiner or JOINER) if (folder / name).is_file()]
    # The joiner in int8 is that of all sizes, not of one that has its own.
    rounded = options.int8_joiner and joiner is None
    search_int8 = [JOINER_INT8 if rounded and name == JOINER else name for name in search]
    int8 = None
    if options.int8:
        int8 = _variant(folder, encoder_file(subnet, int8=True), integers, search_int8, states)
        int8 = int8.model_copy(update={"forced": options.forced})
    return SizeNote(
        id=subnet.id,
        subnet=subnet,
        language=subnet.pathway or None,
        params=cost.params,
        macs=cost.macs,
        decoder=decoder,
        joiner=joiner,
        float=_variant(folder, encoder_file(subnet), floats, search, states).model_copy(
            update={"wer": float_rates(experiment, subnet)}
        ),
        int8=int8,
    )


def _variant(
    folder: Path, encoder: str, weights: str | None, search: Sequence[str], states: list[list[int]] | None
) -> VariantNote:
    """Describe the files of a size in one precision."""
    opened = [encoder, *([weights] if weights else []), *search, TOKENS_FILE]
    size = sum((folder / name).stat().st_size for name in opened)
    return VariantNote(encoder=encoder, weights=weights, bytes=size, wer={}, states=states)
