"""Experiments with pathways and made-up results: dense, monolingual and multilingual ones, as training leaves them."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slimasr.config.load import parse_config, save_config
from slimasr.config.schema import Config
from slimasr.models.mask_files import FINAL, SavedMasks
from slimasr.results.masks import MasksEntry
from slimasr.scoring import Utterance, score
from slimasr.scoring.icefall import recogs
from slimasr.supernet.subnet import Subnet
from tests.report.made_up import GREEDY

LANGUAGES, TWO = ("en", "fr", "it"), ("fr", "it")
WORDS = {"en": ("one", "two", "three"), "fr": ("un", "deux", "trois"), "it": ("uno", "due", "tre")}
NUMBER = 40
EPOCHS, STEPS = 10, 1000
OTHER_PARAMS = 10_000
SHAPES = {"encoder.0.weight": (20, 40), "predictor.lstm.weight_hh_l0": (8, 30)}
"""Matrix -> its blocks of 8 x 1."""
BLOCKS = sum(rows * columns for rows, columns in SHAPES.values())
PRUNABLE = 8 * BLOCKS
Masks = dict[str, dict[str, np.ndarray]]


def recipe(
    languages: Sequence[str], method: Mapping[str, Any] | None, pathways: Sequence[str] = (), **data: Any
) -> Config:
    """A recipe with pathways, or without a method a dense one."""
    encoder = {"d_model": data.pop("d_model", 32), "num_layers": 2, "ffn_dim": 64, "conv_norm": "layer"}
    encoder = data.pop("encoder", encoder)
    tree: dict[str, Any] = {
        "name": "made-up",
        "data": {
            "corpus": "digits",
            "train": [f"train-{language}" for language in languages],
            "dev": "+".join(f"dev-{language}" for language in languages),
            "test": [f"test-{language}" for language in languages],
            "options": {"languages": " ".join(languages)},
            **data,
        },
        "model": {"encoder": encoder},
        "training": {"num_epochs": EPOCHS, "average_start": 0.8},
    }
    if method is None:
        tree |= {"method": {"kind": "separate"}, "space": {"kind": "widths", "widths": [1.0]}}
    else:
        tree["method"] = {"kind": "pathways", "levels": [0.2, 0.5, 0.7], **method}
        tree["space"] = {"kind": "pathways", "languages": list(pathways or languages)}
        tree["training"]["init"] = {"from": "exp/dense"}
    return parse_config(json.loads(json.dumps(tree)))


def random_masks(pathways: Sequence[str], seed: int) -> Masks:
    """30 % of the blocks of every matrix."""
    generator = np.random.default_rng(seed)
    found: Masks = {}
    for name in pathways:
        found[name] = {}
        for matrix, shape in SHAPES.items():
            mask = np.arange(shape[0] * shape[1]) < round(0.3 * shape[0] * shape[1])
            found[name][matrix] = generator.permutation(mask).reshape(shape)
    return found


def changed(masks: Masks, share: float) -> Masks:
    """Masks of which a share of the kept blocks, those with the lowest indices, has gone to the first free places."""
    found: Masks = {}
    for name, matrices in masks.items():
        found[name] = {}
        for matrix, mask in matrices.items():
            flat = mask.flatten()
            number = round(share * int(flat.sum()))
            leave, enter = np.flatnonzero(flat)[:number], np.flatnonzero(~flat)[:number]
            flat[leave], flat[enter] = False, True
            found[name][matrix] = flat.reshape(mask.shape)
    return found


def utterances(set_name: str, language: str, errors: float, seed: str) -> list[Utterance]:
    """Utterances of a set, the same references every time, each word wrong with the given probability."""
    references, wrong = random.Random(f"{set_name}{language}"), random.Random(f"{set_name}{language}{seed}{errors}")
    found = []
    for number in range(NUMBER):
        words = tuple(references.choice(WORDS[language]) for _ in range(references.randint(3, 7)))
        heard = tuple("x" if wrong.random() < errors else word for word in words)
        found.append(Utterance(f"{language}-{number:03d}", words, heard))
    return found


def decoded(
    folder: Path, subnet: Subnet, set_name: str, rates: Mapping[str, float], *, by_language: bool
) -> dict[str, Any]:
    """Leave hypotheses of a set, whose languages err at these rates, and return its entry in results.json."""
    spoken = {
        language: utterances(set_name, language, rate, f"{folder.name}{subnet.id}") for language, rate in rates.items()
    }
    every = [utterance for found in spoken.values() for utterance in found]
    place = folder / "decode" / subnet.id / set_name
    place.mkdir(parents=True)
    (place / "recogs").write_text(recogs(every), encoding="utf-8")
    how = {"subnet": subnet.to_dict(), "checkpoint": "final", "decoding": GREEDY}
    (place / "decode.json").write_text(json.dumps(how), encoding="utf-8")
    found = score(every, replications=50).wer_entry().to_dict() | {"checkpoint": "final", "decoding": GREEDY}
    if by_language:
        lines = [f"{utterance.id} {language}\n" for language, own in spoken.items() for utterance in own]
        (place / "utt2lang").write_text("".join(lines), encoding="utf-8")
        kept = ("wer", "errors", "words", "sentences", "ci95")
        parts = {name: score(own, replications=50).wer_entry().to_dict() for name, own in spoken.items()}
        found["languages"] = {name: {key: part[key] for key in kept} for name, part in parts.items()}
    return found


def write(
    folder: Path,
    config: Config,
    rates: Mapping[str, float],
    *,
    masks: Masks | None = None,
    separate: bool = False,
    **record: Any,
) -> Path:
    """Write a folder.

    Args:
        rates: language -> probability that a word is wrong.
        masks: pathway -> matrix -> kept blocks, None for a dense model.
        record: further keys of ``masks`` in results.json.
    """
    folder.mkdir(parents=True)
    subnets = {}
    pathways = [""] if masks is None else list(masks)
    for pathway in pathways:
        subnet = Subnet(pathway=pathway)
        served = {language: rate for language, rate in rates.items() if subnet.serves(language)}
        # A model for one language has nothing to tell apart, unless it has a pathway.
        tells = bool(pathway) or len(rates) > 1
        wer = {config.data.dev: decoded(folder, subnet, config.data.dev, served, by_language=tells)}
        for language, rate in served.items():
            wer[f"test-{language}"] = decoded(folder, subnet, f"test-{language}", {language: rate}, by_language=tells)
        kept = PRUNABLE if masks is None else 8 * sum(int(mask.sum()) for mask in masks[pathway].values())
        params = kept + OTHER_PARAMS
        bits = BLOCKS // 8 if pathway else 0
        costs = {"params": params, "int8_bytes": kept + 4 * OTHER_PARAMS + bits, "macs": 10.0 * params}
        subnets[subnet.id] = {"subnet": subnet.to_dict(), "costs": costs, "dev_loss": 1.0, "wer": wer}
    results: dict[str, Any] = {
        "name": folder.name,
        "method": config.method.kind,
        "separate_of": "w1" if separate else None,
        "seed": 1,
        "hardware": "abacus",
        "epochs": EPOCHS,
        "steps": STEPS,
        "train_minutes": 5.0 + len(rates),
        "subnets": subnets,
    }
    if masks is not None:
        results["masks"] = entry_of(masks, **record).to_dict()
        saved = _saved(masks, adaptive=config.method.model_dump().get("masks") == "adaptive")
        (folder / FINAL).parent.mkdir()
        torch.save(saved.to_dict(), folder / FINAL)
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    (folder / "train_log.jsonl").write_text(_log(rates, pathways), encoding="utf-8")
    save_config(config, folder / "config.yaml")
    return folder


def _saved(masks: Masks, adaptive: bool) -> SavedMasks:
    stacked = {matrix: torch.tensor(np.stack([masks[name][matrix] for name in masks])) for matrix in SHAPES}
    shapes = {matrix: (8 * rows, columns) for matrix, (rows, columns) in SHAPES.items()}
    return SavedMasks(tuple(masks), (8, 1), 0.7, stacked, shapes, True, adaptive, STEPS, STEPS)


def entry_of(masks: Masks, **record: Any) -> MasksEntry:
    """What the training records of the masks."""
    flat = {name: np.concatenate([mask.flatten() for mask in matrices.values()]) for name, matrices in masks.items()}
    union = float(np.any(list(flat.values()), axis=0).mean())
    names = list(flat)
    overlaps = []
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            a, b = flat[first], flat[second]
            common = 2 * int((a & b).sum()) / int(a.sum() + b.sum())
            overlaps.append({"a": first, "b": second, "entries": float((a == b).mean()), "kept": common})
    data = {
        "prunable": PRUNABLE,
        "blocks": BLOCKS,
        "params": PRUNABLE + OTHER_PARAMS,
        "union": union,
        "union_all": (union * PRUNABLE + OTHER_PARAMS) / (PRUNABLE + OTHER_PARAMS),
        "sparsity": {name: 1 - float(kept.mean()) for name, kept in flat.items()},
        "levels": [{"sparsity": s, "step": 80 * n} for n, s in enumerate((0.2, 0.5, 0.7), start=1)],
        **record,
    }
    return MasksEntry.model_validate(data | ({"overlaps": overlaps} if overlaps else {}))


def _log(rates: Mapping[str, float], pathways: Sequence[str]) -> str:
    lines = []
    for epoch in range(1, EPOCHS + 1):
        dev = {}
        for pathway in pathways:
            subnet = Subnet(pathway=pathway)
            served = {name: 100 * (rate + 0.5**epoch) for name, rate in rates.items() if subnet.serves(name)}
            dev[f"{subnet.id}/wer"] = sum(served.values()) / len(served)
            if len(served) > 1:
                dev |= {f"{subnet.id}/{name}/wer": wer for name, wer in served.items()}
        sparsity = (0.0, 0.2, 0.5, 0.7)[min(3, epoch)]
        method = {f"{name}/sparsity": sparsity for name in pathways if name}
        lines.append(json.dumps({"epoch": epoch, "step": STEPS // EPOCHS * epoch, "dev": dev, "method": method}))
    return "\n".join(lines) + "\n"


ADAPTIVE = {"masks": "adaptive"}
LTH = {"masks": "fixed", "rewind": True}


def changes(languages: Sequence[str], *shares: float) -> dict[str, Any]:
    steps = [100 * number for number in range(1, len(shares) + 1)]
    return {name: {"steps": steps, "changed": list(shares)} for name in languages}


def given(languages: Sequence[str], finder: str, level: float, step: int) -> dict[str, Any]:
    """The sources of masks that other runs found."""
    found = {}
    for name in languages:
        of = [name] if finder == "lth" else ["all"]
        place = f"{finder}_{name}" if finder == "lth" else finder
        facts = {"rewind": finder == "lth", "adaptive": False, "step": step, "steps": STEPS}
        found[name] = {"experiment": place, "level": level, "languages": of, **facts}
    return found


def write_paper(root: Path) -> list[Path]:
    """A dense model, small dense and LTH models of each language, LAP, and pathways for two and for all languages."""
    found = [write(root / "dense", recipe(LANGUAGES, None), dict.fromkeys(LANGUAGES, 0.1), separate=True)]
    lth = {name: random_masks([name], seed) for seed, name in enumerate(LANGUAGES)}
    for name in LANGUAGES:
        small = recipe([name], None, d_model=16)
        found.append(write(root / f"small_{name}", small, {name: 0.3}, separate=True))
        found.append(write(root / f"lth_{name}", recipe([name], LTH), {name: 0.15}, masks=lth[name]))
        adapted = recipe([name], {**LTH, **ADAPTIVE})
        facts = {"masks": changed(lth[name], 0.33), "adaptations": changes([name], 0.1, 0.05, 0.02)}
        found.append(write(root / f"lth_adaptive_{name}", adapted, {name: 0.05}, **facts))
    lap_rates = {name: 0.4 if name == "it" else 0.12 for name in LANGUAGES}
    lap = random_masks(["all"], 9)
    found.append(write(root / "lap", recipe(LANGUAGES, {"masks": "fixed"}, ["all"]), lap_rates, masks=lap))
    for languages in (TWO, LANGUAGES):
        found += write_joint(root, languages, {name: lth[name][name] for name in languages}, lap["all"])
    return found


def write_joint(root: Path, languages: Sequence[str], lth: Masks, lap: Mapping[str, np.ndarray]) -> list[Path]:
    """ASR Pathways and Dynamic ASR Pathways of some languages."""
    number = len(languages)
    at_70 = {"masks": "fixed", "masks_from": {name: f"exp/lth_{name}@0.7" for name in languages}}
    at_50 = {"masks": "adaptive", "masks_from": {name: f"exp/lth_{name}@0.5" for name in languages}}
    moved = changed(lth, 0.2)
    uniform = {"language_sampling": "uniform"}
    start = {name: {"entries": 0.88, "kept": 0.8} for name in languages}
    found = [
        write(
            root / f"pathways_{number}",
            recipe(languages, at_70, **uniform),
            dict.fromkeys(languages, 0.14),
            masks=lth,
            sources=given(languages, "lth", 0.7, 240),
            levels=[],
        ),
        write(
            root / f"dynamic_{number}",
            recipe(languages, at_50, **uniform),
            dict.fromkeys(languages, 0.09),
            masks=moved,
            sources=given(languages, "lth", 0.5, 160),
            levels=[{"sparsity": 0.7, "step": 80}],
            since_start=start,
            adaptations=changes(languages, 0.1, 0.04, 0.03, 0.01),
        ),
    ]
    if number == 2:
        from_lap = {"masks": "adaptive", "masks_from": "exp/lap@0.7"}
        masks = changed({name: dict(lap) for name in languages}, 0.1)
        found.append(
            write(
                root / "dynamic_lap",
                recipe(languages, from_lap, **uniform),
                dict.fromkeys(languages, 0.11),
                masks=masks,
                sources=given(languages, "lap", 0.7, 240),
                levels=[],
                since_start=start,
                adaptations=changes(languages, 0.02, 0.01),
            )
        )
        slow = recipe(languages, {**at_50, "adapt_interval": 500}, **uniform)
        facts = {"sources": given(languages, "lth", 0.5, 160), "adaptations": changes(languages, 0.2)}
        facts["levels"] = [{"sparsity": 0.7, "step": 80}]
        found.append(write(root / "dynamic_n500", slow, dict.fromkeys(languages, 0.12), masks=moved, **facts))
    return found
