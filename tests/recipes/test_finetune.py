"""The comparison of fine-tuning with training from scratch: equal budgets, and starts that fit."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path

import pytest

from slimasr.config.load import load_config
from slimasr.config.schema import Config
from slimasr.methods import resolve_config
from slimasr.models.prefix import subnet_of_size
from slimasr.supernet.subnet import Subnet
from tests.recipes.conftest import EGS
from tests.recipes.test_compare import calls, scripts

OWN = EGS / "own"


def value_of(call: list[str], option: str) -> str:
    return call[call.index(option) + 1]


def overrides(call: list[str]) -> list[str]:
    return [text for option, text in itertools.pairwise(call) if option == "--set"]


def config_of(call: list[str]) -> Config:
    """The configuration that is trained."""
    return resolve_config(load_config(OWN / value_of(call, "--config"), overrides(call)))[0]


@pytest.mark.parametrize(("last", "corpora"), [("1", ["an4"]), ("2", ["an4", "fsdd"])])
def test_both_have_the_same_budget_and_differ_in_their_start_alone(
    tmp_path: Path, last: str, corpora: list[str]
) -> None:
    found = calls(scripts(tmp_path, "own"), "compare_finetune.sh", "--last-wave", last, "--nj", "3")
    trained = {value_of(call, "--exp"): call for call in found if "--exp" in call}
    reports = [call for call in found if call[0] == "slimasr-report"]
    assert len(reports) == len(corpora)
    for corpus, report in zip(corpora, reports, strict=True):
        assert value_of(report, "--results-md") == f"RESULTS_finetune_{corpus}.md"
        compared = report[1 : report.index("--title")]
        assert len(compared) == 6
        for epochs in (5, 10, 20):
            scratch, finetuned = (trained[f"exp/{corpus}_{kind}_{epochs}"] for kind in ("scratch", "finetuned"))
            assert {value_of(scratch, "--exp"), value_of(finetuned, "--exp")} <= set(compared)
            assert value_of(scratch, "--data") == value_of(finetuned, "--data") == f"data_{corpus}"
            assert value_of(scratch, "--nj") == "3"
            plain, begun = config_of(scratch), config_of(finetuned)
            assert begun.training.num_epochs == epochs
            assert plain.training.init is None
            assert begun.training.init is not None
            assert plain == begun.model_copy(update={"training": begun.training.model_copy(update={"init": None})})
            # The start has been trained before, and a part of the model has its sizes.
            start = trained[str(begun.training.init.from_)]
            assert found.index(start) < found.index(finetuned)
            before = config_of(start)
            assert before.features == begun.features
            assert before.data.sampling_rate == begun.data.sampling_rate
            assert subnet_of_size(begun.model, before.model) == Subnet()
            if begun.training.init.tokenizer == "keep":
                assert before.tokenizer == begun.tokenizer


def test_a_data_folder_for_all_corpora_is_refused(tmp_path: Path) -> None:
    script = scripts(tmp_path, "own") / "compare_finetune.sh"
    # The programs that scripts() has made
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([script, "--data", "all"], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "each corpus has a data folder of its own; leave --data out" in done.stderr
