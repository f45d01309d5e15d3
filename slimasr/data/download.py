"""Fetch a corpus's archives, check them, unpack them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError

from lhotse.utils import resumable_download

from slimasr.data.archive import unpack
from slimasr.errors import UserError
from slimasr.files import writing


def download_archives(addresses: Sequence[str], target: Path) -> None:
    """Download (resuming a broken transfer) and unpack each archive into ``target``, once.

    Raises:
      UserError: the address cannot be reached, or `unpack` refuses the archive.
    """
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
    for address in addresses:
        archive = target / address.rsplit("/", maxsplit=1)[-1]
        done = archive.with_name(f".{archive.name}.unpacked")
        if done.is_file():
            continue
        try:
            resumable_download(address, filename=archive)
        except (URLError, OSError) as error:
            raise UserError(f"{address}: download failed ({error}); run again to go on") from error
        unpack(archive, target)
        done.touch()
