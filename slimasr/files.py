"""Writing files so that a crash leaves either the old or the new content, never half of one."""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from slimasr.errors import UserError


def write_atomic(path: Path, data: bytes | memoryview | str) -> None:
    """Write to a temporary name in the same folder, flush to disk, rename.

    Raises:
      UserError: the file cannot be written (disk full, no permission); what was there before is untouched.
    """
    content = data.encode() if isinstance(data, str) else data
    # Process ids are not enough: machines that share a disk have the same ones.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise UserError(f"{path}: cannot be written ({error.strerror}); what was there before is kept") from error


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


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
