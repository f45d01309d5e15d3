"""From experiment folders to one recipe's ``results.json``: all that reports and verdicts read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slimasr.config.load import load_config
from slimasr.config.schema import Config
from slimasr.errors import UserError
from slimasr.experiment import read_results
from slimasr.report.claims import SEPARATE, SLIMMABLE
from slimasr.report.comparison import compare_all
from slimasr.report.records import Run, read_study
from slimasr.scoring import Utterance
from slimasr.scoring.icefall import read_recogs

_TRAITS = ("slimming", "norm", "attention")
_KEPT = (
    "method",
    "separate_of",
    "seed",
    "epochs",
    "steps",
    "train_minutes",
    "hardware",
    "revision",
    "versions",
    "subnets",
    "slices",
)


def collect(experiments: Sequence[Path], recipe: str, root: Path) -> dict[str, Any]:
    """Everything the experiments measured, merged, with their paired comparisons, as plain JSON data.

    The first slimmable experiment is the main one; the others are named by what differs from it, such as
    ``slimmable, head size``.

    Args:
      experiments: experiment folders.
      recipe: name of the recipe.
      root: folder that paths are written relative to.

    Raises:
      UserError: a folder was not trained or searched, or two have the same name.
    """
    configs = {path: load_config(_needed(path / "config.yaml")) for path in experiments}
    results = {path: read_results(path) for path in experiments}
    main = next((c for path, c in configs.items() if not results[path].get("separate_of")), None)
    entries: dict[str, Any] = {}
    folders: dict[str, Path] = {}
    for path, config in configs.items():
        name = path.resolve().name
        if name in entries:
            raise UserError(f"{path}: another experiment of this report is called {name}; rename one folder")
        if not results[path].get("subnets"):
            raise UserError(f"{path}/results.json has no measured subnet: run stage 5 (slimasr-search) first")
        folders[name] = path
        entries[name] = _entry(path, config, results[path], main or config, root)
    merged = {"recipe": recipe, "experiments": entries, "comparisons": []}
    runs = read_study(merged).runs
    sets = _sets(next(iter(configs.values())))
    return merged | {"comparisons": compare_all(runs, sets, Hypotheses(folders))}


def fronts_of(data: Mapping[str, Any]) -> dict[str, set[str]]:
    """Experiment name -> ids on its front."""
    return {name: {item["id"] for item in entry.get("front", ())} for name, entry in data["experiments"].items()}


def role_of(config: Config, separate_of: str | None, main: Config) -> str:
    """What an experiment stands for, named by how it differs from the main one.

    A stand-alone model has one width, so how widths would be sliced or normalised does not tell it apart.
    """
    traits = ("attention",) if separate_of else _TRAITS
    own, other = config.model.encoder, main.model.encoder
    differing = [str(getattr(own, trait)) for trait in traits if getattr(own, trait) != getattr(other, trait)]
    words = [_in_words(value) for value in differing]
    return ", ".join([SEPARATE if separate_of else SLIMMABLE, *words])


def _in_words(value: str) -> str:
    names = {
        "per_width": "norms per width",
        "shared": "shared norms",
        "recalibrated": "recalibrated norms",
        "relative": "relative attention",
        "plain": "plain attention",
    }
    return names.get(value, value.replace("_", " "))


def _entry(path: Path, config: Config, results: Mapping[str, Any], main: Config, root: Path) -> dict[str, Any]:
    encoder = config.model.encoder
    front = path / "search" / "front.json"
    return {
        "dir": os.path.relpath(path, root),
        "role": role_of(config, results.get("separate_of"), main),
        "encoder": {trait: getattr(encoder, trait) for trait in _TRAITS},
        **{key: results[key] for key in _KEPT if key in results},
        "command": results.get("command", "").replace(f"{root.resolve()}{os.sep}", ""),
        "front": json.loads(front.read_text(encoding="utf-8"))["front"] if front.exists() else [],
        "curve": _curve(path / "train_log.jsonl"),
    }


def _curve(path: Path) -> list[dict[str, Any]]:
    """Dev figures per epoch. A line cut short by a crash is left out."""
    if not path.exists():
        return []
    points = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        dev = {key: round(value, 4) for key, value in (entry.get("dev") or {}).items()}
        if dev:
            points.append({"epoch": entry["epoch"], "step": entry["step"], "dev": dev})
    return points


def _sets(config: Config) -> tuple[str, ...]:
    return (config.data.dev, *config.data.test)


class Hypotheses:
    """What decoding left behind, each file read once. Called as `comparison.Recogs`."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        """``folders``: experiment name -> folder."""
        self._folders = dict(folders)
        self._read: dict[Path, list[Utterance] | None] = {}

    def __call__(self, run: Run, subnet: str, set_name: str) -> list[Utterance] | None:
        """Utterances of one subnet on one set, None where they were not decoded."""
        record = run.subnet(subnet)
        if record is None:
            return None
        path = self._folders[run.name] / "decode" / record.id / set_name / "recogs"
        if path not in self._read:
            self._read[path] = read_recogs(path) if path.exists() else None
        return self._read[path]


def _needed(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path} is missing: run stage 4 (slimasr-train) first")
    return path
