"""Adding the web page to a bundle; the page itself needs a browser (test_page.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slimasr.errors import UserError
from slimasr.export.web import RUNTIME, add_web


def test_a_folder_without_the_runtime_is_refused(tmp_path: Path) -> None:
    bundle, dist = tmp_path / "bundle", tmp_path / "dist"
    bundle.mkdir()
    dist.mkdir()
    manifest = json.dumps({"files": {}})
    (bundle / "manifest.json").write_text(manifest)
    (dist / RUNTIME[0]).touch()
    for folder, name in [(tmp_path / "nowhere", RUNTIME[0]), (dist, RUNTIME[1])]:
        with pytest.raises(UserError, match=f"^{folder}: {name} is not in this folder; .*npm install onnxruntime-web"):
            add_web(bundle, folder)
    assert [path.name for path in bundle.iterdir()] == ["manifest.json"]
    assert (bundle / "manifest.json").read_text() == manifest


def test_the_page_and_two_files_are_copied_and_a_second_time_replaces_them(tmp_path: Path) -> None:
    for name in RUNTIME:
        (tmp_path / name).write_text(name)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text(json.dumps({"files": {"weights.bin": {"bytes": 1, "sha256": ""}}}))
    add_web(bundle, tmp_path)
    first = (bundle / "manifest.json").read_text()
    (bundle / "index.html").write_text("another")
    add_web(bundle, tmp_path)
    assert (bundle / "manifest.json").read_text() == first
    assert "another" not in (bundle / "index.html").read_text()
    listed = json.loads(first)["files"]
    assert {
        "weights.bin",
        "index.html",
        "web/app.js",
        *(f"web/{name}" for name in RUNTIME),
    } <= listed.keys()
    assert all((bundle / name).is_file() for name in listed if name != "weights.bin")


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    for name in RUNTIME:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"manifest\.json: cannot be read"):
        add_web(tmp_path, tmp_path)
