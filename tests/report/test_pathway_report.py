"""Reports on made-up models with pathways: comparisons by language, masks, charts, claims, and what files keep."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from slimasr.claims import PAPERS, claims_of
from slimasr.errors import UserError
from slimasr.models.mask_files import FINAL
from slimasr.report.collect import collect
from slimasr.report.comparison.languages import languages_of, on_tests
from slimasr.report.comparison.pairs import Pair, Part, separate_pairs
from slimasr.report.comparison.pooled import compare_parts
from slimasr.report.findings import Verdict
from slimasr.report.pictures.masks import mask_pictures
from slimasr.report.records import Study, read_study
from slimasr.report.results_md import render_results
from slimasr.report.write import write_report
from slimasr.results.report import Report as ReportFile
from slimasr.scoring.icefall import read_recogs
from tests.report.made_up_pathways import (
    LANGUAGES,
    LTH,
    NUMBER,
    TWO,
    changed,
    random_masks,
    recipe,
    utterances,
    write,
    write_paper,
)
from tests.report.page import Page


class Made:
    """A report and all it came from."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders = {path.name: path for path in write_paper(root / "exp")}
        self.report, self.study = collect(list(self.folders.values()), "made up", root, PAPERS)
        self.claims = claims_of(self.study)
        self.data: dict[str, Any] = json.loads(json.dumps(self.report.to_dict()))

    def runs(self, *names: str) -> Study:
        """A study of some of the runs."""
        return replace(self.study, runs=tuple(run for run in self.study.runs if run.name in names))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("pathways"))


def test_roles_follow_from_configurations_and_from_who_found_the_masks(made: Made) -> None:
    roles = {run.name: run.role for run in made.study.runs}
    assert roles == {
        "dense": "dense, en+fr+it",
        **{f"small_{name}": f"small dense, {name}" for name in LANGUAGES},
        **{f"lth_{name}": f"LTH-70, {name}" for name in LANGUAGES},
        **{f"lth_adaptive_{name}": f"LTH-70 adaptive, {name}" for name in LANGUAGES},
        "lap": "LAP-70, en+fr+it",
        "pathways_2": "ASR Pathways LTH-70, fr+it",
        "pathways_3": "ASR Pathways LTH-70, en+fr+it",
        "dynamic_2": "Dynamic LTH-50, fr+it",
        "dynamic_3": "Dynamic LTH-50, en+fr+it",
        "dynamic_lap": "Dynamic LAP-70, fr+it",
        "dynamic_n500": "Dynamic LTH-50, fr+it, n 500",
    }
    assert {run.name for run in made.study.runs if run.is_main} == {"dynamic_2", "dynamic_3"}


def errors_of(folder: Path, subnet: str, set_name: str, language: str) -> tuple[list[int], list[int]]:
    """Wrong words and words of every utterance of a language; hypotheses have as many words as references."""
    found = sorted(read_recogs(folder / "decode" / subnet / set_name / "recogs"), key=lambda utterance: utterance.id)
    own = [utterance for utterance in found if utterance.id.startswith(language)]
    wrong = [sum(a != b for a, b in zip(each.ref, each.hyp, strict=True)) for each in own]
    return wrong, [len(each.ref) for each in own]


def test_languages_are_pooled_with_the_subnet_of_each(made: Made) -> None:
    found = made.study.compare(("LTH-70 adaptive", "en+fr+it"), ("ASR Pathways LTH-70, en+fr+it", "en+fr+it"))
    assert found is not None and found.sets == tuple(f"test-{name}" for name in LANGUAGES)
    ours, theirs, words = [], [], []
    for name in LANGUAGES:
        first, units = errors_of(made.folders[f"lth_adaptive_{name}"], name, f"test-{name}", name)
        second, _ = errors_of(made.folders["pathways_3"], name, f"test-{name}", name)
        ours, theirs, words = ours + first, theirs + second, words + units
    assert len(words) == NUMBER * len(LANGUAGES) and found.words == sum(words)
    assert (found.wer_a, found.wer_b) == pytest.approx([100 * sum(each) / sum(words) for each in (ours, theirs)])
    # Resampled here over all utterances together, with another generator.
    draws = np.random.default_rng(7).integers(len(words), size=(20_000, len(words)))
    delta = np.array(ours) - np.array(theirs)
    resampled = 100 * delta[draws].sum(axis=1) / np.array(words)[draws].sum(axis=1)
    assert (found.low, found.high) == pytest.approx(np.percentile(resampled, [2.5, 97.5]), abs=0.2)


def test_parts_of_sets_of_several_languages_are_compared(made: Made, tmp_path: Path) -> None:
    """A test set that joins languages, of which a pathway has recognised its own part only."""
    folders = [made.folders["pathways_2"], made.folders["dynamic_2"]]
    study = collect(folders, "made up", tmp_path, PAPERS).study
    joined = "dev-fr+dev-it"
    # Renamed so that it counts as a test set.
    runs = []
    for run in study.runs:
        subnets = []
        for record in run.subnets:
            by_language = {"joined": record.by_language[joined]}
            subnets.append(replace(record, wer={"joined": record.wer[joined]}, by_language=by_language))
        runs.append(replace(run, subnets=tuple(subnets)))
    renamed = {name.replace(joined, "joined"): units for name, units in study.utterances.items()}
    study = replace(study, runs=tuple(runs), utterances=renamed)
    roles = ("ASR Pathways LTH-70, fr+it", "Dynamic LTH-50, fr+it")
    parts = tuple(Part((roles[0], name), (roles[1], name), name) for name in TWO)
    found = compare_parts(study, Pair(("a", "fr+it"), ("b", "fr+it"), parts=parts))
    assert (
        found is not None
        and found.sets == ("joined",)
        and found.words == sum(sum(errors_of(folders[0], name, joined, name)[1]) for name in TWO)
    )
    # A subnet for another language has nothing of this one.
    wrong = Pair(("a", "fr"), ("b", "fr"), parts=(Part((roles[0], "it"), (roles[1], "fr"), "fr"),))
    assert compare_parts(study, wrong) is None


def test_only_common_seeds_and_equal_searches_are_compared(made: Made) -> None:
    pair = Pair(("a", "fr"), ("b", "fr"), parts=(Part(("LTH-70, fr", "fr"), ("LTH-70 adaptive, fr", "fr"), "fr"),))
    study = made.runs("lth_fr", "lth_adaptive_fr")
    assert compare_parts(study, pair) is not None
    first, second = study.runs
    assert compare_parts(replace(study, runs=(replace(first, seed=2), second)), pair) is None
    subnet = second.subnets[0]
    other = {name: replace(rate, decoding="beam") for name, rate in subnet.wer.items()}
    parts = {name: {"fr": replace(rates["fr"], decoding="beam")} for name, rates in subnet.by_language.items()}
    searched = replace(second, subnets=(replace(subnet, wer=other, by_language=parts),))
    assert compare_parts(replace(study, runs=(first, searched)), pair) is None


def test_names_of_sets_say_their_language() -> None:
    assert languages_of(["dev-en+dev-fr", "test-fr", "test"]) == ("en", "fr")


def test_dense_models_of_one_language_need_no_parts(made: Made) -> None:
    run = next(run for run in made.study.runs if run.name == "small_fr")
    assert not run.subnets[0].by_language
    assert list(on_tests(run.subnets[0], "fr")) == ["test-fr"] and on_tests(run.subnets[0], "en") == {}


def test_pathways_meet_no_separate_models(made: Made) -> None:
    assert not list(separate_pairs(made.study.runs))


def test_claims_say_what_was_made_up(made: Made) -> None:
    verdicts = {finding.claim: finding.verdict for finding in made.claims.findings}
    assert list(verdicts) == [f"C5.{number}" for number in range(1, 10)]
    # 5 against 15 % of the words; in Italian 10 against 40 %; two thirds of the kept blocks are common.
    assert verdicts["C5.1"] is Verdict.HELD and verdicts["C5.4"] is Verdict.NOT_TESTED
    assert verdicts["C5.9"] is Verdict.HELD and verdicts["C5.8"] is Verdict.NOT_HELD
    assert "3 % of the second system's WER" in made.claims.reading


def test_adapted_masks_are_compared_with_those_that_stayed(made: Made) -> None:
    """A third of the kept blocks of every matrix has moved, of masks that keep 30 %."""
    pairs = {(item.a.experiment, item.b.experiment, item.a.pathway): item for item in made.study.mask_overlaps}
    wanted = {(f"lth_adaptive_{name}", f"lth_{name}", name) for name in LANGUAGES}
    for run, languages in (("dynamic_2", TWO), ("dynamic_lap", TWO), ("dynamic_n500", TWO), ("dynamic_3", LANGUAGES)):
        wanted |= {(run, f"lth_{name}", name) for name in languages}
    assert pairs.keys() == wanted
    before = np.concatenate([mask.flatten() for mask in random_masks(["fr"], 1)["fr"].values()])
    after = np.concatenate([mask.flatten() for mask in changed(random_masks(["fr"], 1), 0.33)["fr"].values()])
    found = pairs["lth_adaptive_fr", "lth_fr", "fr"]
    assert found.entries == pytest.approx((before == after).mean(), abs=1e-6)
    assert found.kept == pytest.approx((before & after).sum() / before.sum(), abs=1e-6)


def test_files_keep_everything(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    made.report.save(path)
    again = collect([path], "made up", made.root, PAPERS)
    assert again.report == made.report and again.study == made.study
    assert render_results(read_study(ReportFile.load(path)), "results.json") == render_results(
        made.study, "results.json"
    )
    # A folder takes the place of its run, whose masks are then known anew.
    merged = collect([path, made.folders["lth_adaptive_fr"]], "made up", made.root, PAPERS)
    lost = {("lth_adaptive_fr", "lth_fr")}
    names = [{(item.a.experiment, item.b.experiment) for item in each.study.mask_overlaps} for each in (made, merged)]
    assert names[0] - names[1] == lost
    assert set(merged.report.comparisons) == set(made.report.comparisons)


def test_tables_show_what_was_recorded(made: Made) -> None:
    text = render_results(made.study, "results.json", made.claims)
    masks = made.data["experiments"]["dynamic_2"]["masks"]
    assert f"| dynamic_2 | fr+it | 70 | {masks['union']:.3f} | {masks['union_all']:.3f} | 80 (70 %) |" in text
    (overlap,) = masks["overlaps"]
    shares = f"{100 * overlap['entries']:.1f} | {100 * overlap['kept']:.1f}"
    assert f"| dynamic_2: fr | dynamic_2: it | {shares} |" in text
    assert "| dynamic_2: fr | its start, lth_fr at 50 % | 88.0 | 80.0 |" in text
    assert "| dynamic_2 | fr | 4 | 10.00 | 3.50 | 1.00 | 10.00 |" in text
    assert "## Paper 5, table 2, fr and it" in text and "## Supernets against separate models" not in text


def test_charts_have_every_run_under_one_name(made: Made) -> None:
    wer, sparsity, adaptations = mask_pictures(made.study)
    assert [picture.name for picture in (wer, sparsity, adaptations)] == ["languages", "sparsity", "adaptations"]
    by_language = {chart.title[:2]: {s.name: s for s in chart.panels[0].series} for chart in wer.charts}
    assert list(by_language) == list(LANGUAGES)
    assert by_language["en"].keys() == {
        *("dense, en+fr+it", "small dense", "LTH-70", "LTH-70 adaptive", "LAP-70, en+fr+it"),
        *("ASR Pathways LTH-70, en+fr+it", "Dynamic LTH-50, en+fr+it"),
    }
    log = [json.loads(line) for line in (made.folders["lap"] / "train_log.jsonl").read_text().splitlines()]
    drawn = [(point.x, point.y) for point in by_language["it"]["LAP-70, en+fr+it"].points]
    assert drawn == [(line["step"], pytest.approx(line["dev"]["all/it/wer"], abs=1e-4)) for line in log]
    styles = [{name: (s.color, s.line) for name, s in by_language[language].items()} for language in TWO]
    assert styles[0] == styles[1] and len(set(styles[0].values())) == len(styles[0])
    drawn = [(s.name, [(p.x, pytest.approx(p.y)) for p in s.points]) for s in sparsity.charts[0].panels[0].series]
    assert drawn == [
        ("LTH-70, en and 6 more", [(0, 0), (80, 0), (80, 20), (160, 20), (160, 50), (240, 50), (240, 70), (1000, 70)]),
        ("ASR Pathways LTH-70, fr+it and 2 more", [(0, 70), (1000, 70)]),
        ("Dynamic LTH-50, fr+it and 2 more", [(0, 50), (80, 50), (80, 70), (1000, 70)]),
    ]
    lines = {s.name: [point.y for point in s.points] for s in adaptations.charts[0].panels[0].series}
    assert lines["Dynamic LTH-50, fr+it: it"] == pytest.approx([10, 4, 3, 1])
    assert lines["LTH-70 adaptive, en"] == pytest.approx([10, 5, 2])


def test_the_page_and_its_pictures(made: Made, tmp_path: Path) -> None:
    study = made.runs("lth_fr", "lth_it", "pathways_2", "dynamic_2")
    written = write_report(study, tmp_path / "report.html", claims_of(study))
    pictures = [path for path in written if path.suffix == ".png"]
    names = ("pathways", "languages", "sparsity", "adaptations")
    assert [path.name for path in pictures] == [f"report-{name}.png" for name in names]
    assert all(matplotlib.image.imread(path).std() > 0.01 for path in pictures)
    page = Page(written[0].read_text(encoding="utf-8"))
    titles = [figure["layout"]["xaxis"]["title"]["text"] for figure in page.figures]
    assert titles == ["stored bytes, packed (MB)", "all training steps", "all minutes of training (min)", *["step"] * 4]
    assert page.fetched == []


def test_sets_and_files_of_masks_that_do_not_fit_are_errors(tmp_path: Path) -> None:
    folder = write(tmp_path / "lth_fr", recipe(["fr"], LTH), {"fr": 0.1}, masks=random_masks(["fr"], 1))
    (folder / FINAL).write_bytes(b"no masks")
    with pytest.raises(UserError, match=r"lth_fr/masks/final.pt: damaged"):
        collect([folder], "made up", tmp_path, PAPERS)
    (folder / FINAL).unlink()
    assert collect([folder], "made up", tmp_path, PAPERS).report.mask_overlaps == ()
    recogs = folder / "decode" / "fr" / "test-fr" / "recogs"
    other = utterances("test-fr", "fr", 0.9, "again")
    recogs.write_text("".join(f"{u.id}:\tref={list(u.ref)}\n{u.id}:\thyp={list(u.hyp)}\n" for u in other))
    with pytest.raises(UserError, match="not the hypotheses that were scored"):
        collect([folder], "made up", tmp_path, PAPERS)
