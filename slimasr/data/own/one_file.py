"""The list in a folder that holds one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slimasr.errors import UserError


def one_file(path: Path, endings: tuple[str, ...], is_list: Callable[[Path], bool] = lambda file: True) -> Path:
    """The file itself, or the only file in a folder whose name has one of these endings.

    Args:
        path: the file or folder.
        endings: of names.
        is_list: whether a file with such a name is a list; the others do not count, unless there is no list.

    Raises:
        UserError: there is none, or more than one.
    """
    if not path.is_dir():
        return path
    named = [file for file in sorted(path.iterdir()) if file.name.endswith(endings) and not file.name.startswith(".")]
    found = [file for file in named if is_list(file)] or named
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(f"{path}: holds no file whose name ends in {' or '.join(endings)}")
    names = ", ".join(file.name for file in found[:5]) + (", ..." if len(found) > 5 else "")
    raise UserError(f"{path}: holds {len(found)} lists ({names}); name the one to read in data.sources")
