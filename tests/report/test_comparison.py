"""The paired bootstrap against that of `slimasr.scoring`, and what pooling seeds does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from slimasr.errors import UserError
from slimasr.report.collect import collect
from slimasr.report.comparison.rates import difference_in_words
from slimasr.report.results_md import render_results
from slimasr.scoring import compare, icefall, score
from slimasr.scoring.icefall import read_recogs
from slimasr.scoring.wer import PHONEME
from tests.report import made_up
from tests.report.made_up import decode, hypotheses, scored, write_experiment


def test_one_seed_agrees_with_scoring(tmp_path: Path) -> None:
    joint = write_experiment(tmp_path / "joint", {1.0: 0.1, 0.5: 0.2})
    alone = write_experiment(tmp_path / "alone", {0.5: 0.3}, separate_of=0.5)
    study = collect([joint, alone], "made up", tmp_path).study
    found = study.compare(("slimmable", "w0.5"), ("separate", "w0.5"))
    assert found is not None
    assert found.sets == ("dev", "test")
    pooled = [
        [u for name in found.sets for u in read_recogs(folder / "decode" / subnet / name / "recogs")]
        for folder, subnet in ((alone, "w1"), (joint, "w0.5"))
    ]
    reference = compare(*pooled)
    assert found.wer_a == pytest.approx(reference.wer2)
    assert found.wer_b == pytest.approx(reference.wer1)
    assert found.delta == pytest.approx(reference.difference)
    assert (found.low, found.high) == pytest.approx(reference.ci95, abs=0.3)


def test_seeds_are_paired_and_pooled(tmp_path: Path) -> None:
    folders = [write_experiment(tmp_path / f"joint{seed}", {1.0: 0.1}, seed=seed) for seed in (1, 2, 3)]
    folders += [write_experiment(tmp_path / f"alone{seed}", {1.0: 0.2}, separate_of=1.0, seed=seed) for seed in (1, 2)]
    found = collect(folders, "made up", tmp_path).study.compare(("slimmable", "w1"), ("separate", "w1"))
    assert found is not None
    assert found.seeds == (1, 2)
    words = sum(len(u.ref) for name in ("dev", "test") for u in _read(folders[0], "w1", name))
    assert found.words == 2 * words


def test_without_hypotheses_systems_count_as_independent(tmp_path: Path) -> None:
    joint = write_experiment(tmp_path / "joint", {1.0: 0.1})
    alone = write_experiment(tmp_path / "alone", {1.0: 0.3}, separate_of=1.0)
    paired = collect([joint, alone], "made up", tmp_path).study.comparisons[0]
    for recogs in alone.glob("decode/*/*/recogs"):
        recogs.unlink()
    study = collect([joint, alone], "made up", tmp_path).study
    (found,) = study.comparisons
    assert paired.paired and not found.paired and str(found).endswith("(unpaired)")
    assert (found.wer_a, found.wer_b, found.delta) == pytest.approx((paired.wer_a, paired.wer_b, paired.delta))
    assert (found.words, found.sets, found.seeds) == (paired.words, paired.sets, paired.seeds)
    # Two independent sets of two independent systems: variances add up, each weighted by its words.
    wers = [run.subnets[0].wer[name] for run in study.runs for name in ("dev", "test")]
    half = sum(((w.high - w.low) / 2 * w.units) ** 2 for w in wers) ** 0.5 / found.words
    assert (found.low, found.high) == pytest.approx((found.delta - half, found.delta + half))


def test_undecoded_systems_are_not_compared(tmp_path: Path) -> None:
    joint = write_experiment(tmp_path / "joint", {1.0: 0.1})
    alone = write_experiment(tmp_path / "alone", {1.0: 0.3}, separate_of=1.0)
    results = json.loads((alone / "results.json").read_text())
    for record in results["subnets"].values():
        record["wer"] = {}
    (alone / "results.json").write_text(json.dumps(results))
    assert collect([joint, alone], "made up", tmp_path).study.comparisons == ()


def test_systems_decoded_by_different_searches_are_not_compared(tmp_path: Path) -> None:
    folders = [
        write_experiment(tmp_path / "joint", {1.0: 0.1, 0.5: 0.2}),
        write_experiment(tmp_path / "alone", {0.5: 0.3}, separate_of=0.5),
    ]
    before, study_before = collect(folders, "made up", tmp_path)
    utterances, other = hypotheses("test", 0.2, 1), "greedy, at most 3 per frame"
    decode(folders[0], "w0.5", "test", utterances, other)
    results = json.loads((folders[0] / "results.json").read_text())
    results["subnets"]["w0.5"]["wer"]["test"] = scored(utterances, other)
    (folders[0] / "results.json").write_text(json.dumps(results))
    report, study = collect(folders, "made up", tmp_path)
    against = study.compare(("slimmable", "w0.5"), ("separate", "w0.5"))
    assert against is not None and against.sets == ("dev",)
    assert "decoded by different searches are not compared" in render_results(study, "results.json")
    assert "different searches" not in render_results(study_before, "results.json")
    # Nor independently, nor as they were compared when they were decoded alike.
    data = report.to_dict()
    for entry in (s for run in data["experiments"].values() for s in run["subnets"].values()):
        for scored_set in entry["wer"].values():
            del scored_set["errors_by_utterance"]
    file = tmp_path / "both.json"
    file.write_text(json.dumps(data | {"comparisons": before.to_dict()["comparisons"]}))
    again = collect([file], "made up", tmp_path).study.compare(("slimmable", "w0.5"), ("separate", "w0.5"))
    assert again is not None and again.sets == ("dev",) and not again.paired


def _read(folder: Path, subnet: str, set_name: str) -> list:
    return read_recogs(folder / "decode" / subnet / set_name / "recogs")


def test_one_utterance_is_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(made_up.SETS, "dev", 1)
    monkeypatch.delitem(made_up.SETS, "test")
    joint = write_experiment(tmp_path / "joint", {1.0: 0.1})
    alone = write_experiment(tmp_path / "alone", {1.0: 0.9}, separate_of=1.0)
    study = collect([joint, alone], "made up", tmp_path).study
    assert [run.subnets[0].wer["dev"].interval for run in study.runs] == [None, None]
    assert study.comparisons == ()


def in_phonemes(folder: Path, subnet: str, rate: float) -> Path:
    """Let a made-up experiment have been recognised in phonemes too, which stand for half a word here."""
    record = json.loads((folder / "results.json").read_text())
    entry = record["subnets"][subnet]
    entry["per"] = {}
    for name in entry["wer"]:
        found = [
            replace(u, ref=(*u.ref, *u.ref), hyp=(*u.hyp, *v.hyp))
            for u, v in zip(hypotheses(name, rate, 7), hypotheses(name, rate, 8), strict=True)
        ]
        (folder / "decode" / subnet / name / "recogs_phone").write_text(icefall.recogs(found))
        result = score(found, replications=100, unit=PHONEME)
        entry["per"][name] = result.per_entry().to_dict() | {"checkpoint": "final", "decoding": "greedy"}
    (folder / "results.json").write_text(json.dumps(record))
    return folder


def test_phoneme_errors_are_compared_beside_word_errors(tmp_path: Path) -> None:
    joint = in_phonemes(write_experiment(tmp_path / "joint", {1.0: 0.1}), "w1", 0.05)
    alone = in_phonemes(write_experiment(tmp_path / "alone", {1.0: 0.3}, separate_of=1.0), "w1", 0.12)
    report, study = collect([joint, alone], "made up", tmp_path)
    (found,) = study.comparisons
    pooled = [
        [u for name in found.sets for u in read_recogs(folder / "decode" / "w1" / name / "recogs_phone")]
        for folder in (alone, joint)
    ]
    reference = compare(*pooled)
    assert found.per is not None and reference.ci95 is not None
    assert (found.per.per_a, found.per.per_b) == pytest.approx((reference.wer2, reference.wer1))
    assert (found.per.low, found.per.high) == pytest.approx(reference.ci95, abs=0.3)
    assert report.comparisons[0].per is not None and report.comparisons[0].per.phonemes == 2 * found.words
    text = render_results(study, "results.json")
    (row,) = (line for line in text.splitlines() if line.startswith("| slimmable | w1 | "))
    assert str(found.per) in row and str(found) in row
    wer, per = (study.runs[0].subnets[0].wer["test"], study.runs[0].subnets[0].per["test"])
    assert f"| {wer} | {per} |" in text and "test PER %" in text
    assert difference_in_words(found, "a", "b").endswith(f"difference {found.per}")
    # Without the errors of one of them on every utterance, only words are compared.
    (alone / "decode" / "w1" / "dev" / "recogs_phone").unlink()
    (without,) = collect([joint, alone], "made up", tmp_path).study.comparisons
    assert without.per is None and without.delta == found.delta


def test_phonemes_of_other_weights_than_those_scored_are_refused(tmp_path: Path) -> None:
    folder = in_phonemes(write_experiment(tmp_path / "joint", {1.0: 0.1}), "w1", 0.05)
    path = folder / "decode" / "w1" / "test" / "recogs_phone"
    path.write_text(icefall.recogs([replace(u, ref=(*u.ref, *u.ref), hyp=()) for u in hypotheses("test", 0.1, 1)]))
    with pytest.raises(UserError, match="test: not the hypotheses that were scored"):
        collect([folder], "made up", tmp_path)
