"""Perturbed test sets in reports: a table of their own, and no word in anything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slimasr.claims import PAPERS, claims_of
from slimasr.errors import UserError
from slimasr.report.collect import collect
from slimasr.report.results_md import all_tables
from slimasr.report.tables.robustness import robustness_table
from slimasr.report.write import shown_set
from slimasr.results.perturbed import Perturbation, is_perturbed, perturbed_name, read_perturbation, split_name
from tests.report.made_up import decode, hypotheses, scored, write_experiment


def test_names_are_read_as_they_are_written() -> None:
    asked = read_perturbation("noise=10, gain=-20,telephone,reverb")
    assert asked == Perturbation(gain=-20.0, noise=10.0, reverb=0.5, telephone=True)
    assert perturbed_name("test-fr", asked) == "test-fr@gain=-20,noise=10,reverb=0.5,telephone"
    assert split_name("test-fr@gain=-20,noise=10,reverb=0.5,telephone") == ("test-fr", str(asked))
    assert read_perturbation(str(asked)) == asked
    assert is_perturbed("dev+test@gain=0")
    for name in ("test", "dev+test", "a@b", "noise@folder", "test@gain", "@"):
        assert not is_perturbed(name)
        assert split_name(name) == (name, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing: give parts such as gain=-20"),
        ("volume=3", "volume=3: give parts such as"),
        ("gain=1,gain=2", "gain=2: give parts such as .* each once"),
        ("gain", "gain: needs a number from -100 to 100"),
        ("noise=loud", "noise=loud: needs a number from -100 to 100"),
        ("reverb=9", "reverb=9: needs a number from 0.05 to 5"),
        ("telephone=gsm", "telephone=gsm: takes no number"),
    ],
)
def test_other_texts_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_perturbation(text)


def test_perturbed_sets_have_one_table_and_change_no_other(tmp_path: Path) -> None:
    joint = write_experiment(tmp_path / "exp" / "slimmable", {1.0: 0.08, 0.5: 0.12})
    alone = write_experiment(tmp_path / "exp" / "separate", {0.5: 0.1}, separate_of=0.5)
    before, study = collect([joint, alone], "made up", tmp_path, PAPERS)
    assert not robustness_table(study).rows
    for exp, subnet in ((joint, "w1"), (joint, "w0.5"), (alone, "w1")):
        results = json.loads((exp / "results.json").read_text())
        for text, rate in (("gain=6", 0.1), ("gain=-30", 0.5), ("gain=-30,noise=10", 0.6), ("noise=10", 0.3)):
            heard = hypotheses("test", rate, 1)
            decode(exp, subnet, f"test@{text}", heard)
            results["subnets"][subnet]["wer"][f"test@{text}"] = scored(heard)
        (exp / "results.json").write_text(json.dumps(results))
    after, perturbed = collect([joint, alone], "made up", tmp_path, PAPERS)
    assert after.comparisons == before.comparisons
    assert after.utterances == before.utterances
    assert claims_of(perturbed).findings == claims_of(study).findings
    assert shown_set(perturbed) == "test"
    *_, table = tables = [table for table in all_tables(perturbed) if table not in all_tables(study)]
    assert [found.title for found in tables] == ["Robustness"]
    assert table.columns == (
        *("experiment", "subnet", "set", "as recorded"),
        *("noise=10", "gain=6", "gain=-30", "gain=-30,noise=10"),
    )
    assert [row[:3] for row in table.rows] == [
        ("slimmable", "w1", "test"),
        ("slimmable", "w0.5", "test"),
        ("separate", "w0.5", "test"),
    ]
    entry = after.experiments["slimmable"].subnets["w1"].wer["test@gain=-30"]
    assert table.rows[0][6].startswith(f"{entry.wer:.2f} [")
    assert table.rows[0][3].startswith(f"{after.experiments['slimmable'].subnets['w1'].wer['test'].wer:.2f} [")
