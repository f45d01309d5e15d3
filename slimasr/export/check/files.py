"""What is wrong with the files of a bundle, before any is run: sherpa-onnx itself says little of it, or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from slimasr.errors import UserError
from slimasr.export.check.bundle import CheckedBundle
from slimasr.export.check.header import Header, read_header
from slimasr.export.manifest import MANIFEST, Manifest
from slimasr.export.packages import needed
from slimasr.export.trace import IR_VERSION, OPSET

COPY = "copy the files of the bundle again, or export it again (slimasr-export)"
EXPORT = "export the bundle again (slimasr-export)"
BLOCK = 1 << 20


def bundle_problems(bundle: CheckedBundle) -> list[str]:
    """Return one line for each problem of a bundle's files; each names the file and what to do.

    A file that is damaged in several ways has the line that says most: what is wrong with its content comes before
    the checksum.

    Raises:
        UserError: the extra ``export`` is not installed.
    """
    # Once here, not as a problem of every file.
    for package in ("onnx", "onnxruntime"):
        needed(package)
    manifest = bundle.manifest
    absent = _absent_keys(manifest)
    if absent:
        return [f"{bundle.folder / MANIFEST}: damaged, {absent[0]} is missing; {EXPORT}"]
    found: dict[str, str] = {}
    found |= _lengths(bundle)
    parts = _parts(manifest)
    for name, part in parts.items():
        if name not in found:
            found |= _of_part(bundle, name, part)
    if manifest.tokens not in found:
        problem = tokens_problem(bundle.folder / manifest.tokens, manifest.vocab_size)
        found |= {} if problem is None else {manifest.tokens: problem}
    found |= {name: line for name, line in _checksums(bundle).items() if name not in found}
    return list(found.values())


def _absent_keys(manifest: Manifest) -> list[str]:
    """Name what no bundle of this kind lacks, but the layout allows to be empty."""
    keys: dict[str, object] = {"sizes": manifest.sizes}
    if manifest.kind == "transducer":
        keys |= {"decoder": manifest.decoder, "joiner": manifest.joiner, "context_size": manifest.context_size}
    return [name for name, value in keys.items() if not value]


def _parts(manifest: Manifest) -> dict[str, str]:
    """Name each ONNX file of a bundle, and which part it is."""
    found = {manifest.features: "features"}
    for part, name in (("decoder", manifest.decoder), ("joiner", manifest.joiner), ("joiner", manifest.joiner_int8)):
        found |= {} if name is None else {name: part}
    for size in manifest.sizes:
        for note in (size.float, size.int8):
            found |= {} if note is None else {note.encoder: "encoder"}
        for part, name in (("decoder", size.decoder), ("joiner", size.joiner)):
            found |= {} if name is None else {name: part}
    return found


def _lengths(bundle: CheckedBundle) -> dict[str, str]:
    """Find files that are missing or have another length."""
    manifest = bundle.manifest
    found: dict[str, str] = {}
    weights = [note.weights for size in manifest.sizes for note in (size.float, size.int8) if note and note.weights]
    search = [name for name in (manifest.tokens, manifest.graph, manifest.words) if name]
    for name in dict.fromkeys([*_parts(manifest), *weights, *search]):
        if name not in manifest.files:
            found[name] = f"{bundle.folder / name}: is not listed in manifest.json; {EXPORT}"
    for name, note in manifest.files.items():
        path = bundle.folder / name
        if not path.is_file():
            found[name] = f"{path}: is missing; {COPY}"
        # Of other files, the content tells more than the length.
        elif name.endswith(".bin") and path.stat().st_size < note.bytes:
            found[name] = _truncated(path, note.bytes)
    return found


def _truncated(path: Path, whole: int) -> str:
    return f"{path}: is truncated, it has {path.stat().st_size} of {whole} bytes; {COPY}"


def _of_part(bundle: CheckedBundle, name: str, part: str) -> dict[str, str]:
    """Examine an ONNX file: that it is the part that the manifest says, and that runtimes read it."""
    path = bundle.folder / name
    try:
        header = read_header(path)
    except UserError as error:
        length, whole = path.stat().st_size, bundle.manifest.files[name].bytes
        return {name: _truncated(path, whole) if length < whole else str(error)}
    problem = next(_header_problems(bundle, path, header, part), None)
    return {} if problem is None else {name: problem}


def _header_problems(bundle: CheckedBundle, path: Path, header: Header, part: str) -> Iterator[str]:
    if header.part != part:
        what = f"has the inputs of the {header.part}" if header.part else "is no part of a bundle"
        yield f"{path}: {what}, not of the {part}; the files have been mixed up: {COPY}"
    if header.ir_version > IR_VERSION:
        yield (
            f"{path}: has version {header.ir_version} of the file format (IR), which older runtimes refuse; at most "
            f"{IR_VERSION}: {EXPORT}"
        )
    if header.opset > OPSET:
        yield f"{path}: needs operators of opset {header.opset}, which older runtimes lack; at most {OPSET}: {EXPORT}"
    for key, value in _metadata(bundle.manifest, part).items():
        said = header.metadata.get(key)
        if said is None:
            yield f"{path}: lacks the metadata {key}, without which sherpa-onnx ends the program; {EXPORT}"
        elif value and said not in value:
            yield f"{path}: its metadata say {key}={said}, needs to be {' or '.join(value)}; {EXPORT}"
    for data in header.data:
        if not (bundle.folder / data).is_file():
            yield f"{path}: its weights {bundle.folder / data} are missing; {COPY}"


def _metadata(manifest: Manifest, part: str) -> dict[str, tuple[str, ...]]:
    """Return the metadata that sherpa-onnx reads of a part -> the values that are right; none = any."""
    if part == "decoder":
        return {"vocab_size": (str(manifest.vocab_size),), "context_size": (str(manifest.context_size),)}
    if part != "encoder":
        return {}
    if manifest.streaming is not None:
        streaming = manifest.streaming
        return {
            "model_type": (streaming.carrier,),
            "decode_chunk_len": (str(streaming.chunk_frames),),
            "T": (str(streaming.window_frames),),
        }
    return {"model_type": ("zipformer2_ctc",) if manifest.kind == "ctc" else ("conformer",)}


def tokens_problem(path: Path, vocab_size: int) -> str | None:
    """Say what is wrong with a table of tokens: every id from 0 on once, as many as the model has; None if nothing is.

    With such a table sherpa-onnx ends with ``IndexError: _Map_base::at``, or writes other words.
    """
    if not path.is_file():
        return f"{path}: is missing; {COPY}"
    ids: dict[int, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        return f"{path}: is not UTF-8; {COPY}"
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        token, _, text = line.rpartition(" ")
        if not text.isdecimal():
            return f"{path}: line {number} needs to be a token and its id, is {line!r}; {COPY}"
        if int(text) in ids:
            return f"{path}: id {text} has two tokens, {ids[int(text)]} and {token}; {COPY}"
        ids[int(text)] = token
    if len(ids) != vocab_size:
        return f"{path}: has {len(ids)} tokens, the model {vocab_size}; {COPY}"
    missing = next((number for number in range(vocab_size) if number not in ids), None)
    return None if missing is None else f"{path}: no token has the id {missing}; {COPY}"


def _checksums(bundle: CheckedBundle) -> dict[str, str]:
    """Find files with other content than was written; nothing else tells altered weights, which give wrong words."""
    notes = bundle.manifest.files
    names = {note.sha256: name for name, note in notes.items()}
    found: dict[str, str] = {}
    for name, note in notes.items():
        path = bundle.folder / name
        if not path.is_file():
            continue
        digest = _digest(path)
        if digest == note.sha256:
            continue
        other = names.get(digest)
        what = "was altered after the export, or belongs to another bundle" if other is None else f"is {other} renamed"
        found[name] = f"{path}: {what}; {COPY}"
    return found


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
    return found.hexdigest()
