"""Whole searches of a space too large to be gone through, from the command line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import slimasr
from slimasr.cli import align, decode, extract, profile, transcribe
from slimasr.cli import search as search_command
from slimasr.cli.common import command_app
from slimasr.experiment import Experiment
from slimasr.experiment.archive import read_candidates, read_front
from slimasr.experiment.subnets import MOST_LISTED
from slimasr.measure.runtime import Runtime, RuntimeMeter
from slimasr.models.transducer import Transducer
from slimasr.search.database import Database, default_url
from slimasr.search.finalists import write_summary
from slimasr.search.search import Job
from slimasr.search.study import Study
from slimasr.supernet.front import Limits, best_under, find_front
from slimasr.supernet.subnet import Subnet
from tests.results.kit import results_json
from tests.search.postgres import running_server
from tests.search.untrained import LAYERS, copy_of, make_experiment

EVOLUTION = {
    "kind": "evolution",
    "initial": 12,
    "generations": 2,
    "mutations": 4,
    "crossovers": 4,
    "buckets": 6,
    "heartbeat_seconds": 1,
}
PROGRAM = [sys.executable, "-c", "from slimasr.cli.search import main; main()"]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """An untrained supernet, not searched and not to be written into."""
    folder = tmp_path_factory.mktemp("exp") / "layers"
    return make_experiment(folder, data, [1.0], space=LAYERS, search=EVOLUTION)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, fresh: Path, data: Path) -> Path:
    """The same after a search by one process, not to be written into."""
    folder = copy_of(fresh, tmp_path_factory.mktemp("exp") / "searched")
    search(folder, data)
    return folder


@pytest.fixture
def unsearched(fresh: Path, searched: Path, tmp_path: Path) -> Path:
    """A copy without study, where what goes into results.json is known already: its timing takes longest."""
    folder = copy_of(fresh, tmp_path / "layers")
    shutil.copy(searched / "results.json", folder)
    return folder


def call(run: Any, *arguments: object) -> Result:
    return CliRunner().invoke(command_app(run), list(map(str, arguments)))


def search(folder: Path, data: Path, *options: object) -> str:
    result = call(search_command.run, folder, "--data", data, *options)
    assert result.exit_code == 0, result.output
    return result.output


def start(folder: Path, data: Path, *options: object) -> subprocess.Popen[str]:
    command = [*PROGRAM, str(folder), "--data", str(data), *map(str, options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def content(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "search" / f"{name}.json").read_text())
    return found


def evaluated(folder: Path) -> set[str]:
    """Ids of all that was measured or given up."""
    found = content(folder, "candidates")
    return {item["id"] for item in found["candidates"] + found["stopped"]}


def front(folder: Path) -> list[tuple[str, float]]:
    return [(item["id"], item["wer"]) for item in content(folder, "front")["front"]]


def owners_at_work(study: Study) -> list[int]:
    """Process ids that hold a claim now."""
    return [int(row.owner.split("|")[1]) for row in study._claims.rows()]


def test_the_record_holds_what_is_worth_deploying(searched: Path) -> None:
    found, space = content(searched, "candidates"), Experiment.open(searched).space
    subnets = [Subnet.from_dict(item["subnet"]) for item in found["candidates"] + found["stopped"]]
    assert len(subnets) == len(set(subnets)) == 28 and all(subnet in space for subnet in subnets)
    assert all({"params", "macs", "int8_bytes"} <= item["costs"].keys() for item in found["candidates"])
    assert all(item["wer_at_least"] > 0 for item in found["stopped"])
    expected = find_front(read_candidates(Experiment.open(searched)), "params")
    assert front(searched) == [(m.subnet.id, m.wer) for m in expected]
    entries = results_json(searched)["subnets"]
    chosen = {*dict(front(searched)), space.max.id, space.min.id}
    assert entries.keys() == chosen & evaluated(searched)
    for name, entry in entries.items():
        assert entry["costs"]["rtf"] > 0
        assert entry["wer"]["dev"]["words"] == 10
        searched_wer = {item["id"]: item.get("wer") for item in found["candidates"]}.get(name)
        assert searched_wer in (None, pytest.approx(entry["wer"]["dev"]["wer"]))
    assert content(searched, "front")["measured"] == 28


def test_the_summary_says_how_fast(searched: Path) -> None:
    summary = content(searched, "summary")
    assert (summary["generator"], summary["candidates"], summary["space"], summary["workers"]) == (
        "evolution",
        28,
        258,
        1,
    )
    assert summary["per_minute"] == pytest.approx(28 / summary["minutes"])
    assert 0 < summary["evaluation_minutes"] <= summary["minutes"]


def test_searching_again_changes_nothing(searched: Path, data: Path, tmp_path: Path) -> None:
    folder = copy_of(searched, tmp_path / "again")
    files = ["results.json", "search/front.json", "search/candidates.json", "search/summary.json"]
    before = [(folder / name).read_bytes() for name in files]
    assert "28 of 258 subnets evaluated" in search(folder, data)
    assert [(folder / name).read_bytes() for name in files] == before


def test_the_summary_counts_what_a_killed_run_has_found(searched: Path, data: Path, tmp_path: Path) -> None:
    """A run that was killed after its last evaluation left an earlier run's summary."""
    folder = copy_of(searched, tmp_path / "killed")
    opened, path = Job(folder, data).open(), folder / "search" / "summary.json"
    busy, history = opened.study.busy_seconds() / 60, opened.study.history()
    summary = content(folder, "summary")
    path.write_text(json.dumps({**summary, "candidates": 12, "minutes": 0.0}))
    # However many workers go on: those before may have been fewer.
    found = write_summary(opened, history, done=0, minutes=1e-6, workers=4)
    assert {"version": 1, **found.to_dict()} == content(folder, "summary")
    assert found.candidates == 28
    assert found.minutes == pytest.approx(busy)
    assert found.evaluation_minutes <= busy  # one worker; claims take their time too
    assert write_summary(opened, history, done=0, minutes=9.0, workers=4) == found
    # Another search's time is none of this one's.
    path.write_text(json.dumps({**summary, "int8": True, "minutes": 7.0}))
    found = write_summary(opened, history, done=28, minutes=9.0, workers=1)
    assert (found.minutes, found.int8) == (9.0, False)


def test_stopping_early_changes_neither_front_nor_search(unsearched: Path, searched: Path, data: Path) -> None:
    search(unsearched, data, "--set", "search.stop_early=false")
    assert content(unsearched, "candidates")["stopped"] == []
    assert evaluated(unsearched) == evaluated(searched)
    assert front(unsearched) == front(searched)
    assert content(searched, "candidates")["stopped"] != []


def test_two_workers_find_what_one_finds_even_if_one_is_killed_in_mid_evaluation(
    unsearched: Path, searched: Path, data: Path
) -> None:
    running = start(unsearched, data, "--workers", 2)
    study, deadline = Job(unsearched, data).open().study, time.monotonic() + 120
    # The first that is seen at work: on a fast machine both may never be seen at once.
    while not (found := owners_at_work(study)):
        assert running.poll() is None and time.monotonic() < deadline
    os.kill(found[0], signal.SIGKILL)
    output, _ = running.communicate(timeout=240)
    assert running.returncode == 0, output
    assert "ended early (SIGKILL); the others continue" in output
    assert evaluated(unsearched) == evaluated(searched)
    assert front(unsearched) == front(searched)


def test_a_search_that_was_killed_goes_on(unsearched: Path, searched: Path, data: Path) -> None:
    running = start(unsearched, data)
    study, deadline = Job(unsearched, data).open().study, time.monotonic() + 120
    while not owners_at_work(study):
        assert running.poll() is None and time.monotonic() < deadline
    running.kill()
    running.communicate()
    assert len(study.history().finished) < 28
    search(unsearched, data)
    assert evaluated(unsearched) == evaluated(searched)
    assert front(unsearched) == front(searched)


def test_a_database_that_goes_away_and_comes_back(unsearched: Path, searched: Path, data: Path) -> None:
    with running_server() as server:
        watching = Database(server.url, patience=60.0, heartbeat_seconds=1).storage

        def cut_off() -> None:
            while not watching.get_all_studies() or len(watching.get_all_trials(1)) < 5:
                time.sleep(0.05)
            server.stop()
            time.sleep(1.0)
            server.start()

        trouble = threading.Thread(target=cut_off)
        trouble.start()
        search(unsearched, data, "--storage", server.url)
        trouble.join()
        assert evaluated(unsearched) == evaluated(searched)
        assert not Path(default_url(unsearched).removeprefix("sqlite:///")).exists()


@pytest.mark.parametrize("kind", ["random", "nsga2"])
def test_other_generators(unsearched: Path, data: Path, kind: str) -> None:
    folder = unsearched
    (folder / "config.yaml").write_text(
        (folder / "config.yaml").read_text().split("search:")[0]
        + f"search:\n  kind: {kind}\n  candidates: 10\n  rtf_seconds: 0.5\n"
    )
    search(folder, data)
    assert len(evaluated(folder)) == 10


def test_limits_bind_the_search(fresh: Path, data: Path, tmp_path: Path) -> None:
    folder = copy_of(fresh, tmp_path / "limited")
    bound = Experiment.open(folder).model.count(Subnet(1.0, (0, 1))).params
    output = search(folder, data, "--set", f"search.limits.params={bound}", "--set", "search.generations=0")
    found = content(folder, "candidates")
    assert len(evaluated(folder)) == 12
    assert max(item["costs"]["params"] for item in found["candidates"] + found["stopped"]) <= bound
    assert max(entry["costs"]["params"] for entry in results_json(folder)["subnets"].values()) <= bound
    assert front(folder) and best_of(output) == best_under(read_candidates(Experiment.open(folder)), Limits()).subnet.id


def test_limits_bind_what_an_earlier_search_without_them_found(searched: Path, data: Path, tmp_path: Path) -> None:
    folder = copy_of(searched, tmp_path / "limited")
    params = {m.subnet: m.costs["params"] for m in read_candidates(Experiment.open(folder))}
    bound = sorted(params.values())[len(params) // 2]
    output = search(folder, data, "--set", f"search.limits.params={bound}")
    allowed = [m for m in read_candidates(Experiment.open(folder)) if m.costs["params"] <= bound]
    assert front(folder) == [(m.subnet.id, m.wer) for m in find_front(allowed, "params")]
    assert best_of(output) == best_under(allowed, Limits()).subnet.id
    tighter = min(params.values())
    output = search(folder, data, "--set", f"search.limits.params={bound}", "--max-params", tighter)
    assert best_of(output) == Experiment.open(folder).space.min.id


def test_a_limit_on_time_binds_front_and_best(
    fresh: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Max and min stay in the record, the others are compared to them."""
    folder = copy_of(fresh, tmp_path / "limited")
    model = Experiment.open(folder).model
    sizes = [model.count(subnet).params for subnet in (Subnet(), Subnet(1.0, (0, 1)))]

    def time(meter: RuntimeMeter, model: Transducer, *_: object, **__: object) -> Runtime:
        return Runtime(sum(p.numel() for p in model.parameters()) / sizes[0], 1.0, 1)

    monkeypatch.setattr(RuntimeMeter, "measure", time)
    bound = sizes[1] / sizes[0]
    output = search(folder, data, "--set", f"search.limits.rtf={bound}")
    entries = results_json(folder)["subnets"]
    assert entries["w1"]["costs"]["rtf"] == 1.0
    assert front(folder) and all(entries[name]["costs"]["rtf"] <= bound for name, _ in front(folder))
    times = {m.subnet.id: m.costs["rtf"] for m in read_candidates(Experiment.open(folder))}
    assert times[best_of(output)] <= bound


def best_of(output: str) -> str:
    """The subnet that a search ends with."""
    (name,) = re.findall(r"^best under the limits: (\S+),", output, re.MULTILINE)
    return str(name)


def test_subnets_are_found_by_id(searched: Path, data: Path, tmp_path: Path) -> None:
    """Of a candidate that is not on the front; without going through the space."""
    known = {*dict(front(searched)), *results_json(searched)["subnets"]}
    entry = next(item for item in content(searched, "candidates")["candidates"] if item["id"] not in known)
    result = call(extract.run, searched, "--out", tmp_path / "one", "--subnet", entry["id"])
    assert result.exit_code == 0, result.output
    assert f"{entry['costs']['params']:,} parameters" in result.output
    asr = slimasr.load(searched)
    assert asr.choose(entry["id"]) == Subnet.from_dict(entry["subnet"])
    audio = next(data.parent.glob("audio/test-*.wav"))
    result = call(transcribe.run, searched, audio, "--subnet", entry["id"])
    assert result.exit_code == 0, result.output
    result = call(transcribe.run, searched, audio, "--subnet", "w1-l3-00000000")
    assert result.exit_code == 1
    assert "or the id of one that the search has evaluated" in result.output


def test_references_are_aligned_by_a_subnet_of_the_search(searched: Path, data: Path, tmp_path: Path) -> None:
    folder = copy_of(searched, tmp_path / "aligned")
    name = content(folder, "candidates")["candidates"][-1]["id"]
    result = call(align.run, folder, "--data", data, "--set-name", "test", "--subnet", name)
    assert result.exit_code == 0, result.output
    facts = json.loads((folder / "alignments" / "alignments.json").read_text())
    assert f"subnet {name}," in facts["made_by"]


def test_all_means_front_and_ends_where_there_are_too_many(searched: Path, data: Path, tmp_path: Path) -> None:
    folder = copy_of(searched, tmp_path / "decoded")
    space = Experiment.open(folder).space
    assert space.count() > MOST_LISTED
    wanted = {space.max.id, space.min.id, *(subnet.id for subnet in read_front(Experiment.open(folder)))}
    assert slimasr.load(folder).subnets[0] == space.max
    assert {s.id for s in slimasr.load(folder).subnets} == wanted
    result = call(decode.run, folder, "--data", data, "--set-name", "test")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (folder / "decode").iterdir()} == wanted
    result = call(profile.run, folder, "--no-rtf", "--json")
    assert json.loads(result.output).keys() == wanted
    shutil.rmtree(folder / "decode")
    result = call(decode.run, folder, "--data", data, "--set-name", "test", "--subnet", "front")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (folder / "decode").iterdir()} == set(dict(front(folder)))


def test_all_needs_a_search_where_there_are_too_many(fresh: Path, data: Path) -> None:
    result = call(decode.run, fresh, "--data", data)
    assert result.exit_code == 1
    assert "has no front yet: run stage 5 (slimasr-search) first" in result.output
    result = call(profile.run, fresh, "--no-rtf", "--json")
    assert list(json.loads(result.output)) == ["w1", Experiment.open(fresh).space.min.id]
