"""Mask-learning experiments with made-up results: supernets whose training chose subnets, separate models, exits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from slimasr.config.load import parse_config, save_config
from slimasr.config.schema import Config
from slimasr.results.learnt import LearntEntry, LearntSubnets
from slimasr.scoring import score
from slimasr.scoring.icefall import recogs
from slimasr.scoring.wer import PHONEME
from slimasr.supernet.groups import Group, groups_of, subnet_of
from slimasr.supernet.list_space import LearntSubnet
from slimasr.supernet.subnet import Subnet, unit_count
from tests.report.made_up import SETS, decode, hypotheses, scored

LAYERS, HEADS, FFN, CONV = 6, 4, 384, 96
SIZES = {"ffn1": FFN, "conv": CONV, "heads": HEADS, "ffn2": FFN}
ENCODER = {"kind": "conformer", "d_model": CONV, "num_layers": LAYERS, "num_heads": HEADS, "head_dim": 24}
ENCODER |= {"ffn_dim": FFN, "kernel_size": 15, "adaptive_dropout": True}
GRAPH = "graph, made up"
EPOCHS, SWITCH = 10, 6
REST = 50_000.0
BUDGETS = [{"blocks": 2}, {"blocks": 4}]


def groups(granularity: str = "component") -> list[Group]:
    """The groups of the paper's encoder, in running order."""
    found = []
    for layer in range(LAYERS):
        for module, units in SIZES.items():
            parts = {"ffn1": 4, "ffn2": 4, "heads": HEADS, "conv": 1}[module] if granularity == "component" else 1
            found += groups_of(layer, module, units, parts)
    return found


def params(subnet: Subnet) -> float:
    """Parameters of a made-up model: a fixed part and a number for every unit."""
    total = REST
    for layer in range(LAYERS) if subnet.path is None else subnet.path:
        for module, units in SIZES.items():
            chosen = subnet.units_of(layer, module)
            total += {"ffn1": 200, "ffn2": 200, "heads": 9_000, "conv": 300}[module] * (
                units if chosen is None else unit_count(chosen)
            )
    return total


def chosen(blocks: int, granularity: str = "component", head: str | None = None) -> tuple[Subnet, list[Group]]:
    """The subnet that a budget of so many blocks keeps: groups from a fixed order while they fit.

    Convolutions come first, then block 1, then the other feed-forward modules from the top, then heads from the bottom.
    """
    every = groups(granularity)
    limit = params(Subnet(path=tuple(range(blocks))))

    def rank(group: Group) -> tuple[int, int]:
        if group.module == "conv":
            return 0, group.layer
        if group.layer == 0:
            return 1, 0
        return (3, group.layer) if group.module == "heads" else (2, LAYERS - group.layer)

    kept: list[Group] = []
    for group in sorted(every, key=rank):
        if params(subnet_of([*kept, group], every)) < limit:
            kept.append(group)
    return subnet_of(kept, every, head), sorted(kept)


def learnt(blocks: list[int], granularity: str = "component") -> tuple[LearntSubnet, ...]:
    """Max and the subnets of some budgets, the largest first."""
    found = [LearntSubnet("max", Subnet())]
    for number in sorted(blocks, reverse=True):
        name = f"{number} blocks"
        subnet, kept = chosen(number, granularity, name)
        budget = params(Subnet(path=tuple(range(number))))
        largest = max(params(subnet_of([group], groups(granularity))) - REST for group in groups(granularity))
        found.append(LearntSubnet(name, subnet, budget, params(subnet), tuple(kept), largest))
    return tuple(found)


def recipe(
    space: Mapping[str, Any],
    method: Mapping[str, Any],
    encoder: Mapping[str, Any] | None = None,
    **model: Any,
) -> Config:
    tree = {
        "name": "made-up",
        "data": {"corpus": "digits", "dev": "dev", "test": ["test"]},
        "model": {"kind": "ctc", "encoder": {**ENCODER, **(encoder or {})}, **model},
        "space": space,
        "method": method,
        "training": {"num_epochs": EPOCHS, "average_start": 0.8},
    }
    return parse_config(json.loads(json.dumps(tree)))


def mask_recipe(encoder: Mapping[str, Any] | None = None, **method: Any) -> Config:
    return recipe({"kind": "learnt"}, {"kind": "mask_learning", "budgets": BUDGETS, **method}, encoder)


def entry(folder: Path, subnet: Subnet, subnet_id: str, rate: float, genes: Subnet | None = None) -> dict[str, Any]:
    """The entry of a decoded subnet, in words by a graph and in phonemes; its hypotheses go under ``folder``."""
    found: dict[str, Any] = {"wer": {}, "per": {}}
    for name in SETS:
        words = hypotheses(name, rate, 1)
        decode(folder, subnet_id, name, words, GRAPH)
        found["wer"][name] = scored(words, GRAPH)
        phonemes = [replace(u, ref=u.ref * 2, hyp=u.hyp * 2) for u in hypotheses(name, rate / 2, 2)]
        (folder / "decode" / subnet_id / name / "recogs_phone").write_text(recogs(phonemes), encoding="utf-8")
        rates = score(phonemes, replications=50, unit=PHONEME).per_entry().to_dict()
        found["per"][name] = rates | {"checkpoint": "final", "decoding": "greedy"}
    costs = {"params": params(subnet), "macs": 25.0 * params(subnet)}
    return {"subnet": (genes or subnet).to_dict(), "costs": costs, "dev_loss": rate, **found}


def write(
    folder: Path, config: Config, entries: dict[str, Any], log: list[dict[str, Any]], separate_of: str | None = None
) -> Path:
    results = {
        "name": folder.name,
        "method": config.method.kind,
        "separate_of": separate_of,
        "seed": 1,
        "hardware": "abacus",
        "epochs": EPOCHS,
        "steps": 1000,
        "train_minutes": 10.0 if separate_of else 30.0,
        "subnets": entries,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    (folder / "train_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log), encoding="utf-8")
    save_config(config, folder / "config.yaml")
    return folder


def write_masks(folder: Path, config: Config, rates: Mapping[str, float], undecided: float = 1.0) -> Path:
    """Write a supernet whose training chose subnets.

    Args:
        rates: budget, or max -> probability that a word is wrong.
        undecided: gates that are neither 0 nor 1 at the end of step 1.
    """
    blocks = [int(name.partition(" ")[0]) for name in rates if name != "max"]
    found = learnt(blocks, config.method.granularity)
    entries = {item.subnet.id: entry(folder, item.subnet, item.subnet.id, rates[item.name]) for item in found}
    costs = {item.name: {"params": params(item.subnet)} for item in found}
    record = LearntSubnets(subnets=tuple(LearntEntry.of(item, costs[item.name]) for item in found))
    record.write(folder)
    log = []
    for epoch in range(1, EPOCHS + 1):
        names = {item.name if item.budget else item.subnet.id: rates[item.name] for item in found}
        dev = {f"{name}/per": 100 * (rate + 0.5**epoch) for name, rate in names.items()}
        dev |= {f"{name}/ctc": rate + 0.5**epoch for name, rate in names.items()}
        budgets = [name for name in rates if name != "max"]
        method = {f"{name}/cost": 0.3 for name in budgets}
        if epoch <= SWITCH:
            method |= {"temperature": 1 - 0.1 * epoch, "orthogonality": epoch / SWITCH}
            for name in budgets:
                share = (SWITCH - epoch) / SWITCH
                figures = {"k": 24, "undecided": undecided + 20 * share, "off_identity": 0.02 + share, "duplicates": 0}
                method |= {f"{name}/{key}": value for key, value in figures.items()}
        train = {"w1/ctc": 0.5, **{f"{name}/lambda": 0.5**epoch for name in budgets}}
        log.append({"epoch": epoch, "step": 100 * epoch, "train": train, "dev": dev, "method": method})
    return write(folder, config, entries, log)


def write_alone(folder: Path, blocks: int, rate: float) -> Path:
    """Write a separate model of the bottom blocks."""
    subnet = Subnet() if blocks == LAYERS else Subnet(path=tuple(range(blocks)))
    config = recipe({"kind": "widths", "widths": [1.0]}, {"kind": "separate"}, {"num_layers": blocks})
    found = entry(folder, subnet, "w1", rate, Subnet())
    log = [{"epoch": EPOCHS, "step": 1000, "train": {}, "dev": {"w1/per": 100 * rate, "w1/ctc": rate}}]
    return write(folder, config, {"w1": found}, log, subnet.id)


def write_exits(folder: Path, rates: Mapping[int, float]) -> Path:
    """Write a model with an exit at some depths."""
    depths = sorted(rates, reverse=True)
    space = {"kind": "layers", "depths": depths}
    config = recipe(space, {"kind": "multi_exit"}, exits=[number for number in sorted(rates) if number < LAYERS])
    entries = {}
    for number in depths:
        whole = number == LAYERS
        subnet = Subnet() if whole else Subnet(path=tuple(range(number)), head=f"exit{number}")
        entries[subnet.id] = entry(folder, subnet, subnet.id, rates[number])
    return write(folder, config, entries, [])


def write_paper(root: Path) -> list[Path]:
    """The method in full, the same by parameters, exits, and three separate models."""
    good = {"max": 0.05, "4 blocks": 0.06, "2 blocks": 0.08}
    worse = {name: rate + 0.1 for name, rate in good.items()}
    return [
        write_masks(root / "main", mask_recipe(), good),
        write_masks(root / "params", mask_recipe(criterion="params", granularity="layer"), worse, undecided=12.0),
        write_exits(root / "exits", {6: 0.05, 4: 0.12, 2: 0.4}),
        write_alone(root / "separate_6", 6, 0.06),
        write_alone(root / "separate_4", 4, 0.07),
        write_alone(root / "separate_2", 2, 0.15),
    ]
