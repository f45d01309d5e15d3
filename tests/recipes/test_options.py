"""The shared option parser and the stages' names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recipes.conftest import EGS, Run

CORPORA = ("digits", "an4", "librispeech", "tedlium2", "multilingual", "mls")
RECIPES = (*CORPORA, "own")


@pytest.mark.parametrize("name", RECIPES)
def test_help_lists_stages_and_options(recipe: Run, name: str) -> None:
    done = recipe(name, "--help")
    assert done.returncode == 0, done.stderr
    for stage in (
        "0 corpus",
        "1 prepare",
        "2 features",
        "3 bpe",
        "4 train",
        "5 search",
        "6 decode",
        "7 score",
    ):
        assert f"  {stage}" in done.stdout
    for option in ("--stage", "--stop-stage", "--config", "--data", "--exp", "--set", "--nj"):
        assert option in done.stdout
    assert ("--corpus-dir" in done.stdout) == (name in CORPORA)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--no-such", "1"], "unknown option --no-such"),
        (["--stage"], "--stage needs a value"),
        (["--stage", "two"], "'two' is not a number"),
        (["--corpus", "fsdd"], "--corpus fsdd: must be one of: an4"),
        (["--config", "conf/none.yaml"], "--config conf/none.yaml: no such file"),
    ],
)
def test_wrong_options_are_named(recipe: Run, options: list[str], message: str) -> None:
    done = recipe("an4", *options)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("stage", "maker"),
    [(2, "stage 1"), (3, "stage 1"), (4, "stage 3"), (5, "stage 4"), (6, "stage 4"), (7, "stage 6")],
)
def test_a_missing_input_names_the_stage_that_makes_it(recipe: Run, tmp_path: Path, stage: int, maker: str) -> None:
    options = ("--stop-stage", stage, "--data", tmp_path / "data", "--exp", tmp_path / "exp")
    done = recipe("an4", "--stage", stage, *options)
    assert done.returncode == 1
    error, failure = done.stderr.splitlines()[-2:]
    assert error.startswith("error: ")
    assert f"run {maker}" in error
    assert failure.startswith(f"error: stage {stage} (")
    assert "Traceback" not in done.stderr


def test_stage_4_starts_with_one_process_per_gpu(recipe: Run, tmp_path: Path) -> None:
    """srun, scontrol and torchrun are replaced by programs that show what they were called with."""
    _program(tmp_path / "torchrun", "printf '%s\\n' \"$@\"")
    _program(tmp_path / "scontrol", "[ \"$*\" = 'show hostnames n[1-2]' ] && printf 'n1\\nn2\\n'")
    allocation = "SLURM_JOB_NODELIST='n[1-2]' SLURM_NNODES=2 SLURM_JOB_ID=7"
    _program(tmp_path / "srun", f'shift 4; [ "$1" = bash ] || exit 9; {allocation} exec "$@"')
    training = ["slimasr-train", "--config", "conf/slimmable.yaml", "--data", "data", "--set", "name=two words"]
    options = ("--stage", 4, "--stop-stage", 4, "--nproc", 4, "--set", "name=two words", "--exp", tmp_path / "exp")

    here = recipe("an4", *options, "--cmd", "torchrun", first=tmp_path)
    assert here.returncode == 0, here.stderr
    expected = ["--nproc-per-node", "4", "--no-python", *training, "--exp", str(tmp_path / "exp")]
    assert here.stdout.splitlines() == expected

    cluster = recipe("an4", *options, "--cmd", "slurm", first=tmp_path)
    assert cluster.returncode == 0, cluster.stderr
    nodes = ["--nnodes", "2", "--nproc-per-node", "4", "--rdzv-backend", "c10d", "--rdzv-id", "7"]
    assert cluster.stdout.splitlines() == [*nodes, "--rdzv-endpoint", "n1:29500", *expected[2:]]


def _program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_share_their_code(name: str) -> None:
    for script in ("run.sh", "path.sh", "cmd.sh"):
        text = (EGS / name / script).read_text()
        assert "../../tools/" in text
        assert len(text.splitlines()) < 25
