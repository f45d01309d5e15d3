"""Set-up scripts: clear refusals, and pins that agree with the ranges."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.version import Version

tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML itself")

ROOT = Path(__file__).parents[2]


def _run(root: Path, script: str, *options: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    (root / "tools").mkdir(exist_ok=True)
    for name in ("pyproject.toml", "constraints.txt", f"tools/{script}"):
        shutil.copy(ROOT / name, root / name)
    command = [str(root / "tools" / script), *map(str, options)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, env={**os.environ, "PATH": path, **environment}, capture_output=True, text=True, timeout=60
    )


def _python(folder: Path, *, refuses: str) -> str:
    """An interpreter that fails when asked to run code with ``refuses`` in it."""
    path = folder / "python"
    path.write_text(
        f'#!/bin/sh\ncase "$*" in --version) echo Python 3.8.1 ;; *"{refuses}"*) exit 1 ;; *) exit 0 ;; esac\n'
    )
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("refuses", "message"),
    [("version_info", "Python 3.8.1 is too old; install Python 3.10 or newer"), ("venv", "apt install python3-venv")],
)
def test_setup_says_what_the_machine_lacks(tmp_path: Path, refuses: str, message: str) -> None:
    done = _run(tmp_path, "setup.sh", PYTHON=_python(tmp_path, refuses=refuses))
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_setup_without_any_python(tmp_path: Path) -> None:
    done = _run(tmp_path, "setup.sh", PYTHON="python-of-no-version")
    assert done.returncode == 1
    assert done.stderr.startswith("error: python-of-no-version not found")


def test_k2_for_another_torch_is_not_installed(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    name = f"k2-1.24.4.dev20200101+cpu.torch1.0.0-{tag}-{tag}-manylinux2014_x86_64.whl"
    (wheels / name).touch()
    done = _run(tmp_path, "install_k2.sh", "--from", wheels)
    assert done.returncode == 1
    assert torch.__version__.split("+")[0] in done.stdout
    assert "has no k2 built for torch" in done.stderr or "no k2 wheel for this Python" in done.stderr


def test_every_dependency_is_pinned_within_its_range() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = [Requirement(line) for line in lines]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [
        Requirement(text)
        for text in (
            *project["dependencies"],
            *(text for name in ("demo", "dev", "export", "energy", "graph", "postgresql") for text in extras[name]),
        )
    ]
    for python in ("3.10", "3.11", "3.12", "3.13"):
        here = {"python_version": python}
        chosen = {_canonical(p.name): p for p in pins if p.marker is None or p.marker.evaluate(here)}
        for requirement in wanted:
            (pin,) = chosen[_canonical(requirement.name)].specifier
            assert pin.operator == "=="
            assert Version(pin.version) in requirement.specifier, requirement


def test_every_stage_has_a_console_script() -> None:
    from slimasr.cli.main import STAGES

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts.pop("slimasr") == "slimasr.cli.main:main"
    assert scripts == {f"slimasr-{stage}": f"slimasr.cli.{stage}:main" for stage in STAGES}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
