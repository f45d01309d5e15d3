"""Disks that are full, at any point of any stage: the error names a file, and nothing half-written is taken for whole.

Files may not grow past some size: the kernel refuses the write, whichever library makes it.
"""

from __future__ import annotations

import resource
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.test_bad_input import Place, _make, error_of


@contextmanager
def full_beyond(size: int) -> Iterator[None]:
    """No file of this process, nor of those that it starts, can grow past ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """All stages up to score, done."""
    place = _make(tmp_path_factory.mktemp("disk"))
    status, _, err = place.run_up_to("train")
    assert status == 0, err
    for stage in ("search", "decode", "score"):
        more = () if stage == "score" else ("--data", place.data)
        status, _, err = place.run(stage, *more)
        assert status == 0, (stage, err)
    return place


def without(place: Place, *names: str) -> None:
    for name in names:
        path = place.root / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


CASES = [
    ("prepare", (), ("data/manifests",), (10, 700)),
    ("features", ("--num-jobs", "1"), ("data/features",), (10, 20_000)),
    ("bpe", (), ("data/lang_char_11",), (10, 100)),
    ("train", (), ("exp",), (10, 300, 3000, 20_000)),
    ("search", ("--data", "data"), ("exp/search",), (0, 50_000)),
    ("decode", ("--data", "data"), ("exp/decode",), (10, 150)),
    ("score", (), (), (10, 1000)),
    ("align", ("--data", "data"), (), (10, 500)),
    ("extract", ("--subnet", "0.5", "--out", "small"), ("small",), (10, 10_000)),
    ("report", ("--out", "page.html"), (), (10, 100_000)),
    ("report", ("--json", "merged.json"), (), (10, 2000)),
]


@pytest.mark.parametrize(
    ("stage", "more", "removed", "size"),
    [(stage, more, removed, size) for stage, more, removed, sizes in CASES for size in sizes],
)
def test_a_full_disk_names_the_file_and_the_next_run_is_whole(
    finished: Place, tmp_path: Path, stage: str, more: tuple[str, ...], removed: tuple[str, ...], size: int
) -> None:
    place = Place(tmp_path / "copy")
    shutil.copytree(finished.root, place.root)
    without(place, *removed)
    before = {path for path in place.root.rglob("*") if path.is_file()}
    with full_beyond(size):
        outcome = place.run(stage, *absolute(place, more))
    assert str(place.root) in error_of(as_printed(outcome))
    leftover = [path for path in place.root.rglob("*") if "partial" in path.name]
    assert not leftover
    assert not (place.exp / "final.pt").exists() or (finished.exp / "final.pt").exists()
    status, _, err = place.run(stage, *absolute(place, more))
    assert status == 0, err
    assert before <= {path for path in place.root.rglob("*") if path.is_file()}


def absolute(place: Place, more: Sequence[str]) -> list[str]:
    names = ("data", "small", "page.html", "merged.json")
    return [str(place.root / item) if item in names else item for item in more]


def as_printed(outcome: tuple[int, str, str]) -> tuple[int, str, str]:
    """Without what a library's own thread prints of its error before ours is shown."""
    status, out, err = outcome
    head, mark, rest = err.partition("Exception in thread")
    return status, out, head + rest[rest.find("\nerror: ") :].lstrip("\n") if mark else err


def test_a_bundle_is_whole_or_absent(finished: Place, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    place = Place(tmp_path / "copy")
    shutil.copytree(finished.root, place.root)
    out = tmp_path / "bundle"
    with full_beyond(5000):
        outcome = place.run("export", "--subnet", "0.5", "--out", str(out))
    assert ".onnx: cannot be written" in error_of(as_printed(outcome))
    assert not list(tmp_path.glob("*bundle*"))


def test_an_error_in_a_feature_process_comes_through(finished: Place, tmp_path: Path) -> None:
    """With more than one shard the work is done in processes of their own, which inherit the limit."""
    place = Place(tmp_path / "copy")
    shutil.copytree(finished.root, place.root)
    without(place, "data/features")
    with full_beyond(20_000):
        error = place.fails("features", "--num-jobs", "2")
    assert "data/features/shards/" in error and ".lca: cannot be written" in error
