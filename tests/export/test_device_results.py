"""Where the program of a bundle writes results, and how it names files."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slimasr.export.device import open_bundle
from tests.export.conftest import Says

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.export.test_device_words import write_profile
from tests.export.tiny_bundle import PROGRAM, change_manifest, write_wav


def test_results_that_cannot_be_written_are_one_line(bundle: Path, says: Says, tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav", 0.2)
    (tmp_path / "found.json").mkdir()
    status, text = says("transcribe", wav, "--bundle", bundle, "--json", tmp_path / "found.json")
    assert status == 1 and text.splitlines()[-1].startswith("run.py: ") and "found.json" in text


def test_results_are_written_only_to_files_of_results(own: Path, says: Says, tmp_path: Path) -> None:
    """A recording that follows --json, which looks like a flag, is not lost, and nothing is measured in vain."""
    wav = write_wav(tmp_path / "a.wav", 0.2)
    before = wav.read_bytes()
    for path in (wav, own / "manifest.json", tmp_path / "absent" / "found.json"):
        status, text = says("transcribe", "--bundle", own, "--json", path, wav)
        assert status == 2 and f"--json {path}: name a file NAME.json, not a manifest, in a folder that exists" in text
    assert wav.read_bytes() == before and says("verify", "--bundle", own)[0] == 0


def test_what_is_no_text_is_not_printed(own: Path, says: Says, tmp_path: Path) -> None:
    (tmp_path / "phone.json").write_bytes(bytes(range(256)) * 100)
    status, text = says("choose", "--bundle", own, "--profile", tmp_path / "phone.json")
    assert status == 1 and "phone.json cannot be used (UnicodeDecodeError" in text and len(text) < 600


def test_a_damaged_manifest_is_named_beside_the_profile(own: Path, says: Says, tmp_path: Path) -> None:
    path = write_profile(tmp_path / "phone.json")
    sizes = open_bundle(own).manifest["sizes"]
    change_manifest(own, sizes=[{key: size[key] for key in size if key != "params"} for size in sizes])
    status, text = says("choose", "--bundle", own, "--profile", path)
    assert status == 1 and f"{path} or {own}/manifest.json was altered (KeyError('params'))" in text


def test_paths_with_spaces_are_printed_for_a_shell(own: Path, says: Says, tmp_path: Path) -> None:
    folder = own.rename(tmp_path / "my bundle")
    status, text = says("choose", "--bundle", folder, "--profile", write_profile(tmp_path / "phone.json"))
    assert status == 0 and f"--tokens={folder}/tokens.txt" in shlex.split(text.splitlines()[-1])


def test_the_program_runs_through_a_link(own: Path, tmp_path: Path) -> None:
    shutil.copy(PROGRAM, own / "run.py")
    link = tmp_path / "link.py"
    link.symlink_to(own / "run.py")
    done = subprocess.run([sys.executable, str(link), "transcribe", "absent.wav"], capture_output=True, text=True)
    assert done.returncode == 1 and "absent.wav is no WAV file" in done.stderr
