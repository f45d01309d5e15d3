"""The folder of a bundle: what it replaces, what it leaves alone, and what remains of a failure."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from slimasr.errors import UserError
from slimasr.export.folders import new_folder
from slimasr.export.manifest import MANIFEST

NONE = ("context_size", "decoder", "joiner", "joiner_int8", "graph", "streaming", "languages", "revision")
CONTENT = {
    "format": "slimasr-bundle",
    "version": 1,
    "kind": "ctc",
    "model": {"name": "a", "weights": "b", "architecture": "c"},
    "audio": {"sample_rate": 8000, "num_mel_bins": 20, "frame_shift": 0.01},
    **{"tokens": "tokens.txt", "features": "features.onnx"},
    **{"vocab_size": 3, "blank_id": 0, "unk_id": 2, "subsampling_factor": 4, "sizes": [], "versions": {}},
    "files": {"tokens.txt": {"bytes": 3, "sha256": ""}},
    **dict.fromkeys(NONE),
}


def put_bundle(out: Path, text: str = "new") -> None:
    """Write a bundle of one file."""
    with new_folder(out) as folder:
        (folder / "tokens.txt").write_text(text)
        (folder / MANIFEST).write_text(json.dumps(CONTENT))


def fail_in(out: Path) -> None:
    """Begin a bundle, and fail as a full disk does."""
    with new_folder(out) as folder:
        (folder / "half").write_text("")
        raise UserError(f"{folder}/weights.bin: cannot be written (No space left on device)")


def die_in(out: Path) -> None:
    """Begin a bundle, and end as ``kill -9`` does."""
    with new_folder(out) as folder:
        (folder / "half").write_text("")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_bundle_is_replaced_and_what_was_measured_on_it_goes(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    put_bundle(out, "old")
    (out / "check.json").write_text("{}")
    (out / "__pycache__").mkdir()
    (out / "__pycache__" / "run.pyc").write_text("")
    put_bundle(out)
    assert sorted(path.name for path in out.iterdir()) == [MANIFEST, "tokens.txt"]
    assert (out / "tokens.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_files_of_others_in_a_bundle_are_not_lost(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    put_bundle(out, "old")
    (out / "phone.json").write_text(json.dumps({"rows": []}))
    with pytest.raises(UserError, match=r"bundle/phone.json: is no file of the bundle in this folder"):
        put_bundle(out)
    assert (out / "phone.json").is_file() and (out / "tokens.txt").read_text() == "old"
    (out / "phone.json").unlink()
    (out / "recordings").symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"bundle/recordings: is no file of the bundle in this folder"):
        put_bundle(out)


def test_a_link_stays_and_the_folder_behind_it_is_replaced(tmp_path: Path) -> None:
    put_bundle(tmp_path / "disk" / "bundle", "old")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "bundle")
    put_bundle(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "bundle" / "tokens.txt").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]


def test_what_a_killed_export_leaves_goes_with_the_next_one(tmp_path: Path) -> None:
    out = tmp_path / "bundle[1]"
    put_bundle(out, "old")
    process = multiprocessing.get_context("fork").Process(target=die_in, args=(out,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and len(list(tmp_path.glob(".*.partial"))) == 1
    assert (out / "tokens.txt").read_text() == "old"
    (tmp_path / ".bundle[1].0123456789ab.old").mkdir()
    (tmp_path / ".bundle1.0123456789ab.old").mkdir()
    put_bundle(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".bundle1.0123456789ab.old", "bundle[1]"]
    assert (out / "tokens.txt").read_text() == "new"


def test_two_exports_to_one_folder(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with new_folder(out) as folder:
        with pytest.raises(UserError, match=r"in use by slimasr-export .*or choose another folder for --out"):
            put_bundle(out)
        assert folder.is_dir() and not out.exists()
        (folder / MANIFEST).write_text("first")
    assert (out / MANIFEST).read_text() == "first"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("out", [".", ".."])
def test_the_working_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match="is the working folder or holds it"):
        put_bundle(Path(out))
    assert list((tmp_path / "here").iterdir()) == []


def test_a_failure_names_the_folder_that_the_user_named_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        fail_in(tmp_path / "bundle")
    assert str(caught.value) == f"{tmp_path}/bundle/weights.bin: cannot be written (No space left on device)"
    assert list(tmp_path.iterdir()) == []
