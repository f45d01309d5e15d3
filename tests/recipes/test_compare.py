"""The scripts that make all results of a recipe, with programs that show what they were called with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from slimasr.config.load import load_config
from slimasr.config.schema import Config
from slimasr.supernet.build import build_space
from slimasr.supernet.subnet import Subnet
from tests.recipes.conftest import EGS

SHOW = '#!/bin/bash\nprintf \'%s\\n\' "$(basename "$0")" "$@" \'\'\n'


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return scripts(tmp_path, "an4")


def scripts(tmp_path: Path, corpus: str) -> Path:
    """The scripts of a recipe, where run.sh and every command print their arguments, line by line."""
    folder = tmp_path / "egs" / corpus
    folder.mkdir(parents=True)
    shutil.copytree(EGS.parent / "tools", tmp_path / "tools")
    for script in (EGS / corpus).glob("*.sh"):
        shutil.copy(script, folder)
    for name in ("slimasr", "slimasr-search", "slimasr-align", "slimasr-decode", "slimasr-report", "run.sh"):
        program = (folder if name == "run.sh" else tmp_path) / name
        program.write_text(SHOW)
        program.chmod(0o755)
    return folder


def calls(recipe: Path, script: str, *options: str) -> list[list[str]]:
    """Program and arguments of each call."""
    environment = {**os.environ, "PATH": f"{recipe.parents[1]}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([recipe / script, *options], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [call.splitlines() for call in done.stdout.strip().split("\n\n")]


@pytest.mark.parametrize(
    ("script", "command"),
    [
        ("compare.sh", "slimasr-search"),
        ("compare_todm.sh", "slimasr-align"),
        ("compare_collaborative.sh", "slimasr-align"),
        ("compare_orthosoftmax.sh", "slimasr-decode"),
    ],
)
@pytest.mark.parametrize(
    ("options", "data"),
    [(["--data", "some where"], "some where"), (["--data=some where"], "some where"), (["--nj", "1"], "data")],
)
def test_commands_read_the_data_that_run_sh_makes(
    recipe: Path, script: str, command: str, options: list[str], data: str
) -> None:
    made = calls(recipe, script, *options)
    (arguments,) = [call for call in made if call[0] == command]
    assert arguments[arguments.index("--data") + 1] == data
    runs = [" ".join(call) for call in made if call[0] == "run.sh"]
    assert all(f" {' '.join(options)} --scales" in call or call.endswith(" ".join(options)) for call in runs)


def test_separate_models_are_of_subnets_of_the_space(recipe: Path) -> None:
    made = calls(recipe, "compare_todm.sh")
    settings = [argument for call in made for argument in call if argument.startswith("method.subnet=")]
    chosen = [load_config(EGS / "an4" / "conf" / "todm_separate.yaml", [setting]) for setting in settings]
    subnets = [build_space(config).parse(config.method.subnet) for config in chosen]
    assert [subnet.path and len(subnet.path) for subnet in subnets] == [None, 6, 4]
    assert json.loads(settings[1].partition("=")[2])["path"] == list(range(6))
    assert subnets[1] == Subnet(1.0, tuple(range(6)), tuple((f"{layer}.ffn", 192) for layer in range(6)))


def trained(made: list[list[str]], corpus: str = "an4") -> dict[str, Config]:
    """Experiment -> its configuration; subnets of separate models are in their spaces."""
    found = {}
    for call in made:
        if "--config" in call and "--exp" in call:
            settings = [call[place + 1] for place, argument in enumerate(call) if argument == "--set"]
            config = load_config(EGS / corpus / call[call.index("--config") + 1], settings)
            found[call[call.index("--exp") + 1]] = config
            if config.method.kind == "separate":
                build_space(config).parse(config.method.subnet)
    return found


def reported(made: list[list[str]]) -> list[str]:
    """The experiments of the report."""
    (report,) = [call for call in made if call[0] == "slimasr-report"]
    return [argument for argument in report[1:] if argument.startswith("exp/")]


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_waves_of_paper_3_are_of_presets_and_branches_that_exist(recipe: Path, jobs: str) -> None:
    made = calls(recipe, "compare_collaborative.sh", "--jobs", jobs, "--last-wave", "6")
    found, experiments = trained(made), reported(made)
    assert found.keys() == {"exp/aligner", *experiments} and len(experiments) == len(set(experiments)) == 24
    assert found["exp/collaborative_three_0.3"].loss.auxiliary.teaching_weight == 0.3


def test_waves_of_paper_4_are_all_presets_and_a_second_seed(recipe: Path) -> None:
    made = calls(recipe, "compare_orthosoftmax.sh", "--last-wave", "5")
    found, experiments = trained(made), reported(made)
    assert found.keys() == {*experiments} and len(experiments) == len(set(experiments))
    names = {path.stem for path in EGS.glob("an4/conf/orthosoftmax*.yaml")} - {"orthosoftmax_separate"}
    depths = {f"orthosoftmax_separate_l{depth}" for depth in (6, 4, 2)}
    seeds = {f"{name}_seed1" for name in depths | {"orthosoftmax", "orthosoftmax_exits"}}
    assert {*experiments} == {f"exp/{name}" for name in names | depths | seeds}
    separate = {name: config.method.subnet for name, config in found.items() if config.method.kind == "separate"}
    space = build_space(found["exp/orthosoftmax_separate_l6"])
    assert {name: len(space.parse(text).path or range(6)) for name, text in separate.items()} == {
        f"exp/orthosoftmax_separate_l{depth}{seed}": depth for depth in (6, 4, 2) for seed in ("", "_seed1")
    }


def test_all_models_of_paper_4_are_decoded_with_the_scales_of_the_largest(recipe: Path) -> None:
    made = calls(recipe, "compare_orthosoftmax.sh")
    (tuning,) = [place for place, call in enumerate(made) if call[0] == "slimasr-decode"]
    largest = "exp/orthosoftmax_separate_l6"
    assert made[tuning][1:] == [largest, "--data", "data", "--tune", "dev"]
    assert made[tuning - 1][-2:] == ["--exp", largest]
    own, *others = [call for call in made[tuning:] if call[0] == "run.sh"]
    assert largest in own and "--scales" not in own
    assert others and all(call[-2:] == ["--scales", largest] for call in others)


def test_an_earlier_wave_ends_with_the_report(recipe: Path) -> None:
    made = calls(recipe, "compare_collaborative.sh", "--last-wave", "1")
    assert [call[0] for call in made] == ["run.sh", "run.sh", "slimasr-align", *["run.sh"] * 5, "slimasr-report"]
    assert [argument for argument in made[-1] if argument.startswith("exp/")] == [
        *(f"exp/collaborative_separate_l{depth}" for depth in (10, 7, 5, 4)),
        "exp/collaborative",
    ]


@pytest.mark.parametrize(
    "script", ["compare.sh", "compare_todm.sh", "compare_collaborative.sh", "compare_orthosoftmax.sh"]
)
def test_results_are_written_with_the_claims_of_the_papers(recipe: Path, script: str) -> None:
    (arguments,) = [call for call in calls(recipe, script) if call[0] == "slimasr-report"]
    assert {"--json", "--results-md", "--claims"} <= {*arguments}
