"""Reports of made-up supernets whose training chose subnets: budgets, phonemes, what is kept, figures of masks."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from slimasr.claims import PAPERS, claims_of
from slimasr.report.collect import collect
from slimasr.report.comparison.pairs import matches
from slimasr.report.findings import Verdict
from slimasr.report.pictures.draw_html import heat_maps_html
from slimasr.report.pictures.draw_png import heat_maps_figure
from slimasr.report.pictures.drawings import architecture_drawings
from slimasr.report.pictures.remaining import remaining_maps
from slimasr.report.pictures.states import state_pictures
from slimasr.report.results_md import render_results
from slimasr.report.write import write_report
from slimasr.supernet.subnet import Subnet
from tests.report.made_up import study_of
from tests.report.made_up_masks import LAYERS, SIZES, chosen, learnt, mask_recipe, write_alone, write_masks, write_paper
from tests.report.page import Page

MAIN = "OrthoSoftmax macs component"


class Report:
    """A written report and all it came from."""

    def __init__(self, root: Path) -> None:
        report, self.study = collect(write_paper(root / "exp"), "made up", root, PAPERS)
        self.data: dict[str, Any] = json.loads(json.dumps(report.to_dict()))
        self.claims = claims_of(self.study)
        self.written = write_report(self.study, root / "report.html", self.claims)
        self.text = render_results(self.study, "results.json", self.claims)
        self.html = (root / "report.html").read_text(encoding="utf-8")
        self.logs = {path.name: path / "train_log.jsonl" for path in (root / "exp").iterdir()}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return Report(tmp_path_factory.mktemp("masks"))


def test_subnets_meet_the_separate_models_and_exits_have_their_depths(report: Report) -> None:
    found = {(c.a, c.b[1]): c.sets for c in report.study.comparisons if c.b[0] == "separate"}
    budgets = [("w1", "w1"), ("4 blocks", "w1-l4"), ("2 blocks", "w1-l2")]
    exits = [("w1", "w1"), ("w1-l4-exit4", "w1-l4"), ("w1-l2-exit2", "w1-l2")]
    wanted = {((MAIN, a), b) for a, b in budgets} | {(("OrthoSoftmax params layer", a), b) for a, b in budgets}
    assert found.keys() == wanted | {(("Aux-Loss", a), b) for a, b in exits}
    assert set(found.values()) == {("dev", "test")}
    assert all(comparison.per is not None for comparison in report.study.comparisons)
    claims = {finding.claim: finding.verdict for finding in report.claims.findings}
    assert list(claims) == [f"C4.{number}" for number in range(1, 9)]
    # An exit of two blocks errs in 40 % of the words, and one of four in 12 %.
    assert claims["C4.3"] is Verdict.HELD and claims["C4.5"] is Verdict.NOT_TESTED


def test_tables_name_budgets_heads_and_phoneme_errors(report: Report) -> None:
    run = next(run for run in report.study.runs if run.name == "main")
    for record in run.subnets:
        (row,) = (line for line in report.text.splitlines() if line.startswith(f"| main | {record.name} |"))
        assert f"| {record.wer['test']} | {record.per['test']} |" in row
        heads = [layer["heads"] for layer in record.architecture if layer]
        assert f"heads {sum(heads) / LAYERS:.1f}" in row
    assert [record.name for record in run.subnets] == ["w1", "4 blocks", "2 blocks"]


def test_seeds_are_pooled_by_budget_although_their_subnets_differ(tmp_path: Path) -> None:
    rates = {"max": 0.05, "2 blocks": 0.1}
    folders = [write_masks(tmp_path / f"seed{seed}", mask_recipe(), rates) for seed in (1, 2)]
    folders += [write_alone(tmp_path / f"alone{seed}", 2, 0.2) for seed in (1, 2)]
    for folder in folders[1::2]:
        text = (folder / "results.json").read_text().replace('"seed": 1', '"seed": 2')
        # Another choice has another id.
        text = text.replace(learnt([2])[1].subnet.id, "w1-other-2_blocks")
        (folder / "results.json").write_text(text)
    record = folders[1] / "subnets.json"
    record.write_text(record.read_text().replace(learnt([2])[1].subnet.id, "w1-other-2_blocks"))
    decoded = folders[1] / "decode"
    (decoded / learnt([2])[1].subnet.id).rename(decoded / "w1-other-2_blocks")
    study = collect(folders, "made up", tmp_path, PAPERS).study
    found = study.compare((MAIN, "2 blocks"), ("separate", "w1-l2"))
    assert found is not None and found.seeds == (1, 2)


def test_other_budgets_meet_the_model_that_costs_as_much(report: Report) -> None:
    main = next(run for run in report.study.runs if run.name == "main")
    models = [run for run in report.study.runs if run.is_separate]

    def partners(share: str, cost: float) -> list[tuple[str, str | None]]:
        subnets = []
        for record in main.subnets:
            name = share if record.name == "4 blocks" else "0.1"
            entry = record.learnt and record.learnt.model_copy(update={"name": name})
            costs = {**record.costs, "macs": cost if record.name == "4 blocks" else record.costs["macs"]}
            subnets.append(replace(record, learnt=entry, costs=costs))
        found = matches(replace(main, subnets=tuple(subnets)), models)
        return [(match.subnet.name, match.model.separate_of) for match in found]

    four = next(model.largest.costs["macs"] for model in models if model.separate_of == "w1-l4")
    assert ("0.7", "w1-l4") in partners("0.7", 1.04 * four)
    assert "w1-l4" not in {model for _, model in partners("0.7", 1.06 * four)}


def test_maps_show_the_share_of_every_module_in_both_renderings(report: Report) -> None:
    (maps,) = remaining_maps(report.study, "test")
    assert [row.title for row in maps.rows] == [MAIN, "OrthoSoftmax params layer"]
    modules = tuple(report.study.runs[0].largest.architecture[0] or ())
    pictures = iter(heat_maps_html(maps).split("<figure>")[1:])
    for row, granularity in zip(maps.rows, ("component", "layer"), strict=True):
        for each, blocks in zip(row.maps, (4, 2), strict=True):
            _, groups = chosen(blocks, granularity)
            kept = {
                (layer, module): sum(g.stop - g.start for g in groups if (g.layer, g.module) == (layer, module))
                for layer in range(LAYERS)
                for module in modules
            }
            wanted = [[round(100 * kept[n, module] / SIZES[module]) for module in modules] for n in range(LAYERS)]
            said = re.findall(r"block (\d+), (\w+): (\d+) %", next(pictures))
            assert [(int(n) - 1, m, int(p)) for n, m, p in said] == [
                (n, module, wanted[n][column]) for n in range(LAYERS) for column, module in enumerate(modules)
            ]
            assert each.lines[0] == f"{blocks} blocks"
    # The texts in the cells of the file, from the bottom; darker where more is kept.
    drawn = [each for each in heat_maps_figure(maps).axes if each.get_visible()]
    for each, picture in zip([m for row in maps.rows for m in row.maps], drawn, strict=True):
        shown = [round(100 * (share or 0.0)) for row in each.cells for share in row]
        assert [int(text.get_text()) for text in picture.texts] == shown
        lightness = [sum(patch.get_facecolor()[:3]) for patch in picture.patches]
        order = sorted(range(len(shown)), key=lambda k: shown[k])
        assert [lightness[k] for k in order] == sorted(lightness, reverse=True)


def test_figures_of_masks_are_drawn_as_they_were_logged(report: Report) -> None:
    (picture,) = state_pictures(report.study)
    assert {chart.title.partition(": ")[0] for chart in picture.charts} == {MAIN}
    log = [json.loads(line) for line in report.logs["main"].read_text().splitlines()]
    charts = {chart.y.title: {s.name: s.points for s in chart.panels[0].series} for chart in picture.charts}
    assert charts.keys() == {
        *("temperature", "orthogonality", "cost", "k", "undecided", "off identity", "duplicates", "lambda"),
    }
    for name in ("4 blocks", "2 blocks"):
        for figure, key, group in (("undecided", "undecided", "method"), ("lambda", "lambda", "train")):
            wanted = [(e["epoch"], e[group][f"{name}/{key}"]) for e in log if f"{name}/{key}" in e[group]]
            assert [(p.x, p.y) for p in charts[figure][name]] == [(x, pytest.approx(y, abs=1e-4)) for x, y in wanted]
    assert [point.y for point in charts["temperature"]["all subnets"]] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])


def test_the_page_and_its_pictures(report: Report) -> None:
    assert Page(report.html).fetched == []
    pictures = {path.name: path for path in report.written if path.suffix == ".png"}
    assert {"report-remaining.png", "report-method.png", "report-training.png"} <= pictures.keys()
    assert all(matplotlib.image.imread(path).std() > 0.01 for path in pictures.values())
    assert "Remaining ratio in %; WER on test" in report.html
    titles = [figure["layout"]["yaxis"]["title"]["text"] for figure in Page(report.html).figures]
    assert "dev PER (%)" in titles and "dev WER (%)" not in titles and "undecided" in titles


def test_index_sets_are_read_back_from_the_report(report: Report) -> None:
    subnet, _ = chosen(2, head="2 blocks")
    entry = report.data["experiments"]["main"]["subnets"][subnet.id]
    assert Subnet.from_dict(entry["subnet"]) == subnet
    names = [item["name"] for item in report.data["experiments"]["main"]["learnt"]]
    assert names == ["max", "4 blocks", "2 blocks"]


def test_a_subnet_of_two_budgets_has_the_name_of_the_larger_one(report: Report) -> None:
    """Without outputs of their own, budgets that are nearer than a group may have become one subnet."""
    data = json.loads(json.dumps(report.data))
    entry = data["experiments"]["main"]
    large, small = entry["learnt"][1:]
    del entry["subnets"][small["id"]]
    small["id"] = large["id"]
    run = study_of({**data, "experiments": {"main": entry}, "comparisons": []}).runs[0]
    assert [record.name for record in run.subnets] == ["w1", "4 blocks"]


def test_strips_have_a_bar_for_every_module_that_varies(report: Report) -> None:
    (main, *_) = report.study.runs
    front = frozenset(record.id for record in main.subnets)
    (drawing,) = architecture_drawings(replace(report.study, runs=(replace(main, front=front),)), "test")
    assert "from left to right ffn1, heads, ffn2" in drawing.note
    assert "channels or heads of 4. Dropped" in drawing.note
    _, groups = chosen(4)
    heads = [sum(g.module == "heads" and g.layer == layer for g in groups) for layer in range(LAYERS)]
    bars = [bar for bar in drawing.strips[1].bars if "heads:" in bar.hover]
    assert [bar.length / bar.full_length for bar in bars] == [number / 4 for number in heads]
    assert len(drawing.strips[1].bars) == 3 * LAYERS
