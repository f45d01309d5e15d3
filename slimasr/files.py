"""Reading and writing files: a crash or a full disk leaves either the old or the new content, never half of one, and
every error names the file.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from slimasr.errors import UserError

T = TypeVar("T")
TEMPORARY = f".{'[0-9a-f]' * 12}.partial_*"
"""Pattern of the names of files that are being written."""


def write_atomic(path: Path, data: bytes | memoryview | str) -> None:
    """Write to a temporary name in the same folder, flush it to disk, and rename it.

    Bytes of file names that are not UTF-8 (Python's lone surrogates) are written as ``\\udcXX``, which JSON reads back.

    Raises:
        UserError: the file cannot be written (disk full, no permission); an existing file is unchanged.
    """
    content = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name in the folder of ``path``; when the block ends, that file replaces the one at ``path``.

    The name has the same ending, by which libraries choose a format. This is for libraries that write files
    themselves; `write_atomic` is for content in memory.

    Raises:
        UserError: the file cannot be written; an existing file is unchanged.
    """
    # Process ids are not enough, because processes on machines that share a disk may have equal ids.
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}.partial_{path.name}")
    try:
        with writing(path, "; what was there before is kept"):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            # Content before name: after a crash the name never leads to a file that is not complete on disk.
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
    # Also after Ctrl-C: no temporary file remains.
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files of `replacing` in a folder, which processes that were killed could not remove.

    Only a process that keeps other writers out of the folder may call this.
    """
    for path in folder.glob(TEMPORARY):
        # Another machine may have removed it, and a file that stays does no harm.
        with suppress(OSError):
            path.unlink()


@contextmanager
def writing(path: Path, advice: str = "") -> Iterator[None]:
    """Turn an error of the operating system inside the block into a `UserError` that names ``path``."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}){advice}") from error


def write_json_atomic(path: Path, value: Any) -> None:
    """`write_atomic` for JSON, indented, so that a change is readable in a diff."""
    write_atomic(path, to_json(value, indent=2) + "\n")


def to_json(value: Any, indent: int | None = None) -> str:
    """Plain data as JSON that every reader accepts: numbers that are not finite, which JSON lacks, become null."""
    return json.dumps(_without_nonfinite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _without_nonfinite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nonfinite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nonfinite(item) for item in value]
    return value


def append(path: Path, text: str) -> None:
    """Append text to a file.

    Raises:
        UserError: it cannot be written; the file keeps its previous length.
    """
    with writing(path), open(path, "ab") as file:
        # Noted before writing, so that a full disk leaves no part of a line.
        length = file.seek(0, os.SEEK_END)
        try:
            file.write(text.encode("utf-8", "backslashreplace"))
            file.flush()
        except OSError:
            os.ftruncate(file.fileno(), length)
            raise


def copy_folder(source: Path, target: Path) -> None:
    """Copy the files of a folder, each by an atomic replacement.

    Raises:
        UserError: a file cannot be read or written.
    """
    for path in sorted(source.iterdir()):
        if path.is_file():
            with replacing(target / path.name) as temporary:
                shutil.copyfile(path, temporary)


def entries(folder: Path) -> list[Path]:
    """Return what a folder holds, sorted.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        _refuse_unreadable(error)


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return the paths below a folder that match a pattern such as ``*/*.wav``, sorted; none if the folder is missing.

    ``Path.glob`` leaves out what is in folders that it cannot read, so that a part of a corpus would go unnoticed.

    Raises:
        UserError: a folder cannot be read.
    """
    *parts, name = pattern.split("/")
    folders = [folder]
    for part in parts:
        folders = [path for found in folders for path in _named(found, part)]
    return sorted(path for found in folders for path in _named(found, name))


def walk(folder: Path, *, follow_links: bool = False) -> Iterator[tuple[str, list[str], list[str]]]:
    """``os.walk``, but a folder that cannot be read is an error, where ``os.walk`` leaves out what is in it.

    Raises:
        UserError: a folder cannot be read.
    """
    return os.walk(folder, onerror=_refuse_unreadable, followlinks=follow_links)


def read_json(path: Path, advice: str, kind: type[T] = dict) -> T:  # type: ignore[assignment]
    """Read a JSON file.

    Args:
        advice: what to do if it is damaged, e.g. ``"run stage 2 (slimasr-features) again"``.
        kind: the type of its content, ``dict`` or ``list``.

    Raises:
        UserError: it cannot be read, is not JSON, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {advice}") from None
    # JSONDecodeError is a ValueError, so it comes before the bytes that are not UTF-8 below.
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON ({error.msg}, line {error.lineno}); {advice}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); {advice}") from None
    if not isinstance(content, kind):
        expected = "a list" if issubclass(kind, list) else "a mapping"
        raise UserError(f"{path}: damaged, needs to hold {expected}; {advice}")
    return content


@contextmanager
def understanding(path: Path, advice: str) -> Iterator[None]:
    """Convert errors from plain data of an unexpected shape, which was read from ``path``, into a `UserError`.

    Use it for a few lines that parse such data.
    """
    try:
        yield
    except KeyError as error:
        raise UserError(f"{path}: damaged, {error} is missing; {advice}") from error
    except (TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise UserError(f"{path}: damaged ({' '.join(str(error).split())[:200]}); {advice}") from error


def _named(folder: Path, pattern: str) -> list[Path]:
    """Return what a folder holds under names that match a pattern; nothing if it is no folder."""
    return [path for path in entries(folder) if fnmatchcase(path.name, pattern)] if folder.is_dir() else []


def _refuse_unreadable(error: OSError) -> NoReturn:
    raise UserError(f"{error.filename}: cannot be read ({error.strerror}); make it readable, or remove it") from None


def _sync(path: Path) -> None:
    """Flush a file to disk, or make a rename in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
