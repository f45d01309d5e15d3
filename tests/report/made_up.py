"""Experiment folders with made-up results, as training, search and decoding would leave them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from slimasr.config.load import parse_config, save_config
from slimasr.report.records import Study, read_study
from slimasr.results.report import Report
from slimasr.scoring import Utterance, score
from slimasr.scoring.icefall import recogs

SETS = {"dev": 60, "test": 80}
PARAMS = {1.0: 1_000_000, 0.75: 600_000, 0.5: 280_000, 0.25: 90_000}
GREEDY = "greedy, at most 1 per frame"
WORDS = ("one", "two", "three", "four", "five", "six", "seven")


def study_of(data: dict[str, Any]) -> Study:
    """The study that a report's plain data hold."""
    return read_study(Report.model_validate(data))


def hypotheses(set_name: str, error_rate: float, seed: int) -> list[Utterance]:
    """Utterances of a set, the same references every time, each word wrong with the given probability."""
    references, errors = random.Random(set_name), random.Random(f"{set_name}/{error_rate}/{seed}")
    utterances = []
    for number in range(SETS[set_name]):
        words = [references.choice(WORDS) for _ in range(references.randint(3, 8))]
        heard = ["wrong" if errors.random() < error_rate else word for word in words]
        utterances.append(Utterance(f"{set_name}-{number:03d}", tuple(words), tuple(heard)))
    return utterances


def decode(folder: Path, subnet: str, set_name: str, utterances: list[Utterance], decoding: str = GREEDY) -> None:
    """Leave hypotheses under ``folder``."""
    path = folder / "decode" / subnet / set_name
    path.mkdir(parents=True, exist_ok=True)
    how = {"subnet": {"width": 1.0}, "checkpoint": "final", "decoding": decoding}
    (path / "decode.json").write_text(json.dumps(how), encoding="utf-8")
    (path / "recogs").write_text(recogs(utterances), encoding="utf-8")


def scored(utterances: list[Utterance], decoding: str = GREEDY) -> dict[str, Any]:
    """The entry of one set in results.json."""
    return score(utterances, replications=200).wer_entry().to_dict() | {"checkpoint": "final", "decoding": decoding}


def measured(width: float, error_rate: float, folder: Path, subnet: str, seed: int) -> dict[str, Any]:
    """The entry of one subnet of a space of widths in results.json; its hypotheses go under ``folder``."""
    wer = {}
    for name in SETS:
        utterances = hypotheses(name, error_rate, seed)
        decode(folder, subnet, name, utterances)
        wer[name] = scored(utterances)
    params = PARAMS[width]
    costs = {
        "params": params,
        "int8_bytes": round(1.1 * params),
        "paper_size": params,
        "macs": 25.0 * params,
        "predictor_macs": 10_000,
        "rtf": 0.001 + params / 2e8,
        "rtf_p90": 0.0012 + params / 2e8,
        "peak_memory": 4e6 + 8 * params,
    }
    return {
        "subnet": {"width": float(subnet[1:].partition("-")[0])},
        "costs": costs,
        "dev_loss": error_rate,
        "wer": wer,
    }


def training_log(rates: dict[str, float], half_life: float, epochs: int = 30) -> str:
    """Dev WER that falls from 100 % to each subnet's rate, its excess halved every ``half_life`` epochs."""
    lines = []
    for epoch in range(1, epochs + 1):
        excess = 0.5 ** (epoch / half_life)
        dev = {}
        for subnet, rate in rates.items():
            dev[f"{subnet}/wer"] = 100 * (rate + (1 - rate) * excess)
            dev[f"{subnet}/transducer"] = rate + 3 * excess
        lines.append(json.dumps({"epoch": epoch, "step": 100 * epoch, "minutes": 0.5 * epoch, "dev": dev}))
    return "\n".join(lines) + "\n"


def write_experiment(
    folder: Path,
    rates: dict[float, float],
    *,
    separate_of: float | None = None,
    seed: int = 1,
    minutes: float = 20.0,
    half_life: float = 4.0,
    encoder: dict[str, Any] | None = None,
    slices: dict[float, float] | None = None,
) -> Path:
    """Write one folder.

    Args:
        rates: width -> probability that a word is wrong; for a separate model the one of its own size.
        slices: width -> the same for untrained slices.
    """
    folder.mkdir(parents=True)
    ids = {width: "w1" if separate_of else f"w{width:g}" for width in rates}
    subnets = {ids[w]: measured(w, rate, folder, ids[w], seed) for w, rate in rates.items()}
    sliced = {f"w{w:g}": measured(w, rate, folder, f"w{w:g}", seed) for w, rate in (slices or {}).items()}
    results = {
        "name": folder.name,
        "method": "separate" if separate_of else "slimmable",
        "separate_of": None if separate_of is None else f"w{separate_of:g}",
        "command": f"slimasr-train --config {folder.parents[1]}/conf/made_up.yaml --exp exp/{folder.name}",
        "revision": "0123456789ab",
        "hardware": "2 x abacus",
        "seed": seed,
        "epochs": 30,
        "steps": 3000,
        "train_minutes": minutes,
        "subnets": subnets,
        "slices": sliced,
    }
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    log = training_log({ids[w]: rate for w, rate in rates.items()}, half_life)
    (folder / "train_log.jsonl").write_text(log, encoding="utf-8")
    data = {"corpus": "digits", "dev": "dev", "test": ["test"]}
    encoder = encoder or {}
    space = {"kind": "branches" if "tree" in encoder else "widths"}
    config = parse_config({"name": folder.name, "data": data, "model": {"encoder": encoder}, "space": space})
    save_config(config, folder / "config.yaml")
    return folder


def write_study(root: Path) -> list[Path]:
    """A slimmable run, four separate models, both ablations, and slices of the full-width separate model."""
    joint = {1.0: 0.08, 0.75: 0.09, 0.5: 0.12, 0.25: 0.22}
    experiments = [
        write_experiment(root / "slimmable", joint, minutes=40.0, half_life=2.5),
        write_experiment(
            root / "slimmable_head_size",
            {w: r + 0.004 for w, r in joint.items()},
            minutes=41.0,
            encoder={"slimming": "head_size"},
        ),
        write_experiment(
            root / "slimmable_shared",
            {w: r + 0.1 for w, r in joint.items()},
            encoder={"norm": "shared"},
        ),
    ]
    for width, rate in {1.0: 0.085, 0.75: 0.10, 0.5: 0.14, 0.25: 0.30}.items():
        slices = {0.75: 0.97, 0.5: 0.995, 0.25: 1.0} if width == 1.0 else None
        experiments.append(
            write_experiment(
                root / f"separate_{width:g}",
                {width: rate},
                separate_of=width,
                minutes=8 + 10 * width,
                half_life=4.0,
                slices=slices,
            )
        )
    return experiments
