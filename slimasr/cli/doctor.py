"""``slimasr doctor``: show what is installed, what is missing, how to install it, and what a recipe trains."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from slimasr.cli.common import DataOption, DebugOption, SetOption, quick_imports

REQUIRED = (
    "torch",
    "lhotse",
    "soundfile",
    "sentencepiece",
    "kaldialign",
    "scipy",
    "optuna",
    "sqlalchemy",
    "typer",
    "pydantic",
    "plotly",
    "matplotlib",
    "tensorboard",
)
# Extra of pyproject.toml -> its packages, as (name for pip, module to import).
EXTRAS = {
    "demo": (("espeakng-loader", "espeakng_loader"),),
    "export": tuple((name, name.replace("-", "_")) for name in ("onnx", "onnxscript", "onnxruntime", "sherpa-onnx")),
    "postgresql": (("psycopg", "psycopg"),),
    "energy": (("codecarbon", "codecarbon"),),
    "microphone": (("sounddevice", "sounddevice"),),
    "graph": tuple((name, name.replace("-", "_")) for name in ("kaldifst", "kaldi-decoder", "kaldilm", "kaldingram")),
    "dev": (("pytest", "pytest"), ("ruff", "ruff"), ("mypy", "mypy")),
}
PROGRAMS = (
    (("qemu-x86_64",), "optional, for slimasr-check --emulate haswell: install Debian's package qemu-user"),
    (("qemu-aarch64",), "optional, for slimasr-check --emulate cortex-a76: install Debian's package qemu-user"),
    (
        ("chromium", "chromium-browser", "google-chrome"),
        "optional, for the tests of web pages: install Debian's package chromium",
    ),
)
"""Programs that are found on the path, each by the names that it may have, and how to get them."""


RecipeOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="YAML file of an experiment, whose trained parameters are counted."),
]


@dataclass(frozen=True)
class Check:
    """One line of the doctor's report; ``advice`` is empty if nothing needs to be done."""

    what: str
    state: str
    advice: str = ""


def doctor(
    config: RecipeOption = None,
    data: DataOption = Path("data"),
    overrides: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Show what is installed, what is missing and how to install it.

    With --config, also count the parameters that the experiment trains and those that it freezes.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in ("part", "state", "what to do"):
        table.add_column(column, overflow="fold")
    findings = examine() if config is None else [*examine(), *_parameters(config, data, overrides or ())]
    for finding in findings:
        # ``Text`` keeps rich from reading ``[export]`` as markup.
        table.add_row(*(Text(cell) for cell in (finding.what, finding.state, finding.advice)))
    Console().print(table)


def examine() -> list[Check]:
    """Return everything that `doctor` shows, from Python and the device down to the optional packages."""
    findings = [
        Check("python", platform.python_version()),
        Check("slimasr", _version("slimasr") or "absent"),
    ]
    findings += [_required(name) for name in REQUIRED]
    # Device and k2 can be examined only if torch, the first of the required packages, is there.
    torch_finding = findings[2]
    if not torch_finding.advice:
        findings += [_device(), _k2()]
    for extra, packages in EXTRAS.items():
        findings += [_extra(extra, name, module) for name, module in packages]
    return findings + [_program(*program) for program in PROGRAMS]


def _parameters(config: Path, data: Path, overrides: Sequence[str]) -> list[Check]:
    """Count the parameters of a recipe by groups of the optimiser."""
    with quick_imports():
        from slimasr.config.load import load_config
        from slimasr.training.start import trained_parameters

    counts = trained_parameters(load_config(config, overrides), data)
    frozen = counts.pop("frozen", 0)
    trained = sum(counts.values())
    rows = [Check("parameters", f"{trained + frozen:,}, of which {trained:,} are trained and {frozen:,} frozen")]
    return rows + [Check(f"  group {name}", f"{count:,}") for name, count in counts.items()]


def _required(name: str) -> Check:
    found = _version(name)
    return Check(name, found) if found else Check(name, "absent", f"pip install {name}, or run tools/setup.sh")


def _device() -> Check:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return Check("device", f"cuda {torch.version.cuda}: {names}")
    advice = "this torch can use CUDA, but finds no driver or GPU" if torch.version.cuda else ""
    return Check("device", f"cpu, {torch.get_num_threads()} threads of {os.cpu_count()} cores", advice)


def _k2() -> Check:
    """Import k2 instead of asking for its version: a build for another torch fails to import or lacks the losses."""
    advice = "optional (losses run on the torch backend); tools/install_k2.sh installs it"
    try:
        k2 = import_module("k2")
        build = _version("k2") or str(getattr(k2, "__version__", "of unknown version"))
        if not hasattr(k2, "rnnt_loss_pruned"):
            return Check("k2", f"{build} lacks rnnt_loss_pruned", advice)
    except ModuleNotFoundError as error:
        state = "not installed" if error.name == "k2" else f"does not import: {error}"
        return Check("k2", state, advice)
    except Exception as error:  # a library that fails to load may raise anything
        return Check("k2", f"does not import: {_first_line(error)}", advice)
    return Check("k2", build)


def _extra(extra: str, name: str, module: str) -> Check:
    found = _version(name)
    if not found:
        return Check(name, "not installed", f"optional: pip install -e '.[{extra}]'")
    try:
        import_module(module)
    except Exception as error:
        state = f"{found}, does not import: {_first_line(error)}"
        return Check(name, state, f"pip install --force-reinstall {name}")
    return Check(name, found)


def _program(names: Sequence[str], advice: str) -> Check:
    """Look for a program, which the first of its names stands for."""
    found = next(filter(None, map(shutil.which, names)), None)
    return Check(names[0], found) if found else Check(names[0], "not installed", advice)


def _first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type if it has no message."""
    return next(iter(str(error).splitlines()), repr(error))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
