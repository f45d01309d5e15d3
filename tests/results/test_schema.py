"""Result files: what is read is written again, what is unknown is kept, and what is damaged is named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slimasr.claims import claims_of
from slimasr.errors import UserError
from slimasr.report.findings import NO_CLAIMS
from slimasr.report.records import read_study
from slimasr.report.results_md import render_results
from slimasr.results.decoded import Decoded
from slimasr.results.entry import VERSION, Entry, File
from slimasr.results.report import Report
from slimasr.results.schema import EnergyEntry, Results, SubnetEntry, WerEntry
from slimasr.results.search import Candidates, FoundEntry, Front, Summary
from slimasr.results.store import change_results, read_results, update_results
from slimasr.scoring import Utterance, score
from slimasr.scoring.characters import in_characters
from slimasr.scoring.wer import CHARACTER
from slimasr.supernet.front import Measurement
from slimasr.supernet.subnet import Subnet
from tests.results.kit import results_json, scored

ROOT = Path(__file__).parents[2]
COMMITTED = sorted((ROOT / "egs").glob("*/results*.json"))
WITHOUT_CLAIMS = {"results_finetune_an4", "results_finetune_fsdd", "results_robustness"}
"""They compare starts and levels, which no paper makes a claim about."""
KINDS = (Results, Front, Candidates, Summary, Decoded, Report)


def undeclared(entry: Entry) -> Iterator[str]:
    """The keys of an entry and of all below it that its schema does not know."""
    yield from entry.model_extra or {}
    for name in type(entry).model_fields:
        value = getattr(entry, name)
        below = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
        for item in below:
            if isinstance(item, Entry):
                yield from undeclared(item)


def all_entries(kind: type[Entry] = Entry) -> Iterator[type[Entry]]:
    for below in kind.__subclasses__():
        yield below
        yield from all_entries(below)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_committed_reports_are_read_whole_and_render_as_committed(path: Path, tmp_path: Path) -> None:
    """Their oldest was written before reports held configurations, utterances and layers; most hold no version."""
    report = Report.load(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content.pop("version", VERSION) == VERSION
    assert report.to_dict() == content
    assert list(undeclared(report)) == []
    page = path.with_name(path.name.replace("results", "RESULTS")).with_suffix(".md")
    study = read_study(report)
    claims = NO_CLAIMS if path.stem in WITHOUT_CLAIMS else claims_of(study)
    text = render_results(study, path.name, claims)
    assert text == page.read_text(encoding="utf-8"), "tools/results_md.py writes the committed pages again"

    report.save(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text(encoding="utf-8")) == {"version": VERSION, **content}
    assert Report.load(tmp_path / "again.json") == report


def test_there_are_committed_reports_of_old_and_new_forms() -> None:
    with_configs = {
        all("config" in run for run in json.loads(p.read_text())["experiments"].values()) for p in COMMITTED
    }
    assert with_configs == {True, False}


def test_whole_numbers_stay_whole_and_keys_keep_their_names(tmp_path: Path) -> None:
    costs = {"params": 12, "macs": 2.5}
    subnet = Subnet(1.0, (0, 2), (("2.ffn", 8),))
    wer = score([Utterance("a", ("x", "y"), ("x",))]).wer_entry().measured("final", "greedy", None)
    update_results(tmp_path, Results(subnets={subnet.id: SubnetEntry(subnet=subnet, costs=costs, wer={"dev": wer})}))
    entry = results_json(tmp_path)["subnets"][subnet.id]
    assert entry["subnet"] == {"width": 1.0, "path": [0, 2], "units": {"2.ffn": 8}}
    assert json.dumps(entry["costs"]) == json.dumps(costs)
    assert entry["wer"]["dev"] == {
        **{"wer": 50.0, "errors": 1, "words": 2, "ins": 0, "del": 1, "sub": 0, "ser": 100.0, "sentences": 1},
        **{"ci95": None, "checkpoint": "final", "decoding": "greedy", "data": None},
    }
    assert read_results(tmp_path).subnets[subnet.id].subnet == subnet


def test_character_errors_have_keys_of_their_own() -> None:
    result = score([in_characters(Utterance("a", ("XY",), ("X",)))], unit=CHARACTER)
    entry = result.cer_entry()
    assert {key: entry.to_dict()[key] for key in ("cer", "errors", "characters")} == {
        **{"cer": 50.0, "errors": 1, "characters": 2}
    }
    assert list(undeclared(entry)) == []


def test_a_measurement_is_the_same_when_it_is_read() -> None:
    found = Measurement(Subnet(0.5), 12.5, None, {"params": 3, "rtf": 0.01})
    entry = FoundEntry.model_validate(json.loads(json.dumps(FoundEntry.of(found).to_dict())))
    assert entry.measurement() == found
    assert entry.id == "w0.5"


def test_unknown_keys_survive_a_change(tmp_path: Path) -> None:
    """A newer version may have written them."""
    energy = {"kwh": None, "cpu_seconds": 1.0, "gpu_seconds": 0.0, "wall_seconds": 2.0, "source": "x", "water": 3}
    wer = {**scored(), "mood": "good"}
    content: dict[str, Any] = {
        "planet": {"name": "Earth", "moons": [1]},
        "energy": {"train": energy},
        "subnets": {"w0.5": {"subnet": {"width": 0.5}, "colour": "red", "wer": {"test": wer}}},
    }
    (tmp_path / "results.json").write_text(json.dumps(content))
    dev = WerEntry.model_validate(scored(2))
    changes = Results(epochs=3, subnets={"w0.5": SubnetEntry(subnet=Subnet(0.5), wer={"dev": dev})})
    update_results(tmp_path, changes)
    change_results(tmp_path, lambda results: results.model_copy(update={"steps": 7}))
    expected = {"version": VERSION, "epochs": 3, "steps": 7, **content}
    expected["subnets"]["w0.5"]["wer"]["dev"] = scored(2)
    assert results_json(tmp_path) == expected


def test_what_is_not_changed_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"seed":   7}')
    assert change_results(tmp_path, lambda results: results).seed == 7
    assert path.read_text() == '{"seed":   7}'
    assert Results.read(tmp_path / "elsewhere") is None


def test_the_version_comes_first(tmp_path: Path) -> None:
    update_results(tmp_path, Results(name="x"))
    assert list(results_json(tmp_path)) == ["version", "name"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_newer_layout_is_refused(kind: type[File], tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps({"version": VERSION + 1, "what": "ever"}))
    with pytest.raises(UserError, match=rf"^{path}: has the layout of version {VERSION + 1}, .*: update slimasr$"):
        kind.load(path)
    path.write_text('{"version": "one"}')
    with pytest.raises(UserError, match=rf"^{path}: damaged, version needs to be a whole number; "):
        kind.load(path)


def of_subnet(**values: Any) -> dict[str, Any]:
    return {"subnets": {"w0.5": {"subnet": {"width": 0.5}, **values}}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"subnets": 3}, "subnets needs to be a mapping"),
        ({"subnets": {"w1": 3}}, "subnets.w1 needs to be a mapping"),
        ({"subnets": {"w1": {}}}, "subnets.w1.subnet is missing"),
        ({"subnets": {"w1": {"subnet": 3}}}, "subnets.w1.subnet needs to be a mapping"),
        ({"subnets": {"w1": {"subnet": {"wide": 1}}}}, "subnets.w1.subnet: unknown subnet key 'wide'; known: width"),
        (of_subnet(costs={"params": "many"}), "subnets.w0.5.costs.params needs to be a number"),
        (of_subnet(costs={"params": True}), "subnets.w0.5.costs.params needs to be a number"),
        (of_subnet(wer={"dev": {**scored(), "errors": 1.5}}), "subnets.w0.5.wer.dev.errors needs to be a whole number"),
        (of_subnet(wer={"dev": {**scored(), "del": "one"}}), "subnets.w0.5.wer.dev.del needs to be a whole number"),
        (of_subnet(wer={"dev": {**scored(), "ci95": [1.0]}}), "subnets.w0.5.wer.dev.ci95.1 is missing"),
        (of_subnet(wer={"dev": {**scored(), "ci95": 1.0}}), "subnets.w0.5.wer.dev.ci95 needs to be a list"),
        (of_subnet(search={"wer": 1.0}), "subnets.w0.5.search.dev_loss is missing"),
        ({"separate_of": 0.5}, "separate_of needs to be a text"),
        ({"seed": "7"}, "seed needs to be a whole number"),
        ({"energy": {"train": {}}}, "energy.train.kwh is missing"),
    ],
)
def test_a_damaged_value_names_its_key(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError) as raised:
        read_results(tmp_path)
    error = str(raised.value)
    assert error.startswith(f"{path}: damaged, {message}")
    assert error.endswith("; restore it, or remove it and run stages 4 to 7 again")
    assert "\n" not in error


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (Front, {"set": "dev", "cost": "params", "front": [{"id": "w1"}]}, "front.0.subnet is missing; run stage 5"),
        (Candidates, {"set": "dev", "cost": "params", "candidates": 7}, "candidates needs to be a list; run stage 5"),
        (Summary, {"generator": "nsga2"}, "candidates is missing; remove it and run stage 5"),
        (Decoded, {"subnet": {}, "checkpoint": 1, "decoding": ""}, "checkpoint needs to be a text; run stage 6"),
        (
            Report,
            {"recipe": "x", "experiments": {"a": {}}},
            "experiments.a.dir is missing; is that a file",
        ),
    ],
)
def test_every_kind_of_file_says_what_to_do(
    kind: type[File], content: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError) as raised:
        kind.load(path)
    assert str(raised.value).startswith(f"{path}: damaged, {message}")


def test_energy_grows_without_loss() -> None:
    entry = EnergyEntry(kwh=None, cpu_seconds=1, gpu_seconds=0, wall_seconds=2, source="no readable meter")
    assert EnergyEntry.model_validate(entry.to_dict()) == entry


def test_every_field_is_described() -> None:
    for kind in all_entries():
        assert kind.__doc__, kind
        for name, field in kind.model_fields.items():
            assert field.description and field.description.endswith("."), f"{kind.__name__}.{name}"


def test_the_page_shows_the_schema() -> None:
    script = ROOT / "tools" / "results_doc.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for kind in all_entries():
        for name, field in kind.model_fields.items():
            assert f"| `{field.serialization_alias or name}` |" in page, f"{kind.__name__}.{name}"


def test_no_torch_is_needed() -> None:
    code = (
        "import sys, slimasr.results.store, slimasr.results.report, slimasr.results.decoded, slimasr.scoring.folder;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
