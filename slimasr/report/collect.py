"""From experiment folders to one recipe's ``results.json``: all that reports and verdicts read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slimasr.config.load import load_config
from slimasr.config.schema import Config, EncoderConfig, MhSsmConfig
from slimasr.errors import UserError
from slimasr.experiment import read_results
from slimasr.report.comparison import compare_all
from slimasr.report.records import Run, read_study
from slimasr.report.roles import Described, Role, roles_of
from slimasr.scoring import Utterance
from slimasr.scoring.icefall import read_recogs
from slimasr.search.finalists import rank_correlation

_ENCODER = ("kind", "slimming", "norm", "attention")
_PLOTTED = ("params", "int8_bytes", "macs")
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
    "energy",
)


def collect(experiments: Sequence[Path], recipe: str, root: Path) -> dict[str, Any]:
    """Everything the experiments measured, merged, with their paired comparisons, as plain JSON data.

    What an experiment stands for follows from its configuration, see `slimasr.report.roles`; the first supernet is
    the main one.

    Args:
      experiments: experiment folders.
      recipe: name of the recipe.
      root: folder that paths are written relative to.

    Raises:
      UserError: a folder was not trained or searched, or two have the same name.
    """
    folders, described, results = dict[str, Path](), dict[str, Described](), dict[str, dict[str, Any]]()
    for path in experiments:
        name = path.resolve().name
        if name in folders:
            raise UserError(f"{path}: another experiment of this report is called {name}; rename one folder")
        config = load_config(_needed(path / "config.yaml"))
        found = read_results(path)
        if not found.get("subnets"):
            raise UserError(f"{path}/results.json has no measured subnet: run stage 5 (slimasr-search) first")
        params = {key: entry.get("costs", {}).get("params") for key, entry in found["subnets"].items()}
        folders[name], results[name] = path, found
        described[name] = Described(config, found.get("separate_of"), params)
    roles = roles_of(described)
    entries = {name: _entry(folders[name], described[name].config, results[name], roles[name], root) for name in roles}
    merged = {"recipe": recipe, "experiments": entries, "comparisons": []}
    data = next(iter(described.values())).config.data
    comparisons = compare_all(read_study(merged).runs, data.dev, data.test, Hypotheses(folders))
    return merged | {"comparisons": comparisons}


def _entry(path: Path, config: Config, results: Mapping[str, Any], role: Role, root: Path) -> dict[str, Any]:
    encoder = config.model.encoder
    front = _read_json(path / "search" / "front.json").get("front", [])
    return {
        "dir": os.path.relpath(path, root),
        "role": role.name,
        **({"model": role.model} if role.model else {}),
        **({"family": role.family} if role.family else {}),
        "encoder": {key: getattr(encoder, key) for key in _ENCODER if hasattr(encoder, key)},
        "layers": full_layers(encoder),
        **{key: results[key] for key in _KEPT if key in results},
        "command": results.get("command", "").replace(f"{root.resolve()}{os.sep}", ""),
        "front": front,
        **_search(path, config, results, [item["id"] for item in front]),
        "curve": _curve(path / "train_log.jsonl"),
    }


def full_layers(encoder: EncoderConfig) -> list[dict[str, int]]:
    """Feed-forward module -> channels, for every layer of the max subnet."""
    if isinstance(encoder, MhSsmConfig):
        return [{"ffn": size} for size in encoder.ffn_dims or [encoder.ffn_dim] * encoder.num_layers]
    if encoder.layers is not None:
        return [{"ffn1": layer.ffn1, "ffn2": layer.ffn2} for layer in encoder.layers]
    return [{"ffn1": encoder.ffn_dim, "ffn2": encoder.ffn_dim} for _ in range(encoder.num_layers)]


def _search(path: Path, config: Config, results: Mapping[str, Any], front: Sequence[str]) -> dict[str, Any]:
    """What the search looked at and took, and how dev ranks its front; nothing where there was no choice to make."""
    looked = _read_json(path / "search" / "candidates.json")
    entries = [*looked.get("candidates", ()), *looked.get("stopped", ())]
    if config.search.kind == "exhaustive" or len(entries) < 2:
        return {}
    costs = sorted(set.intersection(*(set(entry["costs"]) for entry in entries)))
    correlations = {
        name: rank_correlation(results["subnets"], front, config.data.dev, name) for name in config.data.test
    }
    return {
        "candidates": {
            "set": looked.get("set", config.data.dev),
            "ids": [entry["id"] for entry in entries],
            "wer": [round(entry["wer"] if "wer" in entry else entry["wer_at_least"], 4) for entry in entries],
            "stopped": ["wer" not in entry for entry in entries],
            "costs": {name: [entry["costs"][name] for entry in entries] for name in costs if name in _PLOTTED},
        },
        "search": _read_json(path / "search" / "summary.json") or None,
        "int8_search": config.search.int8,
        "rank_correlation": {name: value for name, value in correlations.items() if value is not None},
    }


def _read_json(path: Path) -> dict[str, Any]:
    """Content of a file of the search, empty when there is none."""
    if not path.exists():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON ({error.msg}); run stage 5 (slimasr-search) again") from None
    return content


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
