"""MUSAN noise for training: found, cut into pieces, and mixed in by lhotse's ``CutMix``."""

from __future__ import annotations

import os
from pathlib import Path

from lhotse.cut import Cut

from slimasr.config.data import DataConfig
from slimasr.data.augmentation.folders import cut_of_file, in_pieces
from slimasr.data.corpora import CORPORA_VARIABLE
from slimasr.data.corpora.download import download_archives, wait_for_downloads
from slimasr.data.files import MUSAN_SET, DataFolder, write_cuts
from slimasr.data.identity.manifest_record import write_manifest_record
from slimasr.errors import UserError
from slimasr.files import walk

ADDRESS = "https://www.openslr.org/resources/17/musan.tar.gz"


def prepare_musan_cuts(
    config: DataConfig, folder: DataFolder, corpus_dir: Path | None, own_dir: Path, download: bool
) -> int:
    """Write ``manifests/cuts_musan.jsonl.gz``, all of MUSAN in pieces of 10 s, and return the number of pieces."""
    source = _find(corpus_dir, own_dir, download)
    pieces: list[Cut] = []
    below = (Path(folder, name) for folder, _, names in walk(source) for name in names)
    for path in sorted(path for path in below if path.suffix == ".wav" and path.parent != source):
        pieces.extend(in_pieces(cut_of_file(path, path.stem, config.sampling_rate)))
    write_cuts(folder.raw_cuts(MUSAN_SET), pieces)
    write_manifest_record(folder, MUSAN_SET, None, pieces)
    return len(pieces)


def _find(corpus_dir: Path | None, own_dir: Path, download: bool) -> Path:
    wait_for_downloads(own_dir)
    parents = [parent for parent in (corpus_dir, os.environ.get(CORPORA_VARIABLE), own_dir) if parent]
    for parent in parents:
        # The archive has music/, noise/ and speech/; one of them shows that it has been unpacked.
        if any((Path(parent) / MUSAN_SET / "noise").glob("**/*.wav")):
            return Path(parent) / MUSAN_SET
    if not download:
        raise UserError(
            f"data.musan is set but MUSAN was not found: put musan/ into --corpus-dir or {CORPORA_VARIABLE}, "
            "allow --download, or remove data.musan"
        )
    download_archives([ADDRESS], own_dir)
    return _find(corpus_dir, own_dir, download=False)
