"""Predicted against measured latency of subnets that no profile holds, of the AN4 preset with a Conformer.

The subnets that slimasr-search asks for are measured, the additive model is fitted to them, and other subnets, drawn at
random, are measured and predicted. Weights are random, as time does not depend on them. There are three sides, each in
one run. ``torch`` has stand-alone encoders, and ``onnxruntime`` those of a bundle, which slimasr-export writes; a
measurement is the smallest processor time of several turns, in each of which every subnet runs once. ``profile`` is the
side of a user: run.py of the bundle measures wall-clock time, so that it needs a machine without other work.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import report_figures
from untrained import write_experiment

from slimasr.experiment import Experiment
from slimasr.export.packages import needed
from slimasr.measure.runtime import noise_features
from slimasr.search.latency.cover import to_profile
from slimasr.search.latency.device import terms_of_experiment
from slimasr.search.latency.fit import Measured, fit, leave_one_out, predict
from slimasr.supernet.subnet import Subnet

PRESET = Path(__file__).resolve().parents[2] / "egs/an4/conf/todm_conformer.yaml"
TARGET = 0.10
"""Largest error of a prediction, as a share of the measurement."""
TRIAL = 0.01
"""Error within which depth and feed-forward sizes added up in a trial."""

Times = Mapping[Subnet, float]
"""Milliseconds of each subnet's encoder for the utterance."""


def unseen_subnets(experiment: Experiment, known: Sequence[Subnet], number: int) -> list[Subnet]:
    """Draw subnets that are not among those profiled."""
    rng = random.Random(1)
    found: dict[Subnet, None] = {}
    while len(found) < number:
        subnet = experiment.space.sample(rng)
        if subnet not in known:
            found[subnet] = None
    return list(found)


def in_turns(calls: Mapping[Subnet, Callable[[], object]], turns: int) -> dict[Subnet, float]:
    """Return the smallest processor time of every call in milliseconds; all calls run once in each turn."""
    for call in calls.values():
        call()
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(turns):
        for subnet, call in calls.items():
            start = time.process_time()
            call()
            best[subnet] = min(best[subnet], 1e3 * (time.process_time() - start))
    return best


def times_in_torch(experiment: Experiment, subnets: Sequence[Subnet], seconds: float, turns: int) -> Times:
    """Time the encoders of stand-alone models."""
    features = noise_features(experiment.model, seconds)
    lens = torch.tensor([len(features)])
    models = {subnet: experiment.model.extract(subnet).eval() for subnet in subnets}

    def encoder(subnet: Subnet) -> Callable[[], object]:
        return lambda: models[subnet].encode(features.unsqueeze(0), lens)

    with torch.inference_mode():
        return in_turns({subnet: encoder(subnet) for subnet in subnets}, turns)


def write_bundle(experiment: Experiment, subnets: Sequence[Subnet], folder: Path) -> None:
    """Export the subnets by the command."""
    names = [word for subnet in subnets for word in ("--subnet", subnet.to_json())]
    command = [sys.executable, "-c", "from slimasr.cli.export import main; main()", str(experiment.dir)]
    start = time.perf_counter()
    subprocess.run([*command, "--out", str(folder), *names], check=True, stdout=subprocess.DEVNULL)
    report_figures(
        "seconds of slimasr-export", seconds=time.perf_counter() - start, sizes=str(len(subnets)), target=None
    )


def times_in_onnxruntime(bundle: Path, experiment: Experiment, seconds: float, turns: int) -> Times:
    """Time the encoders of a bundle on one thread."""
    onnxruntime = needed("onnxruntime")

    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    features = noise_features(experiment.model, seconds).unsqueeze(0).numpy()
    inputs = {"x": features, "x_lens": np.array([features.shape[1]], np.int64)}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1

    def encoder(size: Mapping[str, Any]) -> Callable[[], object]:
        path = str(bundle / size["float"]["encoder"])
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, inputs)

    return in_turns({Subnet.from_dict(size["subnet"]): encoder(size) for size in manifest["sizes"]}, turns)


def times_of_profile(bundle: Path) -> Times:
    """Let run.py of a bundle measure it, as on a device, on one thread."""
    with tempfile.TemporaryDirectory(prefix="slimasr-") as root:
        path = Path(root) / "profile.json"
        command = [sys.executable, str(bundle / "run.py"), "profile", "--threads", "1", "--json", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return {Subnet.from_dict(row["subnet"]): row["encoder_ms"] for row in rows}


def compare(side: str, experiment: Experiment, asked: Sequence[Subnet], unseen: Sequence[Subnet], times: Times) -> None:
    """Fit the model to the subnets asked for, and print its errors on them and on the others."""
    table = terms_of_experiment(experiment)
    measured = [Measured(subnet.id, table.of_subnet(subnet), times[subnet]) for subnet in asked]
    found = fit(measured)

    def errors(subnets: Sequence[Subnet]) -> list[float]:
        return [abs(predict(found, table.of_subnet(s)) - times[s]) / times[s] for s in subnets]

    left_out = [item.error for item in leave_one_out(measured)]
    spread = [times[subnet] for subnet in [*asked, *unseen]]
    report_figures(
        f"error of predicted latency, {len(unseen)} unseen subnets, {side}",
        largest=max(errors(unseen)),
        mean=statistics.mean(errors(unseen)),
        target=TARGET,
        profiled=str(len(asked)),
        left_out_largest=max(left_out),
        left_out_mean=statistics.mean(left_out),
        fastest_ms=min(spread),
        slowest_ms=max(spread),
    )
    report_figures(
        f"distance of measurements from a sum over layers and sizes, {side}",
        largest=max(errors(asked)),
        mean=statistics.mean(errors(asked)),
        trial=TRIAL,
        target=None,
    )


def measure(
    sides: Sequence[str],
    preset: Path = PRESET,
    number: int = 12,
    seconds: float = 10.0,
    turns: int = 9,
    bundle: Path | None = None,
) -> None:
    """Measure and predict on each side.

    Args:
        sides: ``torch``, ``onnxruntime`` and ``profile``.
        preset: the recipe.
        number: unseen subnets.
        seconds: audio of an utterance.
        turns: turns of the first two sides.
        bundle: folder of the bundle, which is written if it does not exist; None = a temporary one.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="slimasr-") as root:
        experiment = write_experiment(Path(root) / "exp", preset)
        asked = to_profile(terms_of_experiment(experiment))
        unseen = unseen_subnets(experiment, asked, number)
        subnets = [*asked, *unseen]
        if "torch" in sides:
            compare("torch", experiment, asked, unseen, times_in_torch(experiment, subnets, seconds, turns))
        if {"onnxruntime", "profile"} & set(sides):
            bundle = bundle or Path(root) / "bundle"
            if not bundle.exists():
                write_bundle(experiment, subnets, bundle)
        if bundle is not None and "onnxruntime" in sides:
            times = times_in_onnxruntime(bundle, experiment, seconds, turns)
            compare("onnxruntime", experiment, asked, unseen, times)
        if bundle is not None and "profile" in sides:
            compare("run.py profile", experiment, asked, unseen, times_of_profile(bundle))


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", nargs="+", choices=("torch", "onnxruntime", "profile"))
    parser.add_argument("--preset", type=Path, default=PRESET)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--bundle", type=Path, help="folder of the bundle, used again where it exists")
    args = parser.parse_args()
    sides = args.sides or ("torch", "onnxruntime", "profile")
    measure(sides, args.preset, turns=args.turns, bundle=args.bundle)


if __name__ == "__main__":
    main()
