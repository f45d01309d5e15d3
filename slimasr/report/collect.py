"""From experiment folders to one recipe's ``results.json``: all that reports and verdicts read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from slimasr.config.load import load_config, parse_config
from slimasr.config.model import EncoderConfig
from slimasr.config.schema import Config
from slimasr.errors import UserError
from slimasr.files import read_json, understanding
from slimasr.report.comparison import compare_all
from slimasr.report.records import read_study
from slimasr.report.roles import Described, Role, roles_of
from slimasr.results.store import read_results
from slimasr.scoring import align
from slimasr.scoring.icefall import read_recogs
from slimasr.search.finalists import rank_correlation

_ENCODER = ("kind", "slimming", "norm", "attention")
_DECODED_BY = ("checkpoint", "decoding")
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
    """Everything the experiments measured, merged, with their comparisons, as plain JSON data.

    What an experiment stands for follows from its configuration, see `slimasr.report.roles`; the first supernet is
    the main one.

    Args:
        experiments: experiment folders, and files that this function's result was written to: their experiments join
            in, for runs whose folders are elsewhere. A folder takes the place of an experiment of its name in a file.
        recipe: name of the recipe.
        root: folder that paths are written relative to.

    Raises:
        UserError: a folder was not trained or searched, two have the same name or stand for the same model and seed, or
            a set differs between experiments.
    """
    entries: dict[str, dict[str, Any]] = {}
    utterances: dict[str, dict[str, int]] = {}
    earlier_comparisons: list[dict[str, Any]] = []
    for path in (path for path in experiments if path.is_file()):
        with understanding(path, "is that a file that slimasr-report --json wrote?"):
            earlier = _read_report(path)
            entries |= earlier["experiments"]
            earlier_comparisons += earlier["comparisons"]
            for name, words in earlier.get("utterances", {}).items():
                _same_set(utterances, name, words, path)
    folders = dict[str, Path]()
    for path in (path for path in experiments if not path.is_file()):
        name = path.resolve().name
        if name in folders:
            raise UserError(f"{path}: another experiment of this report is called {name}; rename one folder")
        with understanding(path, "one of its records has lost its form: run stages 5 to 7 again"):
            folders[name], entries[name] = path, _entry(path, root, utterances)
    with understanding(Path(", ".join(map(str, experiments))), "one of their records has lost its form"):
        return _merged(entries, utterances, earlier_comparisons, set(folders), recipe)


def _merged(
    entries: dict[str, dict[str, Any]],
    utterances: Mapping[str, dict[str, int]],
    earlier_comparisons: Sequence[dict[str, Any]],
    folders: Set[str],
    recipe: str,
) -> dict[str, Any]:
    """The experiments with their roles and comparisons.

    Args:
        earlier_comparisons: those that earlier reports made.
        folders: names of the experiments that were read from folders now.
    """
    configs = {name: parse_config(entry["config"]) for name, entry in entries.items()}
    roles = roles_of({name: _described(entry, configs[name]) for name, entry in entries.items()})
    for name, role in roles.items():
        entries[name] = _with_role(entries[name], role)
    _refuse_doubles(entries)
    sets = {name: utterances[name] for name in sorted(utterances)}
    merged = {"recipe": recipe, "experiments": entries, "utterances": sets, "comparisons": []}
    data = next(iter(configs.values())).data
    new = {roles[name].name for name in folders}
    kept = [entry for entry in earlier_comparisons if not new & {entry["a"]["role"], entry["b"]["role"]}]
    return merged | {"comparisons": compare_all(read_study(merged), data.dev, data.test, kept)}


def _read_report(path: Path) -> dict[str, Any]:
    content = _read_json(path, "is that a file that slimasr-report --json wrote?")
    experiments = content.get("experiments")
    if not isinstance(experiments, dict) or not all("config" in entry for entry in experiments.values()):
        raise UserError(f"{path}: not a file that slimasr-report --json wrote, or an old one; name experiment folders")
    return content


def _same_set(utterances: dict[str, dict[str, int]], name: str, words: dict[str, int], where: Path) -> None:
    """Note the utterances of a set, with their reference words.

    Raises:
        UserError: another experiment's set of this name is another one.
    """
    if utterances.setdefault(name, words) != words:
        ours, theirs = utterances[name].items(), words.items()
        raise UserError(
            f"{where}: its set {name} is not that of the other experiments ({len(ours ^ theirs)} entries differ); "
            "decode all on one set, or report on them apart"
        )


def _refuse_doubles(entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Two runs of one role and seed would count as two seeds, whatever sets them apart (a learning rate, say).

    Raises:
        UserError: there are two.
    """
    seen = dict[tuple[str, str, int], str]()
    for entry in entries.values():
        key = entry["role"], entry.get("separate_of") or "", entry.get("seed", 0)
        if key in seen:
            what = " ".join(filter(None, key[:2]))
            raise UserError(
                f"{seen[key]} and {entry['dir']} both stand for {what}, seed {key[2]}: report on them apart"
            )
        seen[key] = entry["dir"]


def _described(entry: Mapping[str, Any], config: Config) -> Described:
    params = {key: record.get("costs", {}).get("params") for key, record in entry["subnets"].items()}
    return Described(config, entry.get("separate_of"), params)


def _with_role(entry: Mapping[str, Any], role: Role) -> dict[str, Any]:
    told = {"role": role.name, "model": role.model, "family": role.family}
    rest = {key: value for key, value in entry.items() if key not in told and key != "dir"}
    return {"dir": entry["dir"], **{key: value for key, value in told.items() if value}, **rest}


def _entry(path: Path, root: Path, utterances: dict[str, dict[str, int]]) -> dict[str, Any]:
    """One experiment without its role; ``utterances`` are added to."""
    config, results = load_config(_needed(path / "config.yaml")), read_results(path)
    if not results.get("subnets"):
        raise UserError(f"{path}/results.json has no measured subnet: run stage 5 (slimasr-search) first")
    encoder = config.model.encoder
    front = _read_json(path / "search" / "front.json").get("front", [])
    return {
        "dir": os.path.relpath(path, root),
        "encoder": {key: getattr(encoder, key) for key in _ENCODER if hasattr(encoder, key)},
        "layers": full_layers(encoder),
        **{key: results[key] for key in _KEPT if key in results},
        "subnets": {key: _with_errors(path, key, record, utterances) for key, record in results["subnets"].items()},
        "command": results.get("command", "").replace(f"{root.resolve()}{os.sep}", ""),
        "front": front,
        **_search(path, config, results, [item["id"] for item in front]),
        "curve": _curve(path / "train_log.jsonl"),
        "config": config.model_dump(mode="json"),
    }


def _with_errors(
    path: Path, subnet: str, record: Mapping[str, Any], utterances: dict[str, dict[str, int]]
) -> dict[str, Any]:
    """A subnet's record with the errors of every utterance, in the order of ids, where decoding left hypotheses.

    Raises:
        UserError: the hypotheses are not those that were scored, or those of another set.
    """
    scored = dict(record.get("wer", {}))
    for name, entry in scored.items():
        folder = path / "decode" / subnet / name
        if (folder / "recogs").exists():
            alignments = sorted(map(align, read_recogs(folder / "recogs")), key=lambda a: a.id)
            _same_set(utterances, name, {a.id: a.counts().words for a in alignments}, path)
            errors = [a.counts().errors for a in alignments]
            how = _read_json(folder / "decode.json", "run stage 6 (slimasr-decode) again")
            if sum(errors) != entry["errors"] or any(how.get(key) != entry.get(key) for key in _DECODED_BY):
                raise UserError(
                    f"{folder}: not the hypotheses that were scored: run stage 7 (slimasr-score), "
                    "and before it stage 6 (slimasr-decode) if the model was trained again"
                )
            scored[name] = entry | {"errors_by_utterance": " ".join(map(str, errors))}
    return {**record, "wer": scored} if scored else dict(record)


def full_layers(encoder: EncoderConfig) -> list[dict[str, int]]:
    """Feed-forward module -> channels, for every layer of the max subnet."""
    return [
        {module: size for module, size in units.items() if module.startswith("ffn")} for units in encoder.layer_units
    ]


def _search(path: Path, config: Config, results: Mapping[str, Any], front: Sequence[str]) -> dict[str, Any]:
    """What the search looked at and took, and how dev ranks its front; nothing where there was no choice to make."""
    looked = _read_json(path / "search" / "candidates.json")
    entries = [*looked.get("candidates", ()), *looked.get("stopped", ())]
    # The search may have been asked for by --set; older folders tell what the configuration says alone.
    if looked.get("kind", config.search.kind) == "exhaustive" or len(entries) < 2:
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
        "int8_search": looked.get("int8", config.search.int8),
        "rank_correlation": {name: value for name, value in correlations.items() if value is not None},
    }


def _read_json(path: Path, advice: str = "run stage 5 (slimasr-search) again") -> dict[str, Any]:
    """Content of a file, by default of the search; empty when there is none."""
    if not path.exists():
        return {}
    content: dict[str, Any] = read_json(path, advice)
    return content


def _curve(path: Path) -> list[dict[str, Any]]:
    """Dev figures per epoch. A line cut short by a crash is left out."""
    if not path.exists():
        return []
    points = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        # A value that was not finite is null, or in logs of older versions itself.
        values = ((key, value) for key, value in (entry.get("dev") or {}).items() if value is not None)
        dev = {key: round(value, 4) for key, value in values if math.isfinite(value)}
        if dev:
            points.append({"epoch": entry["epoch"], "step": entry["step"], "dev": dev})
    return points


def _needed(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path} is missing: run stage 4 (slimasr-train) first")
    return path
