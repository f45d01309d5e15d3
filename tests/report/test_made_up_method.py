"""A report on a method that slimasr has never heard of: names, tables, pictures, intervals, comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import matplotlib.image
import pytest
import yaml

from slimasr.claims import PAPERS, claims_of
from slimasr.config.load import parse_config
from slimasr.config.schema import Config
from slimasr.config.section import Section
from slimasr.report import collect as collecting
from slimasr.report.collect import collect
from slimasr.report.records import Study
from slimasr.report.results_md import render_results
from slimasr.report.write import write_report
from slimasr.scoring import compare
from slimasr.scoring.icefall import read_recogs
from tests.report.made_up_todm import SPACE, write_separate, write_todm
from tests.report.page import Page

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")


class UniformConfig(Section):
    """Subnets drawn uniformly in every step."""

    kind: Literal["uniform"] = "uniform"
    num_random: int = 2


def understood(tree: Mapping[str, Any]) -> Config:
    """A configuration whose method may be the made-up one."""
    if tree["method"]["kind"] != "uniform":
        return parse_config(dict(tree))
    known = parse_config({**tree, "method": {"kind": "todm"}})
    return known.model_copy(update={"method": UniformConfig(**tree["method"])})


@pytest.fixture(autouse=True)
def made_up_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "parse_config", understood)
    monkeypatch.setattr(
        collecting, "load_config", lambda path: understood(yaml.safe_load(path.read_text(encoding="utf-8")))
    )


def write_uniform(folder: Path, num_random: int, harm: float = 0.0) -> Path:
    """A searched supernet of the made-up method."""
    write_todm(folder, harm=harm, kwh=0.5)
    config = folder / "config.yaml"
    tree = yaml.safe_load(config.read_text(encoding="utf-8"))
    tree["method"] = {"kind": "uniform", "num_random": num_random}
    config.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return folder


MEDIUM = SPACE.from_genes({"width": 1.0, "depth": 6, **{f"{layer}.ffn": 192 for layer in range(8)}})
SEPARATE = {"large": (SPACE.max, 0.06), "medium": (MEDIUM, 0.02), "small": (SPACE.min, 0.02)}


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    written = [write_uniform(tmp_path / "two", 2), write_uniform(tmp_path / "four", 4, harm=0.02)]
    for name, (subnet, harm) in SEPARATE.items():
        written.append(write_separate(tmp_path / name, subnet, harm=harm, kwh=0.5))
    return written


def test_roles_are_the_method_and_what_differs(folders: list[Path], tmp_path: Path) -> None:
    for papers in ((), PAPERS):
        study = collect(folders, "made up", tmp_path, papers).study
        roles = [run.role for run in study.runs]
        assert roles == ["uniform", "uniform, num random 4", "separate", "separate", "separate"]


def test_every_supernet_is_compared_with_the_separate_models_of_its_subnets(
    folders: list[Path], tmp_path: Path
) -> None:
    study = collect(folders, "made up", tmp_path).study
    for folder, role in zip(folders, ("uniform", "uniform, num random 4"), strict=False):
        found = {c.b[1]: c for c in study.comparisons if c.a[0] == role}
        assert found.keys() == {subnet.id for subnet, _ in SEPARATE.values()}
        assert {c.b[0] for c in found.values()} == {"separate"}
        assert found[SPACE.max.id].sets == found[SPACE.min.id].sets == ("dev", "test")
        assert found[MEDIUM.id].sets == ("test",)
        for name, (subnet, _) in SEPARATE.items():
            check_interval(study, tmp_path / name, folder, found[subnet.id].a[1], (role, subnet.id))


def check_interval(study: Study, alone: Path, joint: Path, chosen: str, system: tuple[str, str]) -> None:
    """The interval of a comparison is that of `slimasr.scoring` on the hypotheses."""
    role, subnet = system
    comparison = study.compare((role, chosen), ("separate", subnet))
    assert comparison is not None and comparison.paired
    both = [
        [u for name in comparison.sets for u in read_recogs(folder / "decode" / decoded / name / "recogs")]
        for folder, decoded in ((alone, "w1"), (joint, chosen))
    ]
    reference = compare(*both)
    assert comparison.delta == pytest.approx(reference.difference)
    assert (comparison.low, comparison.high) == pytest.approx(reference.ci95, abs=0.4)


def test_tables_and_pictures_show_it(folders: list[Path], tmp_path: Path) -> None:
    study = collect(folders, "made up", tmp_path).study
    text = render_results(study, "results.json")
    against = text.partition("## Supernets against separate models")[2].partition("\n## ")[0]
    rows = [line for line in against.splitlines() if line.startswith("| uniform")]
    assert len(rows) == 2 * len(SEPARATE)
    for comparison in study.comparisons:
        assert sum(str(comparison) in row and comparison.a[1] in row for row in rows) == 1
    assert "6 layers, FFN 192" in against
    assert "| uniform, num random 4 | evolution |" in text
    written = {path.name: path for path in write_report(study, tmp_path / "report.html")}
    wanted = ("wer-params", "search-params", "search-int8_bytes", "architectures", "models", "energy", "training")
    for name in wanted:
        assert matplotlib.image.imread(written[f"report-{name}.png"]).std() > 0.01
    page = Page(written["report.html"].read_text(encoding="utf-8"))
    assert page.fetched == []
    names = {trace["name"] for figure in page.figures for trace in figure["data"]}
    assert {"uniform", "uniform, num random 4", "separate models"} <= names


def test_no_paper_claims_anything_of_it(folders: list[Path], tmp_path: Path) -> None:
    study = collect(folders, "made up", tmp_path, PAPERS).study
    claims = claims_of(study)
    assert (claims.findings, [table for table in claims.tables if table.rows]) == ((), [])
    text = render_results(study, "results.json", claims)
    assert "## Claims" not in text and "not tested" not in text
