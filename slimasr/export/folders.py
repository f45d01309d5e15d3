"""The folder of a bundle: written beside its place, and put there as a whole."""

from __future__ import annotations

import glob
import hashlib
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from slimasr.errors import UserError
from slimasr.export.manifest import MANIFEST, FileNote, read_manifest
from slimasr.files import writing
from slimasr.locking import folder_lock

MEASURED = ("check.json",)
"""Files that are written into a bundle after it was made, which its manifest does not list."""


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder; when the block ends without an error, it becomes ``out``.

    A crash or a full disk leaves whatever was at ``out`` before; killed between the two renames at the end, both lie
    beside it, under names that begin with a dot. The next bundle at this place removes what a killed process has left.

    Raises:
        UserError: ``out`` exists and is no bundle, holds files of others, is the working folder, or cannot be written;
            another process writes to it.
    """
    _check_replaceable(out)
    # What a link leads to is replaced, not the link.
    place = out.resolve()
    temporary = place.with_name(f".{place.name}.{uuid.uuid4().hex[:12]}.partial")
    lock = place.with_name(f".{place.name}.lock")
    try:
        # The lock lies beside the bundle, so that the message names the folder above, and the advice the bundle.
        advice = f"wait until it has written {out}, or choose another folder for --out"
        with folder_lock(lock, "slimasr-export", advice=advice):
            _remove_left(place, "partial")
            with writing(out, "; what was there before is kept"):
                temporary.mkdir(parents=True)
                yield temporary
                _put(temporary, place)
            _remove_left(place, "old")
    except UserError as error:
        # The user knows the folder by the name that was given.
        raise UserError(str(error).replace(str(temporary), str(out))) from error
    finally:
        # Also after Ctrl-C; nothing is left to remove if the folder has been put in its place.
        shutil.rmtree(temporary, ignore_errors=True)


def _check_replaceable(out: Path) -> None:
    """Raise an error unless ``out`` is free, empty, or a bundle and nothing else."""
    here = Path.cwd()
    if out.resolve() in (here, *here.parents):
        raise UserError(f"{out}: is the working folder or holds it, and cannot be replaced; name another with --out")
    if not out.exists() and not out.is_symlink():
        return
    if out.is_dir() and not any(out.iterdir()):
        return
    try:
        if not (out / MANIFEST).is_file():
            raise UserError("no manifest")
        manifest = read_manifest(out)
    except UserError:
        raise UserError(f"{out}: exists and is not a bundle of slimasr; name another folder with --out") from None
    known = {MANIFEST, *MEASURED, *manifest.files}
    for path in sorted(out.rglob("*")):
        # Python leaves a folder of its own beside run.py.
        compiled = path.parent == out / "__pycache__" and path.suffix == ".pyc"
        if (path.is_file() or path.is_symlink()) and not compiled and path.relative_to(out).as_posix() not in known:
            raise UserError(
                f"{path}: is no file of the bundle in this folder, and would be lost; move it, or name another folder "
                "with --out"
            )


def _remove_left(place: Path, kind: str) -> None:
    """Remove the folders of one kind that processes which were killed have left beside a bundle."""
    for path in place.parent.glob(f".{glob.escape(place.name)}.{'[0-9a-f]' * 12}.{kind}"):
        shutil.rmtree(path, ignore_errors=True)


def _put(temporary: Path, out: Path) -> None:
    """Rename a folder to ``out``; what is there is moved away first, as folders cannot replace each other."""
    old = temporary.with_suffix(".old")
    moved = False
    if out.exists():
        out.rename(old)
        moved = True
    try:
        temporary.rename(out)
    except OSError:
        if moved:
            with suppress(OSError):
                old.rename(out)
        raise
    if moved:
        shutil.rmtree(old, ignore_errors=True)


def file_notes(folder: Path) -> dict[str, FileNote]:
    """Return sizes and digests of all files of a bundle but its manifest and later measurements, by their names."""
    notes = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in (MANIFEST, *MEASURED):
            content = path.read_bytes()
            notes[name] = FileNote(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    return notes
