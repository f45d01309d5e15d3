"""Latency on a device as a cost of whole searches, from the command line."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from slimasr.cli import extract
from slimasr.cli import search as search_command
from slimasr.cli.common import command_app
from slimasr.experiment import Experiment
from slimasr.experiment.archive import read_candidates
from slimasr.recognizer import Recognizer
from slimasr.search.latency.cover import to_profile
from slimasr.search.latency.device import LatencyOptions, device_latency, terms_of_experiment
from slimasr.search.search import Job
from slimasr.supernet.front import find_front
from slimasr.supernet.subnet import Subnet
from tests.results.kit import results_json
from tests.search.latency_kit import MACHINE, noisy, row, time_of, write_profile
from tests.search.untrained import LAYERS, copy_of, make_experiment
from tests.tiny import MODEL

RANDOM = {"kind": "random", "candidates": 10}
SIZES = {"ffn1": MODEL.encoder.ffn_dim, "ffn2": MODEL.encoder.ffn_dim}


def true_time(subnet: Subnet) -> float:
    return time_of(subnet, 3, SIZES)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """An untrained supernet of 258 subnets, not searched and not to be written into."""
    return make_experiment(tmp_path_factory.mktemp("exp") / "layers", data, [1.0], space=LAYERS, search=RANDOM)


@pytest.fixture(scope="module")
def opened(fresh: Path) -> Experiment:
    return Experiment.open(fresh)


@pytest.fixture(scope="module")
def asked(opened: Experiment) -> list[Subnet]:
    """The subnets that a search wants to be profiled."""
    return to_profile(terms_of_experiment(opened))


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory, opened: Experiment, asked: list[Subnet]) -> Path:
    """The profile of a made-up device without noise."""
    path = tmp_path_factory.mktemp("profile") / "phone.json"
    return write_profile(path, opened, [row(subnet, true_time(subnet)) for subnet in asked])


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, fresh: Path, phone: Path, data: Path) -> Path:
    """The same after a search for latency, not to be written into."""
    folder = copy_of(fresh, tmp_path_factory.mktemp("exp") / "searched")
    search(folder, data, "--latency", phone, "--set", "search.cost=latency")
    return folder


def call(run: Callable[..., None], *arguments: object) -> Result:
    return CliRunner().invoke(command_app(run), list(map(str, arguments)))


def search(folder: Path, data: Path, *options: object) -> str:
    result = call(search_command.run, folder, "--data", data, *options)
    assert result.exit_code == 0, result.output
    return result.output


def content(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "search" / f"{name}.json").read_text())
    return found


def latencies(entries: list[dict[str, Any]]) -> dict[Subnet, float]:
    return {Subnet.from_dict(entry["subnet"]): entry["costs"]["latency"] for entry in entries}


def test_every_candidate_has_the_latency_of_the_device(searched: Path) -> None:
    found = content(searched, "candidates")
    entries = [*found["candidates"], *found["stopped"], *results_json(searched)["subnets"].values()]
    assert len(latencies(entries)) == 10
    for subnet, latency in latencies(entries).items():
        assert latency == pytest.approx(true_time(subnet), rel=1e-6)


def test_the_front_is_that_of_wer_and_latency(searched: Path) -> None:
    found = content(searched, "front")
    expected = find_front(read_candidates(Experiment.open(searched)), "latency")
    assert found["cost"] == "latency"
    assert [item["id"] for item in found["front"]] == [measurement.subnet.id for measurement in expected]


def test_the_device_and_its_error_are_recorded(searched: Path, asked: list[Subnet]) -> None:
    device = results_json(searched)["latency_device"]
    assert {key: device[key] for key in MACHINE} == MACHINE
    assert (device["precision"], device["threads"], device["seconds"]) == ("float", 1, [10.0])
    assert device["subnets"] == device["left_out"] == len(asked)
    assert device["largest_error"] < 1e-4


def test_limits_choose_by_latency(searched: Path, phone: Path, data: Path, tmp_path: Path) -> None:
    folder = copy_of(searched, tmp_path / "exp")
    known = {m.subnet: m for m in read_candidates(Experiment.open(folder))}
    bound = sorted(true_time(subnet) for subnet in known)[3] + 1e-6
    fitting = [m for subnet, m in known.items() if true_time(subnet) <= bound]
    best = min(fitting, key=lambda m: (*m.fitness, m.costs["params"]))
    options = ("--latency", phone, "--set", "search.cost=latency", "--max-latency-ms", bound)
    said = search(folder, data, *options)
    assert f"best under the limits: {best.subnet.id}," in said
    # The study of this profile was complete already.
    assert content(folder, "candidates") == content(searched, "candidates")
    assert Recognizer(Experiment.open(folder)).choose(max_latency_ms=bound) == best.subnet
    out = tmp_path / "small"
    result = call(extract.run, folder, "--out", out, "--max-latency-ms", bound)
    assert result.exit_code == 0 and best.subnet.id in result.output
    least = min(known, key=true_time)
    result = call(extract.run, folder, "--out", out, "--max-latency-ms", 1)
    assert result.exit_code == 1
    assert f"no subnet meets latency <= 1: the nearest is {least.id} with {true_time(least):.3g} ms" in result.output


def test_limits_of_the_recipe_leave_slow_subnets_out(fresh: Path, phone: Path, data: Path, tmp_path: Path) -> None:
    folder = copy_of(fresh, tmp_path / "exp")
    bound = 0.7 * true_time(Subnet())
    options = ("--set", f"search.limits.latency={bound}", "--set", "search.candidates=4", "--set", "search.kind=random")
    search(folder, data, "--latency", phone, *options)
    found = content(folder, "candidates")
    times = latencies([*found["candidates"], *found["stopped"]])
    assert len(times) == 4 and max(times.values()) <= bound
    result = call(search_command.run, folder, "--data", data, *options)
    assert result.exit_code == 1 and "search.limits.latency: latency needs the profile of a device" in result.output


def test_another_device_replaces_the_first(
    searched: Path, opened: Experiment, asked: list[Subnet], data: Path, tmp_path: Path
) -> None:
    folder = copy_of(searched, tmp_path / "exp")
    slow = {subnet: 3.0 * true_time(subnet) for subnet in asked}
    rows = [row(subnet, time) for subnet, time in noisy(slow, 0.05).items()]
    other = write_profile(tmp_path / "tablet.json", opened, rows, machine={"name": "tablet"})
    # By parameters, as without a device: a study of its own, of which the latency is no part.
    said = search(folder, data, "--latency", other)
    device = results_json(folder)["latency_device"]
    assert device["name"] == "tablet" and 0 < device["mean_error"] < device["largest_error"] < 20
    words = f"{device['left_out']} of them predicted from the others within {device['largest_error']:.1f} %"
    assert f"latency of the encoder on tablet (float, 1 thread, 10 s of audio): {len(asked)} subnets" in said
    assert words in said
    for subnet, latency in latencies(list(results_json(folder)["subnets"].values())).items():
        assert latency == pytest.approx(3.0 * true_time(subnet), rel=0.1)
    assert content(folder, "front")["cost"] == "params"
    # A search without a device neither shows latencies nor changes those recorded.
    before = results_json(folder)["latency_device"]
    search(folder, data)
    assert not [item for item in content(folder, "candidates")["candidates"] if "latency" in item["costs"]]
    assert results_json(folder)["latency_device"] == before


def test_the_plan_is_a_command_that_can_be_pasted(fresh: Path, opened: Experiment, asked: list[Subnet]) -> None:
    result = call(search_command.run, fresh, "--latency-plan")
    assert result.exit_code == 0
    words = shlex.split(result.output.replace("\\\n", " "))
    assert words[:4] == ["slimasr-export", str(fresh), "--out", "layers-latency"]
    assert words[4::2] == ["--subnet"] * len(asked)
    assert [opened.space.parse(name) for name in words[5::2]] == asked
    assert words[5] == "max"


def test_times_of_streams_are_those_of_their_chunks(
    fresh: Path, opened: Experiment, asked: list[Subnet], tmp_path: Path
) -> None:
    fed = {"carrier": "lstm", "chunk_frames": 16, "states": [[1, 1, 8]]}
    rows = [row(subnet, true_time(subnet)) for subnet in asked]
    whole = write_profile(tmp_path / "whole.json", opened, rows, streaming=None)
    assert device_latency(LatencyOptions(whole), opened).device.conditions == "phone (float, 1 thread, 10 s of audio)"
    path = write_profile(tmp_path / "phone.json", opened, rows, streaming=fed)
    device = device_latency(LatencyOptions(path), opened).device
    assert device.conditions == "phone (float, 1 thread, 10 s of audio in chunks of 16 frames)"
    # What is missing has to be fed in the same way.
    write_profile(path, opened, rows[:3], streaming=fed)
    result = call(search_command.run, fresh, "--latency-plan", "--latency", path)
    words = shlex.split(result.output.replace("\\\n", " "))
    assert words[4:8] == ["--streaming", "--chunk-frames", "16", "--subnet"]


def test_the_plan_leaves_out_what_is_profiled(
    fresh: Path, opened: Experiment, asked: list[Subnet], phone: Path, tmp_path: Path
) -> None:
    some = write_profile(tmp_path / "some.json", opened, [row(subnet, 1.0) for subnet in asked[:3]])
    result = call(search_command.run, fresh, "--latency-plan", "--latency", some)
    named = shlex.split(result.output.replace("\\\n", " "))[5::2]
    rest = [opened.space.parse(name) for name in named]
    assert rest and not set(rest) & set(asked[:3])
    result = call(search_command.run, fresh, "--latency-plan", "--latency", phone)
    assert result.output == f"{phone}: every choice of the search space is covered\n"


def failure(fresh: Path, *options: object) -> str:
    """The one line with which a search ends; without data, as the profile is read first."""
    result = call(search_command.run, fresh, "--data", "/nowhere", *options)
    assert result.exit_code == 1, result.output
    lines = [line for line in result.output.splitlines() if not line.startswith("note:")]
    assert len(lines) == 1, result.output
    return lines[0]


def test_a_profile_of_something_else_is_refused(
    fresh: Path, opened: Experiment, asked: list[Subnet], tmp_path: Path
) -> None:
    path = tmp_path / "phone.json"
    rows = [row(subnet, 2.0) for subnet in asked]

    def refused(*options: object) -> str:
        return failure(fresh, "--latency", path, *options)

    assert f"{path}: cannot be read (No such file or directory)" in refused()
    path.write_text("no json")
    assert "not valid JSON" in refused()
    path.write_text('{"format": "slimasr-bundle", "version": 1}')
    assert f"{path}: is not a profile of a device" in refused()
    write_profile(path, opened, rows, version=2)
    assert "a newer slimasr wrote" in refused()
    write_profile(path, opened, [])
    assert f"{path}: holds no subnet" in refused()
    write_profile(path, "0" * 64, rows)
    assert "profiles another model (made-up)" in refused()
    assert "profiles another model (made-up)" in refused("--latency-plan")
    write_profile(path, opened, [rows[0] | {"precision": "half"}])
    assert f"{path}: damaged, rows.0.precision" in refused()
    write_profile(path, opened, [rows[0] | {"subnet": {"depth": 3}}])
    assert "damaged, rows.0.subnet: unknown subnet key 'depth'" in refused()
    write_profile(path, opened, [{key: value for key, value in rows[0].items() if key != "encoder_ms"}])
    assert "damaged, rows.0.encoder_ms is missing" in refused()
    write_profile(path, opened, [row(asked[0], -1.0)])
    assert f"encoder_ms of {asked[0].id} needs to be a time above 0, not -1.0" in refused()
    write_profile(path, opened, [row(asked[0], None)])
    assert "holds no time of an encoder" in refused()
    write_profile(path, opened, [row(Subnet(0.5), 2.0)])
    assert "holds no subnet of the search space" in refused()


def test_what_a_profile_does_not_cover_is_named(
    fresh: Path, opened: Experiment, asked: list[Subnet], tmp_path: Path
) -> None:
    smallest = [subnet for subnet in asked if ".ffn1" not in subnet.to_json()]
    path = write_profile(tmp_path / "phone.json", opened, [row(subnet, 2.0) for subnet in smallest])
    line = failure(fresh, "--latency", path)
    assert f"{path}: does not cover the search space: ffn1 16 at width 1;" in line
    assert f"slimasr-search {fresh} --latency {path} --latency-plan" in line


def test_rows_are_chosen_by_precision_and_threads(
    fresh: Path, opened: Experiment, asked: list[Subnet], data: Path, tmp_path: Path
) -> None:
    factors = {("float", 2): 2.0, ("float", 4): 1.0, ("int8", 1): 3.0}
    rows = [row(s, factor * true_time(s), *kind) for s in asked for kind, factor in factors.items()]
    path = write_profile(tmp_path / "phone.json", opened, rows)
    line = failure(fresh, "--latency", path, "--latency-threads", 3)
    assert "holds no times of float on 3 threads, only float on 2 threads, float on 4 threads, int8 on 1 thread" in line
    in_int8 = Job(fresh, data, ("search.kind=random", "search.int8=true")).experiment()
    for options, experiment, expected in (
        (LatencyOptions(path), opened, ("float", 2)),
        (LatencyOptions(path, threads=4), opened, ("float", 4)),
        (LatencyOptions(path, "int8"), opened, ("int8", 1)),
        (LatencyOptions(path), in_int8, ("int8", 1)),
        (LatencyOptions(path, "float"), in_int8, ("float", 2)),
    ):
        found = device_latency(options, experiment)
        assert (found.device.precision, found.device.threads) == expected
        time = factors[expected] * true_time(opened.space.max)
        assert found.costs(opened.space.max) == {"latency": pytest.approx(time)}
    write_profile(path, opened, [row(subnet, true_time(subnet), "int8") for subnet in asked])
    assert "holds no times of float, only int8" in failure(fresh, "--latency", path, "--latency-precision", "float")


def test_the_user_is_told_of_rows_without_use_and_of_inexact_predictions(
    opened: Experiment, asked: list[Subnet], tmp_path: Path
) -> None:
    rows = [row(subnet, true_time(subnet)) for subnet in asked]
    path = write_profile(tmp_path / "phone.json", opened, [*rows, row(Subnet(0.5), 1.0)])
    (note,) = device_latency(LatencyOptions(path), opened).notes
    assert f"1 of {len(rows) + 1} rows are of subnets outside of the search space" in note
    noise = noisy({subnet: true_time(subnet) for subnet in asked}, 0.6)
    path = write_profile(tmp_path / "busy.json", opened, [row(subnet, time) for subnet, time in noise.items()])
    (note,) = device_latency(LatencyOptions(path), opened).notes
    assert "predictions are inexact; profile again while the device does nothing else" in note


def test_options_that_need_a_profile_say_so(fresh: Path) -> None:
    needed = "needs the profile of a device: name it by --latency PROFILE"
    assert f"search.cost: latency {needed}" in failure(fresh, "--set", "search.cost=latency")
    assert f"--max-latency-ms {needed}" in failure(fresh, "--max-latency-ms", 40)
    assert "--latency-threads: chooses rows of a profile" in failure(fresh, "--latency-threads", 1)
    assert "--latency-precision: chooses rows" in failure(fresh, "--latency-precision", "int8")
    assert "--latency-precision half: choose one of float, int8" in failure(
        fresh, "--latency", "phone.json", "--latency-precision", "half"
    )
