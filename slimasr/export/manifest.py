"""``manifest.json``, which says what a bundle holds: the sizes, their files, and what is known of each of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from slimasr.errors import UserError
from slimasr.files import read_json, write_json_atomic
from slimasr.results.entry import Flag, Genes, Number, Whole

MANIFEST = "manifest.json"
"""The name of the file in a bundle."""

FORMAT = "slimasr-bundle"

VERSION = 1
"""Version of the layout; it grows when readers of the old layout would misunderstand the new one."""

ADVICE = "write the bundle again with slimasr-export"


class Note(BaseModel):
    """A mapping of the manifest. Keys that no field stands for are kept as they are."""

    model_config = ConfigDict(
        extra="allow", frozen=True, protected_namespaces=(), use_attribute_docstrings=True, defer_build=True
    )


class ModelNote(Note):
    """The model that a bundle was made of."""

    name: str
    """Name of the experiment."""

    experiment: str | None = None
    """Folder of the experiment, as it was given to slimasr-export."""

    weights: str
    """Digest of the checkpoint."""

    architecture: str
    """Digest of the sizes of the model, of the space of its subnets and of the number of tokens."""


class AudioNote(Note):
    """The features that the encoders take."""

    sample_rate: Whole
    """Samples per second."""

    num_mel_bins: Whole
    """Numbers of a feature frame."""

    frame_shift: Number
    """Seconds from one feature frame to the next."""


class StreamingNote(Note):
    """How the encoders of a streaming bundle are fed."""

    carrier: Literal["lstm", "conformer"]
    """The kind of model that the runtime takes the encoders for."""

    chunk_frames: Whole
    """Feature frames by which an encoder advances in one call."""

    window_frames: Whole
    """Feature frames that it sees in one call."""

    tail_seconds: Number
    """Silence that has to follow the end of the audio, so that the last words come out."""

    states: list[list[int]]
    """Shapes of the states of one stream, of the largest size."""


class VariantNote(Note):
    """The files of a size in one precision."""

    encoder: str
    """File of the encoder."""

    weights: str | None
    """File of its weights; null if the encoder's own file has them."""

    bytes: Whole
    """Bytes of all files that the runtime opens for this size, the file of weights as a whole."""

    wer: Mapping[str, Number]
    """Name of a set -> word error rate in percent, as far as it has been measured."""

    forced: Flag = False
    """Whether the int8 files were written without passing the limit of the export: their WER on dev is too far above
    that in float, or was not compared with it."""

    states: list[list[int]] | None = None
    """Shapes of the states of one stream; null unless the bundle streams."""


class SizeNote(Note):
    """One subnet of a bundle."""

    id: str
    """Id of the subnet."""

    subnet: Genes
    """Its description."""

    language: str | None
    """The language that it is for; null = any."""

    params: Whole
    """Parameters of the stand-alone subnet."""

    macs: Number
    """Multiply-accumulate operations per second of audio."""

    decoder: str | None = None
    """File of its decoder, if it is not that of the bundle."""

    joiner: str | None = None
    """File of its joiner, if it is not that of the bundle."""

    float: VariantNote
    """The float32 files."""

    int8: VariantNote | None
    """The int8 files; null if there are none."""


class FileNote(Note):
    """A file of a bundle."""

    bytes: Whole
    """Its size."""

    sha256: str
    """Its digest."""


class Manifest(Note):
    """What a bundle holds. Names of files are relative to its folder."""

    format: Literal["slimasr-bundle"] = "slimasr-bundle"
    version: Whole = VERSION
    kind: Literal["transducer", "ctc"]
    """The kind of model."""

    model: ModelNote
    """The model that the bundle was made of."""

    audio: AudioNote
    """The features that the encoders take."""

    tokens: str
    """File of the tokens, ``token id`` in each line."""

    bpe_vocab: str | None = None
    """File of the tokens and their scores, which hotwords need; null = the tokenizer has none."""

    vocab_size: Whole
    """Number of tokens, blank included."""

    blank_id: Whole
    """Id of the blank token."""

    unk_id: Whole
    """Id of the token that stands for unknown characters; it is not emitted."""

    context_size: Whole | None
    """Labels that the decoder sees; null without a decoder."""

    subsampling_factor: Whole
    """Feature frames per frame of the encoder."""

    features: str
    """File that computes features from samples."""

    decoder: str | None
    """File of the network over the last tokens; null = a CTC model has none."""

    joiner: str | None
    """File that scores tokens; null = a CTC model has none."""

    joiner_int8: str | None
    """The same in int8; null = there is none."""

    graph: str | None
    """File of the decoding graph HLG; null = there is none."""

    words: str | None = None
    """File of the graph's words, ``word number`` in each line; null without a graph."""

    streaming: StreamingNote | None
    """How to feed the encoders; null = they take whole utterances."""

    languages: list[str] | None
    """Languages with a size of their own; null = all sizes are for all languages."""

    sizes: list[SizeNote]
    """From the most parameters to the fewest."""

    files: Mapping[str, FileNote]
    """Every file except manifest.json and what is measured later."""

    versions: Mapping[str, str]
    """Name of a package -> its version when the bundle was written."""

    revision: str | None
    """Revision of the recipe's source, if it is known."""

    def size(self, name: str) -> SizeNote:
        """Return the size with this id.

        Raises:
            UserError: there is none.
        """
        for size in self.sizes:
            if size.id == name:
                return size
        raise UserError(f"the bundle has no size {name}; it has {', '.join(size.id for size in self.sizes)}")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a bundle.

    Raises:
        UserError: the folder is no bundle, its manifest is damaged, or a newer version of slimasr wrote it.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder}: is no bundle, it has no {MANIFEST}; {ADVICE}")
    content: dict[str, Any] = read_json(path, ADVICE)
    if content.get("format") != FORMAT:
        raise UserError(f"{path}: not the manifest of a bundle; {ADVICE}")
    version = content.get("version")
    if isinstance(version, int) and version > VERSION:
        raise UserError(f"{path}: version {version} is newer than this slimasr, which reads {VERSION}; update slimasr")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: damaged, {key}: {first['msg']}; {ADVICE}") from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a bundle.

    Raises:
        UserError: it cannot be written.
    """
    write_json_atomic(folder / MANIFEST, manifest.model_dump(mode="json", by_alias=True))
