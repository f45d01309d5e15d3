"""Downloads from a real server on this machine: only when asked, once, checked before unpacking."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from slimasr.data.corpora import CORPORA, find_corpus
from slimasr.errors import UserError
from tests.data.corpus import make_an4, quiet


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address where its files are served."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _find(address: str, own_dir: Path, download: bool) -> Path:
    corpus = replace(CORPORA["an4"], archives=lambda sets, options: [address])
    return find_corpus(corpus, None, own_dir, ("train",), {}, quiet, download)


def test_a_corpus_is_downloaded_when_asked_and_then_found(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLIMASR_CORPORA", raising=False)
    folder, address = served
    corpus = make_an4(tmp_path / "an4", utterances_per_speaker=1)
    with tarfile.open(folder / "an4_sphere.tar.gz", "w:gz") as tar:
        tar.add(corpus, "an4")
    url = f"{address}/an4_sphere.tar.gz"
    with pytest.raises(UserError, match="--download"):
        _find(url, tmp_path / "own", download=False)
    found = _find(url, tmp_path / "own", download=True)
    assert len(list(found.rglob("*.flac"))) == len(list(corpus.rglob("*.flac"))) == 11
    (folder / "an4_sphere.tar.gz").unlink()
    assert _find(url, tmp_path / "own", download=False) == found


def test_a_hostile_download_is_refused(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLIMASR_CORPORA", raising=False)
    folder, address = served
    with tarfile.open(folder / "bad.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../../climbs"), io.BytesIO())
    for _ in range(2):
        with pytest.raises(UserError, match=r"refused: member '\.\./\.\./climbs'"):
            _find(f"{address}/bad.tar.gz", tmp_path / "own", download=True)
    assert not (tmp_path / "climbs").exists()


def test_an_address_that_does_not_answer_is_named(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLIMASR_CORPORA", raising=False)
    url = f"{served[1]}/absent.tar.gz"
    with pytest.raises(UserError, match=rf"{url}: download failed"):
        _find(url, tmp_path / "own", download=True)


def test_a_missing_part_of_a_corpus_is_downloaded_beside_the_others(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLIMASR_CORPORA", raising=False)
    folder, address = served
    for name in ("mls_french", "mls_dutch"):
        transcripts = tmp_path / name / "dev" / "transcripts.txt"
        transcripts.parent.mkdir(parents=True)
        transcripts.write_text("1_2_000003\thallo\n")
        with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as tar:
            tar.add(tmp_path / name, name)
    real = CORPORA["mls"]
    corpus = replace(
        real,
        archives=lambda sets, options: [f"{address}/{Path(name).name}" for name in real.addresses(sets, options)],
    )
    own = tmp_path / "own"
    for sets in (("dev-fr",), ("dev-fr+dev-nl",)):
        found = find_corpus(corpus, None, own, sets, {}, quiet, download=True)
        # What was downloaded is not asked for again.
        (folder / "mls_french.tar.gz").unlink(missing_ok=True)
    assert len(corpus.list_utterances(found, ("dev-nl",), {})["dev-nl"]) == 1
    with pytest.raises(UserError, match=r"mls_polish\.tar\.gz: download failed"):
        find_corpus(corpus, None, own, ("dev-pl",), {}, quiet, download=True)
