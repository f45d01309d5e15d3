"""A bundle as a client of sherpa-onnx sees it: which files each size gives to which recogniser."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slimasr.export.check.runtime import Client, Kind
from slimasr.export.manifest import FileNote, Manifest, SizeNote, VariantNote, read_manifest, write_manifest
from slimasr.export.readme import bundle_readme
from slimasr.files import write_atomic

README = "README.md"
Precision = Literal["float", "int8"]


@dataclass(frozen=True)
class Variant:
    """One size in one precision.

    Attributes:
        size: what the manifest says of the size.
        precision: ``float`` or ``int8``.
        note: what it says of the files.
        encoder: the encoder.
    """

    size: SizeNote
    precision: Precision
    note: VariantNote
    encoder: Path

    def __str__(self) -> str:
        return f"{self.size.id} {self.precision}"


@dataclass(frozen=True)
class CheckedBundle:
    """A folder that `slimasr-export` wrote.

    Attributes:
        folder: the folder.
        manifest: what it says of itself.
    """

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path) -> CheckedBundle:
        """Read the manifest; raises as `read_manifest`."""
        return cls(folder, read_manifest(folder))

    @property
    def kind(self) -> Kind:
        """Which recogniser of sherpa-onnx loads the sizes."""
        if self.manifest.streaming is not None:
            return "streaming"
        return self.manifest.kind

    @property
    def sample_rate(self) -> int:
        """Of the features, in Hz."""
        return self.manifest.audio.sample_rate

    @property
    def experiment(self) -> Path | None:
        """Folder of the experiment, as it was named to the export; None if the manifest does not say it."""
        found = self.manifest.model.experiment
        return None if found is None else Path(found)

    def variants(self) -> Iterator[Variant]:
        """Yield every size in every precision that the bundle has, float first."""
        for size in self.manifest.sizes:
            yield Variant(size, "float", size.float, self.folder / size.float.encoder)
            if size.int8 is not None:
                yield Variant(size, "int8", size.int8, self.folder / size.int8.encoder)

    def client(self, variant: Variant, max_active: int = 3000) -> Client:
        """Return what a client gives to sherpa-onnx for a size; ``max_active`` = states of the search in a graph."""
        manifest = self.manifest
        files = {"encoder": variant.encoder}
        if self.kind != "ctc":
            decoder = variant.size.decoder or manifest.decoder
            joiner = variant.size.joiner or manifest.joiner
            if variant.precision == "int8" and variant.size.joiner is None:
                joiner = manifest.joiner_int8 or joiner
            assert decoder is not None and joiner is not None, "every transducer has them"
            files |= {"decoder": self.folder / decoder, "joiner": self.folder / joiner}
        streaming = manifest.streaming
        return Client(
            self.kind,
            files,
            self.folder / manifest.tokens,
            self.sample_rate,
            manifest.audio.num_mel_bins,
            graph=None if manifest.graph is None else self.folder / manifest.graph,
            max_active=max_active,
            tail_seconds=0.0 if streaming is None else float(streaming.tail_seconds),
        )


def note_rates(folder: Path, rates: Mapping[tuple[str, Precision], Mapping[str, float]]) -> None:
    """Write error rates into the manifest and the README of a bundle; what it says of other sets stays.

    Args:
        folder: the bundle.
        rates: id of a size and precision -> set name -> WER in percent.

    Raises:
        UserError: the manifest cannot be read or written.
    """
    manifest = read_manifest(folder)
    sizes = []
    for size in manifest.sizes:
        changed: dict[str, VariantNote] = {}
        for precision, note in (("float", size.float), ("int8", size.int8)):
            found = rates.get((size.id, precision))  # type: ignore[arg-type]
            if note is not None and found:
                changed[precision] = note.model_copy(update={"wer": {**note.wer, **found}})
        sizes.append(size.model_copy(update=changed))
    manifest = manifest.model_copy(update={"sizes": sizes})
    if README in manifest.files:
        text = bundle_readme(manifest.model_dump(mode="json", by_alias=True)).encode("utf-8")
        write_atomic(folder / README, text)
        readme = FileNote(bytes=len(text), sha256=hashlib.sha256(text).hexdigest())
        manifest = manifest.model_copy(update={"files": {**manifest.files, README: readme}})
    write_manifest(folder, manifest)
