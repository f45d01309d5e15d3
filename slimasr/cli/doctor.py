"""``slimasr doctor``: what is installed, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

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
EXTRAS = {
    "demo": (("espeakng-loader", "espeakng_loader"),),
    "export": (("onnx", "onnx"), ("onnxruntime", "onnxruntime"), ("sherpa-onnx", "sherpa_onnx")),
    "postgresql": (("psycopg", "psycopg"),),
    "energy": (("codecarbon", "codecarbon"),),
    "dev": (("pytest", "pytest"), ("ruff", "ruff"), ("mypy", "mypy")),
}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report; ``advice`` is empty if nothing needs to be done."""

    what: str
    state: str
    advice: str = ""


def doctor() -> None:
    """Show what is installed, what is missing and how to get it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in ("part", "state", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in examine():
        table.add_row(*(Text(cell) for cell in (finding.what, finding.state, finding.advice)))
    Console().print(table)


def examine() -> list[Finding]:
    """Return everything that `doctor` shows, from Python and the device down to the optional packages."""
    findings = [
        Finding("python", platform.python_version()),
        Finding("slimasr", _version("slimasr") or "absent"),
    ]
    findings += [_required(name) for name in REQUIRED]
    if not findings[2].advice:
        findings += [_device(), _k2()]
    findings += [_extra(extra, name, module) for extra, parts in EXTRAS.items() for name, module in parts]
    return findings


def _required(name: str) -> Finding:
    found = _version(name)
    return Finding(name, found) if found else Finding(name, "absent", f"pip install {name}, or run tools/setup.sh")


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return Finding("device", f"cuda {torch.version.cuda}: {names}")
    advice = "this torch can use CUDA, but finds no driver or GPU" if torch.version.cuda else ""
    return Finding("device", f"cpu, {torch.get_num_threads()} threads of {os.cpu_count()} cores", advice)


def _k2() -> Finding:
    """Import k2 instead of asking for its version: a build for another torch fails to import or lacks the losses."""
    advice = "optional (losses run on the torch backend); tools/install_k2.sh installs it"
    try:
        k2 = import_module("k2")
        build = _version("k2") or str(getattr(k2, "__version__", "of unknown version"))
        if not hasattr(k2, "rnnt_loss_pruned"):
            return Finding("k2", f"{build} lacks rnnt_loss_pruned", advice)
    except ModuleNotFoundError as error:
        state = "not installed" if error.name == "k2" else f"does not import: {error}"
        return Finding("k2", state, advice)
    except Exception as error:
        return Finding("k2", f"does not import: {next(iter(str(error).splitlines()), repr(error))}", advice)
    return Finding("k2", build)


def _extra(extra: str, name: str, module: str) -> Finding:
    found = _version(name)
    if not found:
        return Finding(name, "not installed", f"optional: pip install -e '.[{extra}]'")
    try:
        import_module(module)
    except Exception as error:
        reason = next(iter(str(error).splitlines()), repr(error))
        return Finding(name, f"{found}, does not import: {reason}", f"pip install --force-reinstall {name}")
    return Finding(name, found)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
