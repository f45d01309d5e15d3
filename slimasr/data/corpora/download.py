"""Download the archives of a corpus, check and unpack them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError

from lhotse.utils import resumable_download

from slimasr.data.corpora.archive import unpack
from slimasr.errors import UserError
from slimasr.files import writing
from slimasr.locking import folder_lock

LOCK = ".lock"
PURPOSE = "slimasr-prepare, which downloads a corpus"


def download_archives(addresses: Sequence[str], target: Path) -> None:
    """Download each archive once, resuming an interrupted transfer, and unpack it into ``target``.

    Raises:
        UserError: the address cannot be reached, or `unpack` refuses the archive.
    """
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
    for address in addresses:
        archive = target / address.rsplit("/", maxsplit=1)[-1]
        # The presence of this file says that the archive was unpacked completely.
        done = archive.with_name(f".{archive.name}.unpacked")
        if done.is_file():
            continue
        with folder_lock(target / f"{archive.name}{LOCK}", PURPOSE, wait=True):
            # Another process may have finished it while this one waited.
            if not done.is_file():
                _fetch(address, archive)
                done.touch()


def wait_for_downloads(target: Path) -> None:
    """Wait until no other process downloads into ``target``, because its content is incomplete until then."""
    for path in target.glob(f"*{LOCK}"):
        with folder_lock(path, PURPOSE, wait=True):
            pass


def _fetch(address: str, archive: Path) -> None:
    try:
        resumable_download(address, filename=archive)
    except (URLError, OSError) as error:
        raise UserError(f"{address}: download failed ({error}); run the same command again to resume") from error
    unpack(archive, archive.parent)
