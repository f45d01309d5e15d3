"""A bundle as a client of sherpa-onnx sees it: which files each size gives to which recogniser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slimasr.errors import UserError
from slimasr.export.check.runtime import Client, Kind
from slimasr.files import read_json, understanding, write_json_atomic
from slimasr.supernet.subnet import Subnet

MANIFEST = "manifest.json"
FORMAT = "slimasr-bundle"
VERSION = 1
ADVICE = "export the bundle again (slimasr-export)"
Precision = Literal["float", "int8"]
PRECISIONS: tuple[Precision, ...] = ("float", "int8")


@dataclass(frozen=True)
class Variant:
    """One size in one precision.

    Attributes:
        size: id of the size.
        subnet: its subnet.
        language: language of its pathway, None = any.
        precision: ``float`` or ``int8``.
        encoder: its encoder.
        bytes: size of all files that the runtime opens.
        forced: whether it was written although it loses more than the gate of int8 allows.
    """

    size: str
    subnet: Subnet
    language: str | None
    precision: Precision
    encoder: Path
    bytes: int
    forced: bool

    def __str__(self) -> str:
        return f"{self.size} {self.precision}"


@dataclass(frozen=True)
class CheckedBundle:
    """A folder that `slimasr-export` wrote.

    Attributes:
        folder: the folder.
        manifest: content of its manifest.
    """

    folder: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> CheckedBundle:
        """Read the manifest.

        Raises:
            UserError: it is missing or damaged, or of another kind or a newer version.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise UserError(f"{path} is missing: name a folder that slimasr-export has written")
        content = read_json(path, ADVICE)
        if content.get("format") != FORMAT:
            raise UserError(f"{path}: is not the manifest of a bundle (format {content.get('format')!r}); {ADVICE}")
        version = content.get("version")
        if not isinstance(version, int) or version > VERSION:
            raise UserError(
                f"{path}: has the layout of version {version}, which a newer slimasr wrote; this one reads layouts up "
                f"to version {VERSION}: update slimasr"
            )
        bundle = cls(folder, content)
        with understanding(path, ADVICE):
            # What is needed is read once, so that a damaged manifest is found now.
            for variant in bundle.variants():
                bundle.client(variant)
        return bundle

    @property
    def kind(self) -> Kind:
        """Which recogniser of sherpa-onnx loads the sizes."""
        if self.manifest["streaming"] is not None:
            return "streaming"
        return "ctc" if self.manifest["kind"] == "ctc" else "transducer"

    @property
    def sample_rate(self) -> int:
        """Of the features, in Hz."""
        return int(self.manifest["audio"]["sample_rate"])

    @property
    def tokens(self) -> Path:
        """The table of tokens."""
        return self.folder / str(self.manifest["tokens"])

    @property
    def weights(self) -> str:
        """Digest of the checkpoint."""
        return str(self.manifest["model"]["weights"])

    @property
    def experiment(self) -> Path | None:
        """Folder of the experiment, as it was named to the export; None if the manifest does not say it."""
        found = self.manifest["model"].get("experiment")
        return None if found is None else Path(found)

    @property
    def context_size(self) -> int | None:
        """Labels that the decoder sees; None of a CTC model."""
        found: int | None = self.manifest["context_size"]
        return found

    def variants(self) -> Iterator[Variant]:
        """Yield every size in every precision that the bundle has."""
        for size in self.manifest["sizes"]:
            for precision in PRECISIONS:
                found = size[precision]
                if found is None:
                    continue
                yield Variant(
                    size["id"],
                    Subnet.from_dict(size["subnet"]),
                    size["language"],
                    precision,
                    self.folder / found["encoder"],
                    int(found["bytes"]),
                    bool(found["forced"]),
                )

    def client(self, variant: Variant, *, graph: bool = False) -> Client:
        """Return what a client gives to sherpa-onnx for a size; ``graph`` = the search graph of a CTC bundle too."""
        manifest = self.manifest
        files = {"encoder": variant.encoder}
        if self.kind != "ctc":
            files["decoder"] = self.folder / manifest["decoder"]
            joiner = manifest["joiner_int8"] if variant.precision == "int8" else None
            files["joiner"] = self.folder / (joiner or manifest["joiner"])
        streaming = manifest["streaming"]
        return Client(
            self.kind,
            files,
            self.tokens,
            self.sample_rate,
            int(manifest["audio"]["num_mel_bins"]),
            graph=self.folder / manifest["graph"] if graph else None,
            tail_seconds=0.0 if streaming is None else float(streaming["tail_seconds"]),
        )


def note_rates(folder: Path, rates: Mapping[tuple[str, Precision], Mapping[str, float]]) -> None:
    """Write error rates into the manifest of a bundle; what it says of other sets stays.

    Args:
        folder: the bundle.
        rates: size and precision -> set name -> WER in percent.

    Raises:
        UserError: the manifest cannot be read or written.
    """
    path = folder / MANIFEST
    manifest = read_json(path, ADVICE)
    with understanding(path, ADVICE):
        for size in manifest["sizes"]:
            for precision in PRECISIONS:
                found = rates.get((size["id"], precision))
                if found:
                    size[precision]["wer"] = {**(size[precision]["wer"] or {}), **found}
    write_json_atomic(path, manifest)
