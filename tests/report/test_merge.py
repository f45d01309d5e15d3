"""Reports on experiments whose folders are elsewhere: files of earlier reports, and folders beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimasr.claims import PAPERS
from slimasr.errors import UserError
from slimasr.report.collect import collect
from slimasr.results.report import Report
from slimasr.scoring import align
from slimasr.scoring.icefall import read_recogs
from tests.report.made_up import decode, hypotheses, write_experiment

SYSTEMS = (("w0.5", ("separate", "w0.5")), ("w1", ("slimmable", "w0.5")))


def write_report_file(path: Path, report: Report) -> Path:
    report.save(path)
    return path


def without_errors(report: Report) -> Report:
    """As a file was written before it held the errors of every utterance."""
    data = report.to_dict()
    for entry in data["experiments"].values():
        for record in entry["subnets"].values():
            for scored in record["wer"].values():
                del scored["errors_by_utterance"]
    return Report.model_validate({key: value for key, value in data.items() if key != "utterances"})


def test_a_file_stands_for_its_folders(tmp_path: Path) -> None:
    joint = write_experiment(tmp_path / "joint", {1.0: 0.1, 0.5: 0.2})
    alone = write_experiment(tmp_path / "alone", {0.5: 0.3}, separate_of=0.5)
    whole = collect([joint, alone], "made up", tmp_path).report
    first = write_report_file(tmp_path / "first.json", collect([joint], "made up", tmp_path).report)
    assert collect([first, alone], "made up", tmp_path).report == whole
    assert collect([write_report_file(tmp_path / "whole.json", whole)], "made up", tmp_path).report == whole


def test_errors_are_those_of_the_hypotheses(tmp_path: Path) -> None:
    joint = write_experiment(tmp_path / "joint", {1.0: 0.2})
    study = collect([joint], "made up", tmp_path).study
    for name, words in study.utterances.items():
        found = sorted(read_recogs(joint / "decode" / "w1" / name / "recogs"), key=lambda u: u.id)
        assert words == {u.id: len(u.ref) for u in found}
        assert study.runs[0].subnets[0].wer[name].by_utterance == tuple(align(u).counts().errors for u in found)


DECODED_AGAIN = r"joint/decode/w1/test: not the hypotheses that were scored: run stage 7 \(slimasr-score\)"


def test_hypotheses_that_were_not_scored_are_an_error(tmp_path: Path) -> None:
    joint, scored = write_experiment(tmp_path / "joint", {1.0: 0.2}), hypotheses("test", 0.2, 1)
    decode(joint, "w1", "test", hypotheses("test", 0.3, 1))
    with pytest.raises(UserError, match=DECODED_AGAIN):
        collect([joint], "made up", tmp_path)
    decode(joint, "w1", "test", scored, "greedy, at most 3 per frame")
    with pytest.raises(UserError, match=DECODED_AGAIN):
        collect([joint], "made up", tmp_path)
    how = joint / "decode/w1/test/decode.json"
    how.write_text(how.read_text().replace("3 per", "1 per").replace("final", "best"))
    with pytest.raises(UserError, match=DECODED_AGAIN):
        collect([joint], "made up", tmp_path)
    decode(joint, "w1", "test", scored)
    assert collect([joint], "made up", tmp_path)


def test_a_folder_takes_the_place_of_its_name(tmp_path: Path) -> None:
    old = write_experiment(tmp_path / "old" / "joint", {1.0: 0.1})
    file = write_report_file(tmp_path / "old.json", collect([old], "made up", tmp_path).report)
    new = write_experiment(tmp_path / "new" / "joint", {1.0: 0.4})
    merged, alone = (collect(paths, "made up", tmp_path) for paths in ([file, new], [new]))
    assert merged == alone


def test_comparisons_that_cannot_be_made_again_stay(tmp_path: Path) -> None:
    joint = write_experiment(tmp_path / "joint", {1.0: 0.1, 0.5: 0.2})
    alone = write_experiment(tmp_path / "alone", {0.5: 0.3}, separate_of=0.5)
    whole = collect([joint, alone], "made up", tmp_path, PAPERS).report
    file = write_report_file(tmp_path / "old.json", without_errors(whole))
    assert collect([file], "made up", tmp_path, PAPERS).report.comparisons == whole.comparisons
    # One of the two sides is another one now: the old difference says nothing about it.
    again = write_experiment(tmp_path / "again" / "alone", {0.5: 0.1}, separate_of=0.5)
    study = collect([file, again], "made up", tmp_path, PAPERS).study
    against, neighbours = (study.compare(("slimmable", a), b) for a, b in SYSTEMS)
    assert against is not None and not against.paired and against.delta > 0
    assert neighbours is not None and neighbours.paired


def test_sets_that_differ_are_an_error(tmp_path: Path) -> None:
    joint = write_experiment(tmp_path / "joint", {1.0: 0.1})
    alone = write_experiment(tmp_path / "alone", {1.0: 0.3}, separate_of=1.0)
    recogs = alone / "decode" / "w1" / "test" / "recogs"
    recogs.write_text("".join(recogs.read_text().splitlines(keepends=True)[2:]))
    with pytest.raises(UserError, match=r"alone: its set test is not that of the other experiments \(1 entries differ"):
        collect([joint, alone], "made up", tmp_path)


@pytest.mark.parametrize(("content", "reason"), [("{", "not valid JSON"), ("{}", "not a file that slimasr-report")])
def test_other_files_are_an_error(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(UserError, match=f"other.json: {reason}"):
        collect([path], "made up", tmp_path)


@pytest.mark.parametrize(("separate_of", "what"), [(None, "slimmable"), (0.5, "separate w0.5")])
def test_two_runs_of_one_model_and_seed_are_an_error(tmp_path: Path, separate_of: float | None, what: str) -> None:
    made = {name: write_experiment(tmp_path / name, {0.5: 0.2}, separate_of=separate_of) for name in ("a", "b")}
    with pytest.raises(UserError, match=f"^a and b both stand for {what}, seed 1: report on them apart$"):
        collect([*made.values()], "made up", tmp_path)
    file = write_report_file(tmp_path / "first.json", collect([made["a"]], "made up", tmp_path).report)
    with pytest.raises(UserError, match=f"^a and b both stand for {what}, seed 1"):
        collect([file, made["b"]], "made up", tmp_path)
    others = [write_experiment(tmp_path / "c", {0.5: 0.2}, separate_of=separate_of, seed=2)]
    others += [write_experiment(tmp_path / "d", {0.25: 0.2}, separate_of=0.25)] if separate_of else []
    assert len(collect([made["a"], *others], "made up", tmp_path).report.experiments) == 1 + len(others)
