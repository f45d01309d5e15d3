"""Unpack archives, only after every member has been checked."""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from gzip import BadGzipFile
from lzma import LZMAError
from pathlib import Path, PurePosixPath, PureWindowsPath

from slimasr.errors import UserError
from slimasr.files import writing


def unpack(archive: Path, target: Path) -> None:
    """Unpack a tar (any compression) or zip file into ``target``.

    Nothing is written before all members have been checked: they must be files and folders with relative paths inside
    ``target``.

    Raises:
        UserError: the file is not an archive or is damaged, or a member has an absolute path, leaves the folder, or is
            a link or a device.
    """
    with writing(target):
        try:
            _unpack(archive, target)
        except (tarfile.TarError, zipfile.BadZipFile, BadGzipFile, LZMAError, zlib.error, EOFError) as error:
            raise UserError(f"{archive}: not an undamaged tar or zip archive ({error}); download it again") from error


def _unpack(archive: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    if zipfile.is_zipfile(archive):
        _unpack_zip(archive, target)
    else:
        _unpack_tar(archive, target)


def _unpack_tar(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        for member in members:
            _check_path(archive, member.name)
            if not (member.isreg() or member.isdir()):
                raise UserError(f"{archive}: refused: member {member.name!r} is a link or a device")
        # Early releases of Python 3.10 and 3.11 lack the filter.
        if hasattr(tarfile, "data_filter"):
            tar.extractall(target, members, filter="data")
        else:
            tar.extractall(target, members)


def _unpack_zip(archive: Path, target: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            # The library has sanitised ``filename``; the check needs the name in the archive.
            _check_path(archive, member.orig_filename)
            # The upper 16 bits are the Unix mode, which is 0 in archives from other systems.
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(f"{archive}: refused: member {member.filename!r} is a link or a device")
        file.extractall(target)


def _check_path(archive: Path, name: str) -> None:
    # Both readings of a name, because an archive may come from the other system.
    posix = PurePosixPath(name)
    windows = PureWindowsPath(name)
    if posix.is_absolute() or windows.is_absolute() or windows.drive or windows.root:
        raise UserError(f"{archive}: refused: member {name!r} has an absolute path")
    if ".." in posix.parts or ".." in windows.parts:
        raise UserError(f"{archive}: refused: member {name!r} climbs out of its folder")
