"""The web page of a bundle: speech recognition in a browser, at a size that users switch.

The page is plain HTML and JavaScript (folder ``page``). It runs in any static web server, together with two files of
npm's onnxruntime-web: the script and its WebAssembly module.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from slimasr.errors import UserError
from slimasr.files import read_json, write_atomic, write_json_atomic

PAGE = Path(__file__).parent / "page"
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
"""The files of onnxruntime-web that suffice: the script that includes its loader, and the module for processors."""
FOLDER = "web"
"""Folder of the bundle in which everything but ``index.html`` lies."""


def check_runtime(dist: Path) -> None:
    """Find the files of onnxruntime-web, before anything is written.

    Raises:
        UserError: ``dist`` is another folder.
    """
    absent = [name for name in RUNTIME if not (dist / name).is_file()]
    if absent:
        raise UserError(
            f"{dist}: {absent[0]} is not in this folder; install the runtime with 'npm install onnxruntime-web' and "
            "name node_modules/onnxruntime-web/dist"
        )


def add_web(folder: Path, dist: Path) -> None:
    """Add the web page and its runtime to a bundle, and list them in the manifest's ``files``.

    Args:
        folder: the bundle; files of the page that are there are replaced.
        dist: the folder ``dist`` of npm's onnxruntime-web.

    Raises:
        UserError: ``dist`` is another folder, or a file cannot be read or written.
    """
    check_runtime(dist)
    manifest_path = folder / "manifest.json"
    manifest: dict[str, Any] = read_json(manifest_path, "export the bundle again")
    sources = {path.relative_to(PAGE).as_posix(): path for path in sorted(PAGE.rglob("*")) if path.is_file()}
    sources |= {f"{FOLDER}/{name}": dist / name for name in RUNTIME}
    for name, source in sources.items():
        content = _read(source)
        write_atomic(folder / name, content)
        manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    write_json_atomic(manifest_path, manifest)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); install onnxruntime-web again") from None
