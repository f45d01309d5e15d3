"""What run.sh says after every stage and at the end, with programs in place of the stages."""

from __future__ import annotations

import gzip
import json
import shlex
from pathlib import Path

import pytest

from tests.recipes.conftest import Run

STAGES = ("prepare", "features", "bpe", "train", "search", "decode", "score", "report")
MAKES = {
    "prepare": 'for a; do [ "$a" = --only-corpus ] && exec make corpora/digits/options.json; done; make manifests/cuts',
    "features": "make features/shards/a.json",
    "bpe": "make lang_bpe_25/bpe.model",
    "train": "make ../exp/final.pt",
    "search": "make ../exp/search/summary.json",
    "decode": "make ../exp/decode/w1/test/recogs",
    "score": "make ../exp/results.json",
    "report": "make ../exp/report.html",
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a difficult name: ``bin/`` for the programs, ``data/`` and ``exp/`` for what they make."""
    root = tmp_path / "it's a place"
    (root / "bin").mkdir(parents=True)
    make = 'f="$(dirname "$0")/../data/$1"; mkdir -p "$(dirname "$f")"; [ -e "$f" ] || echo made > "$f"'
    program(root, "make", make)
    for name in STAGES:
        program(root, f"slimasr-{name}", MAKES[name])
    program(root, "slimasr", "true")
    program(root, "slimasr-graph", "true")
    return root


def program(root: Path, name: str, body: str) -> None:
    path = root / "bin" / name
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def options(root: Path, *more: str) -> list[str]:
    return ["--data", str(root / "data"), "--exp", str(root / "exp"), *more]


def test_every_stage_says_what_it_did_and_how_long_it_took(recipe: Run, place: Path) -> None:
    done = recipe("digits", *options(place), first=place / "bin")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("stage ")]
    products = [
        None,
        place / "data" / "manifests",
        place / "data" / "features",
        place / "data" / "lang_bpe_25",
        place / "exp" / "final.pt",
        place / "exp" / "search" / "front.json",
        place / "exp" / "decode",
        place / "exp" / "results.json",
        place / "exp" / "report.html",
    ]
    names = ["corpus", *STAGES]
    for number, (line, name, product) in enumerate(zip(lines, names, products, strict=True)):
        begin, _, end = line.partition(" -> ")
        assert begin.startswith(f"stage {number} {name}: done in ") and begin.endswith(" s")
        assert end == ("" if product is None else str(product))


def test_a_stage_with_nothing_to_do_says_so(recipe: Run, place: Path) -> None:
    recipe("digits", *options(place, "--stop-stage", "4"), first=place / "bin")
    again = recipe("digits", *options(place), first=place / "bin")
    lines = [line for line in again.stderr.splitlines() if line.startswith("stage ")]
    assert all("nothing to do" in line and "is complete" in line for line in lines[:5])
    assert f"stage 4 train: nothing to do, {place / 'exp' / 'final.pt'} is complete" in lines[4]
    assert all(" done in " in line for line in lines[5:])


def test_stage_3_names_the_tokenizer_and_the_search_graph(recipe: Run, place: Path) -> None:
    program(place, "slimasr-graph", "make graph_bpe_25/HLG.fst && make graph_bpe_25/graph.json")
    stages = ("--stage", "3", "--stop-stage", "3")
    done = recipe("digits", *options(place, *stages), first=place / "bin")
    data = place / "data"
    assert f" -> {data / 'lang_bpe_25'}, {data / 'graph_bpe_25'}" in done.stderr
    again = recipe("digits", *options(place, *stages), first=place / "bin")
    assert "stage 3 bpe: nothing to do, the tokenizer is complete" in again.stderr


def test_the_data_folder_may_be_a_link(recipe: Run, place: Path) -> None:
    (place / "elsewhere").mkdir()
    data = place / "data"
    data.symlink_to("elsewhere")
    done = recipe("digits", *options(place, "--stage", "3", "--stop-stage", "3"), first=place / "bin")
    assert f" -> {data / 'lang_bpe_25'}" in done.stderr


def test_stage_3_fails_where_the_tokenizer_or_the_graph_fails(recipe: Run, place: Path) -> None:
    program(place, "slimasr-graph", "exit 5")
    stages = ("--stage", "3", "--stop-stage", "3")
    assert recipe("digits", *options(place, *stages), first=place / "bin").returncode == 5
    program(place, "slimasr-bpe", "exit 4")
    assert recipe("digits", *options(place, *stages), first=place / "bin").returncode == 4


def test_scales_are_noted_before_the_search(recipe: Run, place: Path) -> None:
    for name in ("decode", "search"):
        program(place, f"slimasr-{name}", f'echo {name} "${{@:2}}"')
    given = options(place, "--stage", "5", "--stop-stage", "5")
    done = recipe("digits", *given, "--scales", "exp/other", first=place / "bin")
    assert done.stdout.splitlines() == ["decode --scales exp/other", f"search --data {place / 'data'}"]
    assert recipe("digits", *given, first=place / "bin").stdout == f"search --data {place / 'data'}\n"


def test_a_failing_stage_is_named_with_the_command_that_runs_it_again(recipe: Run, place: Path) -> None:
    program(place, "slimasr-bpe", "echo 'error: no text' >&2; exit 7")
    given = options(place, "--stage", "1", "--set", "name=two words")
    done = recipe("digits", *given, first=place / "bin")
    assert done.returncode == 7
    reason, failure = done.stderr.splitlines()[-2:]
    assert reason == "error: no text"
    assert failure.startswith("error: stage 3 (bpe) failed after ")
    assert "exit status 7" in failure
    command = shlex.split(failure.partition("run it again with: ")[2])
    assert command[0].endswith("run.sh")
    assert command[1:] == ["--stage", "3", *options(place), "--set", "name=two words"]
    assert "all stages" not in done.stderr and "next:" not in done.stderr


def test_the_end_says_how_long_it_took_and_what_to_do_next(recipe: Run, place: Path) -> None:
    audio = place / "a test.wav"
    audio.touch()
    (place / "data" / "manifests").mkdir(parents=True)
    for name, source in (("dev", "nowhere.wav"), ("test", str(audio))):
        with gzip.open(place / "data" / "manifests" / f"cuts_{name}.jsonl.gz", "wt") as file:
            file.write(json.dumps({"id": "a", "recording": {"sources": [{"source": source}]}}) + "\n" + 9999 * "{}\n")
    (place / "exp" / "search").mkdir(parents=True)
    front = {"front": [{"id": "w0.25"}, {"id": "w1"}]}
    (place / "exp" / "search" / "front.json").write_text(json.dumps(front, indent=2))
    done = recipe("digits", *options(place), first=place / "bin")
    *_, total, title, report, transcribe, extract = done.stderr.splitlines()
    assert total.startswith("all stages from 0 to 8: done in ") and title == "next:"
    exp = str(place / "exp")
    assert shlex.split(report.partition(": ")[2])[1] == f"{exp}/report.html"
    assert shlex.split(transcribe.partition(": ")[2]) == ["slimasr-transcribe", exp, str(audio), "--subnet", "w0.25"]
    expected = ["slimasr-extract", exp, "--subnet", "w0.25", "--out", f"{exp}-w0.25"]
    assert shlex.split(extract.partition(": ")[2]) == expected


def test_a_part_of_the_stages_names_the_next_one(recipe: Run, place: Path) -> None:
    done = recipe("digits", *options(place, "--stage=2", "--stop-stage", "3"), first=place / "bin")
    assert "all stages from 2 to 3: done in " in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("next: ")
    assert shlex.split(last)[2:] == ["--stage", "4", *options(place)]


@pytest.mark.parametrize(("set_by_user", "expected"), [(None, "1"), ("3", "3")])
def test_digits_run_with_one_thread_unless_the_user_says_otherwise(
    recipe: Run, place: Path, monkeypatch: pytest.MonkeyPatch, set_by_user: str | None, expected: str
) -> None:
    program(place, "slimasr-decode", 'echo "threads $OMP_NUM_THREADS"')
    stages = ("--stage", "6", "--stop-stage", "6")
    done = recipe("digits", *options(place, *stages), first=place / "bin", threads=set_by_user)
    assert done.stdout == f"threads {expected}\n"
