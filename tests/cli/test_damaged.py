"""Files of data and experiment folders that were damaged: each command names the file and ends with status 1."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.cli.test_bad_input import Place, _make, error_of

Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def _finished_once(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = _make(tmp_path_factory.mktemp("finished"))
    status, _, err = place.run_up_to("train")
    assert status == 0, err
    for stage in ("search", "decode", "score", "align"):
        more = () if stage == "score" else ("--data", place.data)
        status, _, err = place.run(stage, *more)
        assert status == 0, (stage, err)
    return place


@pytest.fixture
def finished(_finished_once: Place, tmp_path: Path) -> Place:
    """A trained, searched, decoded and aligned place of the test's own, to spoil."""
    shutil.copytree(_finished_once.root, tmp_path / "copy")
    return Place(tmp_path / "copy")


def text(content: str) -> Spoil:
    return lambda path: path.write_text(content)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def lines(content: str) -> Spoil:
    return lambda path: path.write_bytes(gzip.compress(content.encode()))


def change(**values: object) -> Spoil:
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | values))


MANIFESTS = "data/manifests/cuts_{}.jsonl.gz"
FEATURES = "data/features/cuts_{}.jsonl.gz"
STATS = "data/features/stats.json"
DATA = ("--data", "data")
PAGE = ("--out", "page.html")


@pytest.mark.parametrize(
    ("stage", "more", "name", "spoil"),
    [
        *(("features", (), MANIFESTS.format("train"), s) for s in (half, text(""), text("x"), lines("{}\n"), folder)),
        *(("bpe", (), MANIFESTS.format("train"), s) for s in (half, lines("[1]\n"), lines('{"type": "MonoCut"}\n'))),
        *(("decode", DATA, FEATURES.format("test"), s) for s in (half, text("{}"), lines("nonsense\n"))),
        *(("decode", DATA, MANIFESTS.format("dev"), s) for s in (half, lines("3\n"))),
        *(("train", (), STATS, s) for s in (half, text("[]"), text(""), change(mean=3), change(std=None))),
        ("train", (), STATS, change(mean=[0.0])),
        ("train", (), STATS, change(std=[0.0] * 80)),
        ("train", (), STATS, change(mean=[float("nan")] * 80)),
        *(("decode", DATA, "exp/lang/bpe.model", s) for s in (text("x"), text(""), folder)),
        *(("decode", DATA, "exp/config.yaml", s) for s in (text(""), text("a: [\n"), folder)),
        *(("decode", DATA, "exp/final.pt", s) for s in (half, text(""), folder)),
        *(("search", DATA, "exp/results.json", s) for s in (half, text("[]"), text('{"subnets": 3}'), folder)),
        ("search", DATA, "exp/results.json", text('{"subnets": {"w0.5": 3}}')),
        *(("decode", (*DATA, "--subnet", "front"), "exp/search/front.json", s)
          for s in (half, text("[]"), folder, change(front=3), change(front=[3]))),
        *(("extract", ("--out", "out", "--max-params", "1e9"), "exp/search/candidates.json", s)
          for s in (half, text("3"), change(candidates=7), change(candidates=[{}]))),
        *(("search", DATA, "exp/search/summary.json", s) for s in (half, text("[]"))),
        *(("search", DATA, "exp/search/study.db", s) for s in (text("no database" * 1000), folder)),
        *(("score", (), "exp/decode/w0.5/test/decode.json", s) for s in (half, text("[]"), folder)),
        *(("score", (), "exp/decode/w0.5/test/recogs", s) for s in (text("x\n"), folder)),
        *(("report", PAGE, "exp/results.json", s) for s in (half, change(subnets={"w1": {"wer": 3}}))),
        ("report", PAGE, "exp/search/candidates.json", half),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(
    finished: Place, monkeypatch: pytest.MonkeyPatch, stage: str, more: tuple[str, ...], name: str, spoil: Spoil
) -> None:
    monkeypatch.chdir(finished.root)
    spoil(finished.root / name)
    if stage == "features":
        shutil.rmtree(finished.data / "features")
    if stage == "train":
        shutil.rmtree(finished.exp)
    error = error_of(finished.run(stage, *more))
    assert Path(name).name in error or str(Path(name).parent) in error, error


@pytest.mark.parametrize(
    ("stage", "file"),
    [("prepare", "data"), ("features", "data"), ("bpe", "data"), ("train", "data"), ("search", "exp"),
     ("decode", "exp"), ("score", "exp"), ("extract", "exp"), ("profile", "exp")],
)  # fmt: skip
def test_a_file_where_a_folder_should_be_is_named(place: Place, stage: str, file: str) -> None:
    (place.root / file).write_text("mine")
    more = ("--out", place.root / "out", "--subnet", "0.5") if stage == "extract" else ()
    assert str(place.root / file) in place.fails(stage, *more)
    assert (place.root / file).read_text() == "mine"


def test_a_file_where_the_experiment_should_be_is_named(finished: Place) -> None:
    shutil.rmtree(finished.exp)
    finished.exp.write_text("mine")
    assert str(finished.exp) in finished.fails("train")
    assert finished.exp.read_text() == "mine"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return _make(tmp_path)


def test_names_that_are_too_long_are_named(finished: Place) -> None:
    long = "n" * 300
    assert long in finished.fails("extract", "--subnet", "0.5", "--out", finished.root / long)
    assert long in finished.fails("report", "--out", finished.root / long)
    assert long in finished.fails("decode", "--data", finished.data, "--checkpoint", long)
    assert long in finished.fails("transcribe", "--width", "0.5", finished.root / long)
    assert "--set-name" in finished.fails("decode", "--data", finished.data, "--set-name", long)


@pytest.mark.parametrize("stage", ["decode", "align"])
def test_unknown_sets_are_refused_and_the_known_ones_listed(finished: Place, stage: str) -> None:
    error = finished.fails(stage, "--data", finished.data, "--set-name", "dev", "--set-name", "nosuch")
    assert "--set-name nosuch" in error and "dev, test, train" in error


def test_score_lists_the_decoded_sets(finished: Place) -> None:
    error = finished.fails("score", "--set-name", "nosuch")
    assert "nosuch" in error and "decoded sets: dev, test" in error


def test_weights_that_are_no_numbers_are_refused_by_name(finished: Place) -> None:
    final, original = finished.exp / "final.pt", torch.load(finished.exp / "final.pt", weights_only=True)
    name = "encoder.layers.0.ffn1.up.weight"
    name = name if name in original["model"] else next(n for n in original["model"] if n.endswith("weight"))
    for value in (float("nan"), float("inf"), float("-inf")):
        weights = dict(original["model"])
        weights[name] = weights[name].clone()
        weights[name].view(-1)[3] = value
        torch.save({**original, "model": weights}, final)
        for stage, more in (
            ("decode", ("--data", finished.data)),
            ("search", ("--data", finished.data)),
            ("extract", ("--subnet", "0.5", "--out", finished.root / "out")),
            ("profile", ()),
            ("transcribe", (finished.audio("test", "tester", 0),)),
        ):
            error = finished.fails(stage, *more)
            assert name in error and "final.pt" in error and "1 numbers that are NaN or infinite" in error


def test_a_run_does_not_go_on_from_weights_that_are_no_numbers(finished: Place) -> None:
    (finished.exp / "final.pt").unlink()
    for path in (finished.exp / "checkpoints").glob("epoch-*.pt"):
        saved = torch.load(path, weights_only=True)
        name = next(iter(saved["model"]))
        saved["model"][name] = torch.full_like(saved["model"][name], float("nan"))
        torch.save(saved, path)
    status, _, err = finished.run("train")
    assert status == 1
    assert name in err and "checkpoints" in err and "NaN" in err


@pytest.mark.parametrize(
    "change", [{"state": {"steps_of_old": 3}}, {"state": 3}, {"method": {"odd": 1}}, {"average": 7}]
)
def test_a_run_does_not_go_on_from_a_checkpoint_of_another_layout(finished: Place, change: dict[str, object]) -> None:
    (finished.exp / "final.pt").unlink()
    for path in (finished.exp / "checkpoints").glob("epoch-*.pt"):
        torch.save(torch.load(path, weights_only=True) | change, path)
    assert "checkpoints" in error_of(finished.run("train"))


def test_left_out_utterances_are_reported_where_they_are_left_out(place: Place) -> None:
    place.config.write_text(place.config.read_text().replace("max_bad_share: 0.0", "max_bad_share: 0.2"))
    unreadable, gone = place.audio("train", "speakera", 0), place.audio("train", "speakerb", 1)
    unreadable.write_bytes(unreadable.read_bytes()[:5000])
    gone.unlink()
    status, _, err = place.run("prepare")
    assert status == 0, err
    listing = place.data / "manifests" / "bad_train.json"
    assert f"train: 1 of 36 utterances left out ({listing}); first: speakerb-1: {gone.parent}" in err
    status, _, err = place.run("features")
    assert status == 0, err
    listing = place.data / "features" / "bad_train.json"
    assert f"train: 1 of 35 utterances left out ({listing}); first: speakera-0: {unreadable}" in err
    assert place.run("bpe")[0] == 0
    status, _, err = place.run("train")
    assert status == 0, err
    listing = place.exp / "bad_utterances.jsonl"
    assert f"train: 2 of 36 utterances left out ({listing}); first: speakerb-1" in err
    assert "speakera-0" in err
