"""Runs recipes as their users do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slimasr.cli.main import main_app

EGS = Path(__file__).parents[2] / "egs"
# Small enough for seconds; every part of the real thing is there.
TINY_MODEL = (
    "--set=frontend.channels=4",
    "--set=encoder.d_model=16",
    "--set=encoder.num_layers=1",
    "--set=encoder.head_dim=4",
    "--set=encoder.ffn_dim=16",
    "--set=encoder.kernel_size=3",
    "--set=predictor.dim=8",
    "--set=joiner.dim=16",
    "--set=training.num_epochs=1",
    "--set=training.calibration_batches=1",
    "--set=search.rtf_seconds=1",
)
# The same for a CTC model whose subnets are learnt: of two blocks, the masks keep what costs as much as one.
TINY_MASKS = (
    "--set=encoder.d_model=16",
    "--set=encoder.num_layers=2",
    "--set=encoder.head_dim=4",
    "--set=encoder.ffn_dim=32",
    "--set=encoder.kernel_size=3",
    "--set=method.budgets=[{blocks: 1}]",
    "--set=training.num_epochs=2",
    "--set=training.calibration_batches=1",
    "--set=search.rtf_seconds=1",
)
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def recipe() -> Run:
    """``recipe("an4", "--stage", "1", ...)`` runs ``egs/an4/run.sh`` and gives its outcome.

    Programs in the folder ``first`` go before all others; ``threads`` is the user's OMP_NUM_THREADS, None for none;
    ``folder`` is the user's working folder.
    """

    def run(
        name: str,
        *options: str | int | Path,
        first: Path | None = None,
        threads: str | None = "1",
        folder: Path = EGS,
    ) -> subprocess.CompletedProcess[str]:
        folders = [*([first] if first else []), Path(sys.executable).parent, os.environ["PATH"]]
        path = os.pathsep.join(map(str, folders))
        environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": threads or ""}
        command = [str(EGS / name / "run.sh"), *map(str, options)]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    return run


def command(name: str, *arguments: str | int | Path) -> None:
    """Run a stage in this process, which has imported everything already: ``command("decode", exp)``."""
    done = CliRunner().invoke(main_app(), [name, *map(str, arguments)])
    assert done.exit_code == 0, done.output
