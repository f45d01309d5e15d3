"""All stages in folders whose names have a meaning somewhere: URLs, shells, formats, patterns, HTML, JSON."""

from __future__ import annotations

import html
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from slimasr.search.database import Database, default_url
from tests.cli.test_bad_input import Place, _make

NAMES = ("a ?#%41'\"[x]*& {0} é;$HOME`x`|y\\ <b>\n", "pipe:-n+1@b=c:d~,!")
STAGES = ("prepare", "features", "bpe", "train", "search", "decode", "score", "align", "profile")


@pytest.fixture(scope="module", params=NAMES, ids=range(len(NAMES)))
def walked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A recipe that has gone through all stages, in a folder of such a name."""
    parent, before = tmp_path_factory.mktemp("places"), Path.cwd()
    os.chdir(parent)  # so that the names are the beginning of relative paths
    place = _make(Path(request.param))
    place.config.write_text(place.config.read_text().replace("name: tiny", 'name: "a?b#c%20 <i>"'))
    for stage in STAGES:
        more = ("--data", place.data) if stage in ("search", "decode", "align") else ()
        status, _, err = place.run(stage, *more)
        assert status == 0, (stage, err)
    yield place
    os.chdir(before)


def test_the_search_s_database_lies_in_the_experiment_and_nowhere_else(walked: Place) -> None:
    path = walked.exp / "search" / "study.db"
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT COUNT(*) FROM trials").fetchone() == (2,)
    assert sorted(entry.name for entry in walked.root.iterdir()) == ["an4", "conf.yaml", "data", "exp"]
    assert list(Path().iterdir()) == [walked.root]
    assert len(json.loads((walked.exp / "search" / "candidates.json").read_text())["candidates"]) == 2


def test_a_storage_given_by_url_is_the_file_of_that_name(walked: Place) -> None:
    other = walked.root / "other ?#.db"
    status, _, err = walked.run("search", "--data", walked.data, "--storage", f"sqlite:///{other}".replace("%", "%25"))
    assert status == 0, err
    with sqlite3.connect(other) as connection:
        assert connection.execute("SELECT COUNT(*) FROM trials").fetchone() == (2,)
    for path in walked.root.glob("other*"):
        path.unlink()


def test_extraction_quantisation_report_and_transcription_work_there(walked: Place) -> None:
    out = walked.root / "small ?#% model"
    status, _, err = walked.run("extract", "--subnet", "0.5", "--out", out)
    assert status == 0, err
    audio = walked.audio("test", "tester", 0)
    status, _, err = walked.run("transcribe", "--width", "0.5", audio)
    assert status == 0, err
    page = walked.root / "report [1].html"
    status, _, err = walked.run("report", "--out", page, "--json", walked.root / "results.json")
    assert status == 0, err
    content = page.read_text()
    # Python's parser of names reads what the page says; a bare < or & would have been markup.
    title = content.partition("<title>")[2].partition("</title>")[0]
    assert html.unescape(title) == f"Report: {walked.root.resolve().name}"
    assert "<b>" not in content.partition("</title>")[2].partition("<script>")[0].replace(html.escape("<b>"), "")
    for path in (out / "final.pt", page, *walked.root.glob("report*.png")):
        assert path.is_file()


def test_a_bundle_is_written_there(walked: Place, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    out = walked.root / "bundle"
    status, _, err = walked.run("export", "--subnet", "0.5", "--out", str(out))
    assert status == 0, err
    assert (out / "encoder.w0.5.onnx").is_file() and (out / "manifest.json").is_file()


def test_bytes_that_are_no_utf8_in_a_folder_s_name(tmp_path: Path) -> None:
    """Python has them in a form of its own, which cannot be encoded as UTF-8. The corpus lies elsewhere."""
    plain = _make(tmp_path / "plain")
    odd = Place(Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff\xe9")))
    odd.root.mkdir()
    (odd.root / "an4").symlink_to(plain.root / "an4")
    odd.config.write_text(plain.config.read_text())
    for stage in STAGES:
        more = ("--data", odd.data) if stage in ("search", "decode", "align") else ()
        status, _, err = odd.run(stage, *more)
        assert status == 0, (stage, err)
    with sqlite3.connect(odd.exp / "search" / "study.db") as connection:
        assert connection.execute("SELECT COUNT(*) FROM trials").fetchone() == (2,)


@pytest.mark.parametrize("name", ["a?b", "a%3Fb", "a%b", "{x}", "a#b?c=d", "a?mode=b&x=1", "ä ö", "plain"])
def test_a_database_of_any_name_is_that_file(tmp_path: Path, name: str) -> None:
    url = default_url(tmp_path / name)
    Database(url, patience=1.0, heartbeat_seconds=10)
    assert (tmp_path / name / "search" / "study.db").stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == [name]
