"""Bad input to the search, through the command line."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from slimasr.cli.common import command_app
from slimasr.cli.search import run
from slimasr.data.features.stage import compute_features
from slimasr.data.files import DataFolder, read_cuts, write_cuts
from tests.results.kit import results_json
from tests.search.untrained import LAYERS, copy_of, make_config, make_data, make_experiment


def search(*arguments: object) -> Result:
    return CliRunner().invoke(command_app(run), list(map(str, arguments)))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data/`` and an untrained experiment ``exp/``."""
    root = tmp_path_factory.mktemp("search")
    make_experiment(root / "exp", make_data(root), [1.0])
    return root


def test_untrained_folder_names_the_stage(tmp_path: Path) -> None:
    result = search(tmp_path, "--data", tmp_path)
    assert result.exit_code == 1
    assert "run stage 4 (slimasr-train) first" in result.output


def test_missing_features_name_the_stage(place: Path, tmp_path: Path) -> None:
    result = search(place / "exp", "--data", tmp_path)
    assert result.exit_code == 1
    assert "run stage 2 (slimasr-features) first" in result.output


@pytest.mark.parametrize(("widths", "message"), [("0.5,x", "--slice 0.5,x"), ("1.5", "above 0 and at most 1")])
def test_slices_must_be_widths(place: Path, widths: str, message: str) -> None:
    result = search(place / "exp", "--data", place / "data", "--slice", widths)
    assert result.exit_code == 1
    assert message in result.output


def test_impossible_slice_names_the_size(place: Path) -> None:
    result = search(place / "exp", "--data", place / "data", "--slice", "0.3")
    assert result.exit_code == 1
    assert "not a whole number" in result.output


@pytest.fixture
def supernet(place: Path, tmp_path: Path) -> Path:
    """An untrained supernet of 258 subnets that is searched by six candidates at random."""
    settings = {"kind": "random", "candidates": 6}
    return make_experiment(tmp_path / "supernet", place / "data", [1.0], space=LAYERS, search=settings)


def refused(folder: Path, data: Path, *options: str) -> str:
    """The one line that a search ends with; progress may stand before it."""
    result = search(folder, "--data", data, *options)
    assert result.exit_code == 1
    *before, last = result.output.strip().splitlines()
    assert last.startswith("error: ") and all(line.startswith("search: ") for line in before), result.output
    return last


def test_a_limit_nothing_meets_names_the_nearest_before_the_search(place: Path, supernet: Path) -> None:
    line = refused(supernet, place / "data", "--set", "search.limits.params=1000")
    assert "no subnet meets params <= 1,000: the nearest is w1-l1-" in line
    assert not (supernet / "search").exists()


def test_a_limit_on_time_nothing_meets(place: Path, supernet: Path) -> None:
    options = ("--set", "search.limits.rtf=1e-9", "--set", "search.candidates=1")
    assert "no subnet meets rtf <= 1e-09: the nearest is w1 with" in refused(supernet, place / "data", *options)


def test_a_study_of_another_space_is_refused(place: Path, supernet: Path) -> None:
    assert search(supernet, "--data", place / "data", "--set", "search.candidates=2").exit_code == 0
    config = supernet / "config.yaml"
    config.write_text(config.read_text().replace("  - 2\n  - 1\n", "  - 1\n", 1))
    line = refused(supernet, place / "data")
    assert "was made with another space (depth: [3, 2, 1] there, [3, 1] here)" in line
    assert "name another --storage" in line
    other = f"sqlite:///{supernet}/other.db"
    assert search(supernet, "--data", place / "data", "--storage", other).exit_code == 0


def test_a_checkpoint_of_another_encoder(place: Path, supernet: Path, tmp_path: Path) -> None:
    config = supernet / "config.yaml"
    config.write_text(config.read_text().replace("ffn_dim: 32", "ffn_dim: 64").replace("- 32", "- 64"))
    assert "final.pt: does not fit the configuration: encoder.layers" in refused(supernet, place / "data")


def test_a_database_that_is_not_there(place: Path, supernet: Path) -> None:
    options = ("--storage", "postgresql://slimasr:sesame@127.0.0.1:1/x", "--set", "search.storage_patience=0.5")
    line = " ".join(search(supernet, "--data", place / "data", *options).output.split())
    assert "bring it back and run the same command again" in line or "driver is not installed" in line
    assert "sesame" not in line


def test_only_the_search_may_be_changed(place: Path, supernet: Path) -> None:
    line = refused(supernet, place / "data", "--set", "model.joiner.dim=7")
    assert "--set model.joiner.dim=7: only search.* and decoding.* can be overridden for a trained experiment" in line
    assert "search.buckets" in refused(supernet, place / "data", "--set", "search.buckets=7")


def test_candidates_may_be_decoded_in_another_way(place: Path, supernet: Path) -> None:
    beam = ("--set", "decoding.kind=modified_beam", "--set", "decoding.beam=2", "--set", "search.candidates=2")
    assert search(supernet, "--data", place / "data", *beam).exit_code == 0
    entries = results_json(supernet)["subnets"].values()
    assert {entry["wer"]["dev"]["decoding"] for entry in entries} == {"modified beam search, beam 2"}


def test_a_huge_space_is_not_searched_exhaustively(place: Path, tmp_path: Path) -> None:
    space = {"kind": "layers", "depths": [3], "units": {"ffn1": [*range(1, 33)], "ffn2": [*range(1, 33)]}}
    folder = make_experiment(tmp_path / "huge", place / "data", [1.0], space=space)
    assert "the space has 1,073,741,824 subnets; choose evolution" in refused(folder, place / "data")


def test_empty_references_of_dev_are_scored(place: Path, supernet: Path, tmp_path: Path) -> None:
    data = copy_of(place / "data", tmp_path / "data")
    silence(data, 1)
    result = search(supernet, "--data", data, "--set", "search.candidates=2")
    assert result.exit_code == 0, result.output
    assert results_json(supernet)["subnets"]["w1"]["wer"]["dev"]["sentences"] == 5
    silence(data, 5)
    shutil.rmtree(supernet / "search")
    assert "dev: no reference has a word" in refused(supernet, data)


@pytest.mark.parametrize("bad", ["features", "words"])
def test_several_workers_say_once_what_is_wrong(place: Path, supernet: Path, tmp_path: Path, bad: str) -> None:
    data = tmp_path / "none"
    if bad == "words":
        data = copy_of(place / "data", tmp_path / "data")
        silence(data, 5)
    program = [sys.executable, "-c", "from slimasr.cli.search import main; main()"]
    command = [*program, str(supernet), "--data", str(data), "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    message = {"features": "run stage 2 (slimasr-features) first", "words": "dev: no reference has a word"}[bad]
    assert line.startswith("error: ") and message in line


def test_a_study_of_another_dev_set_is_refused(place: Path, supernet: Path, tmp_path: Path) -> None:
    data = copy_of(place / "data", tmp_path / "data")
    options = ("--set", "search.candidates=2")
    assert search(supernet, "--data", data, *options).exit_code == 0
    silence(data, 1)
    line = refused(supernet, data, *options)
    assert "was made with another content of the dev set" in line and "name another --storage" in line
    other = f"sqlite:///{supernet}/other.db"
    before = results_json(supernet)["subnets"]["w1"]["wer"]["dev"]
    assert search(supernet, "--data", data, *options, "--storage", other).exit_code == 0
    after = results_json(supernet)["subnets"]["w1"]["wer"]["dev"]
    assert (before["data"], before["words"]) != (after["data"], after["words"])


def test_a_study_from_before_sets_had_fingerprints_is_used_with_a_note(place: Path, supernet: Path) -> None:
    options = ("--set", "search.candidates=2")
    assert search(supernet, "--data", place / "data", *options).exit_code == 0
    with sqlite3.connect(supernet / "search" / "study.db") as database:
        ((identity,),) = database.execute("SELECT value_json FROM study_user_attributes WHERE key = 'identity'")
        kept = {key: value for key, value in json.loads(identity).items() if "content" not in key}
        database.execute("UPDATE study_user_attributes SET value_json = ?", (json.dumps(kept),))
    result = search(supernet, "--data", place / "data", *options)
    assert result.exit_code == 0, result.output
    assert "does not record the content of the dev set" in result.output


def silence(data: Path, number: int) -> None:
    """Empty the transcripts of the first utterances of dev, and run stage 2 again."""
    path = DataFolder(data).raw_cuts("dev")
    cuts = list(read_cuts(path, "stage 1"))
    for cut in cuts[:number]:
        cut.supervisions[0].text = ""
    write_cuts(path, cuts)
    compute_features(make_config("data", [1.0]), data, 1, lambda items, *_: items)
