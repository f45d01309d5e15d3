"""TODM experiments with made-up results: models of paper 2, separate models, searches with their candidates."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from slimasr.config.load import parse_config, save_config
from slimasr.results.search import FoundEntry
from slimasr.scoring import score
from slimasr.supernet.front import Measurement, find_front
from slimasr.supernet.space import LayerSpace
from slimasr.supernet.subnet import Subnet
from tests.report.made_up import SETS, decode, hypotheses, scored, training_log

LAYERS, FFN = 8, (96, 192, 384)
DEPTHS = (8, 6, 4)
SPACE = LayerSpace(DEPTHS, (("ffn", FFN),))
CONFORMER_SPACE = LayerSpace(DEPTHS, (("ffn1", FFN), ("ffn2", FFN)))
CHANNELS = LayerSpace((8,), (("ffn", FFN),))
EPOCHS = 30
STOPPED_ABOVE = 14.0
WEIGHTS = "0123456789abcdef"

ALPHA = {"divergence": "alpha", "num_kd_tokens": 10}
CONFORMER = {"d_model": 96, "num_layers": 8, "ffn_dim": 384, "adaptive_dropout": True}
SWITCH = {"epoch": 21, "kd_weight": 0.1, "optimizer": {"kind": "scaled_adam"}}


def params(subnet: Subnet, space: LayerSpace = SPACE) -> int:
    """Parameters of a made-up model: a fixed part, a part per layer, a part per FFN channel."""
    modules = [name for name, _ in space.units]
    genes = space.genes_of(subnet)
    channels = sum(int(genes[f"{layer}.{module}"]) for layer in range(int(genes["depth"])) for module in modules)
    return 200_000 + 60_000 * int(genes["depth"]) + 193 * channels


def error_rate(subnet: Subnet, harm: float = 0.0, space: LayerSpace = SPACE) -> float:
    """Larger subnets err less; shapes of equal size differ a little."""
    share = params(subnet, space) / params(space.max, space)
    return 0.06 + 0.12 * (1.0 - share) + 0.01 * random.Random(subnet.id).random() + harm


def costs(subnet: Subnet, space: LayerSpace = SPACE) -> dict[str, float]:
    """The costs that a search counts."""
    size = params(subnet, space)
    return {"params": size, "int8_bytes": round(1.1 * size), "paper_size": size, "macs": 25.0 * size}


def write_todm(
    folder: Path,
    *,
    harm: float = 0.0,
    half_life: float = 4.0,
    space: LayerSpace = SPACE,
    encoder: dict[str, Any] | None = None,
    method: dict[str, Any] | None = None,
    distillation: dict[str, Any] | None = None,
    minutes: float = 50.0,
    num_candidates: int = 40,
    int8: bool = False,
    kwh: float | None = None,
) -> Path:
    """Write one supernet's folder, as training, search, decoding and export leave it.

    Args:
        harm: added to the error rate of every subnet.
        int8: whether the front was checked in int8.
        kwh: energy of training and search each, None = no meter.
    """
    rng = random.Random(folder.name)
    subnets = list(dict.fromkeys([space.max, space.min, *(space.sample(rng) for _ in range(num_candidates))]))
    rates = {s: error_rate(s, harm, space) for s in subnets}
    dev = {s: score(hypotheses("dev", rates[s], 1), replications=0).wer for s in subnets}
    stopped = [s for s in subnets[2:] if dev[s] > STOPPED_ABOVE]
    measured = [Measurement(s, dev[s], rates[s], costs(s, space)) for s in subnets if s not in stopped]
    front = find_front(measured, "params")
    kept = list(dict.fromkeys([space.max, *(m.subnet for m in front), space.min]))
    entries = {s.id: _decoded(s, rates[s], folder, space, int8) for s in kept}
    lines = {"max": rates[space.max], "min": rates[space.min]}
    ends = {"max": space.max.id, "min": space.min.id}
    log = training_log({ends[end]: rate for end, rate in lines.items()}, half_life, EPOCHS)
    tree = {
        "model": {"encoder": encoder or _mh_ssm(LAYERS)},
        "space": {"kind": "layers", "depths": list(space.depths), "units": {m: list(u) for m, u in space.units}},
        "method": {"kind": "todm", **(method or {})},
        "loss": {"distillation": distillation},
        "training": {"num_epochs": EPOCHS},
        "search": {"kind": "evolution"},
    }
    _write(folder, tree, "todm", None, entries, log, minutes, kwh)
    _write_search(folder, measured, [(s, 0.8 * dev[s]) for s in stopped], space, minutes)
    return folder


def write_separate(
    folder: Path,
    subnet: Subnet,
    *,
    harm: float = 0.0,
    space: LayerSpace = SPACE,
    minutes: float = 20.0,
    kwh: float | None = None,
    half_life: float = 4.0,
) -> Path:
    """Write a separate model of one subnet's size."""
    genes = space.genes_of(subnet)
    depth = int(genes["depth"])
    rate = error_rate(subnet, harm, space)
    encoder = _mh_ssm(depth) | {"ffn_dims": [int(genes[f"{layer}.ffn"]) for layer in range(depth)]}
    entry = _decoded(subnet, rate, folder, space, False, name="w1") | {"subnet": {"width": 1.0}}
    tree = {
        "model": {"encoder": encoder},
        "space": {"kind": "widths", "widths": [1.0]},
        "method": {"kind": "separate"},
        "training": {"num_epochs": EPOCHS},
    }
    log = training_log({"w1": rate}, half_life, EPOCHS)
    _write(folder, tree, "separate", subnet.id, {"w1": entry}, log, minutes, kwh)
    alone = Measurement(Subnet(), score(hypotheses("dev", rate, 1), replications=0).wer, rate, costs(subnet, space))
    _write_search(folder, [alone], [], space, minutes)
    return folder


def write_paper(root: Path, kwh: float | None = None) -> list[Path]:
    """Models F, B0 and C of paper 2, three separate models, and F once more with a Conformer encoder."""
    adaptive = _mh_ssm(LAYERS) | {"adaptive_dropout": True}
    taught: dict[str, Any] = {"distillation": ALPHA, "method": {"phases": [SWITCH]}, "half_life": 2.5, "kwh": kwh}
    written = [
        write_todm(root / "todm", encoder=adaptive, int8=True, **taught),
        write_todm(root / "todm_channels", harm=0.04, space=CHANNELS),
        write_todm(root / "todm_dropout", encoder=adaptive),
        write_todm(root / "todm_conformer", encoder=CONFORMER, space=CONFORMER_SPACE, **taught),
    ]
    middle = SPACE.from_genes({"width": 1.0, "depth": 6, **{f"{layer}.ffn": 192 for layer in range(LAYERS)}})
    for name, subnet, harm in (("large", SPACE.max, 0.06), ("medium", middle, 0.02), ("small", SPACE.min, 0.02)):
        written.append(write_separate(root / f"separate_{name}", subnet, harm=harm, kwh=kwh))
    return written


def _write_search(
    folder: Path,
    measured: list[Measurement],
    stopped: list[tuple[Subnet, float]],
    space: LayerSpace,
    minutes: float,
) -> None:
    """What a search leaves; ``stopped``: given up, with the WER they have at least."""
    front, number = find_front(measured, "params"), len(measured) + len(stopped)
    known = {"set": "dev", "cost": "params", "weights": WEIGHTS}
    found = {
        **known,
        "candidates": [FoundEntry.of(m).to_dict() for m in measured],
        "stopped": [
            {"id": s.id, "subnet": s.to_dict(), "wer_at_least": wer, "costs": costs(s, space)} for s, wer in stopped
        ],
    }
    summary = {
        "generator": "evolution",
        "candidates": number,
        "stopped_early": len(stopped),
        "space": space.count(),
        "minutes": 4.5,
        "evaluation_minutes": 8.0,
        "per_minute": number / 4.5,
        "train_minutes": minutes,
        "workers": 2,
        "weights": WEIGHTS,
    }
    chosen = {**known, "measured": number, "front": [FoundEntry.of(m).to_dict() for m in front]}
    for name, content in {"candidates": found, "front": chosen, "summary": summary}.items():
        _dump(folder / "search" / f"{name}.json", content)


def _mh_ssm(layers: int) -> dict[str, Any]:
    return {"kind": "mh_ssm", "d_model": 96, "num_layers": layers, "ffn_dim": 384}


def _decoded(
    subnet: Subnet, rate: float, folder: Path, space: LayerSpace, int8: bool, name: str | None = None
) -> dict[str, Any]:
    wer = {}
    for set_name in SETS:
        utterances = hypotheses(set_name, rate, 1)
        decode(folder, name or subnet.id, set_name, utterances)
        wer[set_name] = scored(utterances)
    counted = costs(subnet, space)
    timed = {"rtf": 0.001 + counted["params"] / 2e8, "peak_memory": 4e6 + 8 * counted["params"]}
    entry = {
        "subnet": subnet.to_dict(),
        "costs": counted | timed,
        "dev_loss": rate,
        "wer": wer,
        "search": {"wer": wer["dev"]["wer"], "dev_loss": rate, "weights": WEIGHTS},
    }
    if int8:
        rounded = score(hypotheses("test", rate + 0.005, 1), replications=200).wer_entry().to_dict()
        entry["int8"] = {"wer": {"test": rounded}, "bytes": counted["int8_bytes"] + 5000, "runtime": "onnxruntime 1.30"}
    return entry


def _write(
    folder: Path,
    tree: dict[str, Any],
    method: str,
    separate_of: str | None,
    subnets: dict[str, Any],
    log: str,
    minutes: float,
    kwh: float | None,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    used = {
        "kwh": kwh,
        "cpu_seconds": 60 * minutes,
        "gpu_seconds": 0.0,
        "wall_seconds": 60 * minutes,
        "source": "made up",
    }
    searched = {**used, "cpu_seconds": 270.0}
    results = {
        "name": folder.name,
        "method": method,
        "separate_of": separate_of,
        "command": f"slimasr-train --config conf/{folder.name}.yaml --exp exp/{folder.name}",
        "revision": "0123456789ab",
        "hardware": "2 x abacus",
        "seed": 1,
        "epochs": EPOCHS,
        "steps": 3000,
        "train_minutes": minutes,
        "subnets": subnets,
        "energy": {"train": used} | ({"search": searched} if separate_of is None else {}),
    }
    _dump(folder / "results.json", results)
    (folder / "train_log.jsonl").write_text(log, encoding="utf-8")
    data = {"corpus": "digits", "dev": "dev", "test": ["test"]}
    save_config(parse_config({"name": folder.name, "seed": 1, "data": data, **tree}), folder / "config.yaml")


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
