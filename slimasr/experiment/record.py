"""The record of a run: its configuration and tokenizer, and the versions, hardware and revision that it ran with."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from slimasr.config.load import save_config
from slimasr.config.loss import needs_states
from slimasr.config.schema import Config
from slimasr.data.timelines.states import STATES_FILE
from slimasr.files import copy_folder, write_atomic, write_json_atomic, writing
from slimasr.results.entry import merged
from slimasr.results.schema import Results
from slimasr.results.store import update_results

VERSIONED = ("slimasr", "torch", "lhotse", "k2", "numpy", "sentencepiece", "kaldialign")
"""The packages whose versions are recorded."""


def write_record(exp: Path, config: Config, lang: Path, facts: Results) -> None:
    """Begin the record of a run: write resolved configuration, tokenizer, states of frame targets, versions,
    and results.json.

    The configuration is written last: a folder that has it is complete.

    Args:
        exp: experiment folder.
        config: resolved configuration; the ``states.json`` of its alignments is copied if its frame targets are states.
        lang: folder of the tokenizer, which is copied.
        facts: further content of results.json.
    """
    with writing(exp):
        exp.mkdir(parents=True, exist_ok=True)
    copy_folder(lang, exp / "lang")
    if needs_states(config.loss):
        assert config.loss.alignments is not None, "frame targets need alignments"
        write_atomic(exp / STATES_FILE, (config.loss.alignments / STATES_FILE).read_bytes())
    versions = describe_versions()
    write_json_atomic(exp / "versions.json", versions)
    made = Results(
        name=config.name,
        method=config.method.kind,
        seed=config.seed,
        revision=revision(),
        versions=versions,
        hardware=describe_hardware(),
    )
    update_results(exp, merged(made, facts))
    save_config(config, exp / "config.yaml")


def describe_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that results depend on; absent ones are left out."""
    versions = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            # k2, for one, is optional.
            continue
    return versions


def describe_hardware() -> str:
    """Describe the processor and, if there is one, the accelerator: ``2 x Intel Xeon ...``."""
    cpu = platform.processor() or platform.machine()
    # On Linux, `platform` knows the architecture at most.
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if "model name" in line:
                _, name = line.split(":", 1)
                cpu = name.strip()
                break
    text = f"{os.cpu_count()} x {cpu}"
    if torch.cuda.is_available():
        text += f", {torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return text


def revision() -> str | None:
    """Return the git revision of the code, with ``-dirty`` if tracked files were changed; None outside a checkout."""
    # The folder that holds the package. It is site-packages, which is no checkout, if the package was installed.
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        return head + ("-dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
