"""A bundle against a file for each size: bytes, time to open, time of the encoder, memory; int8 against float32.

Both sides are made of the same supernet with random weights in one run: all widths as a bundle, whose graphs slice one
file of weights, and each width as a self-contained file. Times are processor times on one thread, of which the minimum
of several turns counts; in each turn every file runs once. The time to export and the time to open another size of a
bundle are wall-clock times.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from common import report, report_figures, resident_bytes

from slimasr.config.load import load_config
from slimasr.export.session import Session
from slimasr.export.writer import BundleOptions, encoder_file, write_graphs
from slimasr.models.base import SpeechModel
from slimasr.models.build import build_model, head_names
from slimasr.supernet.build import build_space
from slimasr.supernet.subnet import Subnet

EGS = Path(__file__).resolve().parents[2] / "egs"
LARGE = EGS / "librispeech/conf/slimmable_30M.yaml"
SMALL = EGS / "an4/conf/slimmable.yaml"
VOCAB_SIZE = 500
BYTES, ENCODER, LOAD, LOAD_INT8, INT8, SWITCH = 0.6, 1.05, 1.3, 2.0, 0.65, 100.0
"""Targets: ratios of bundle to separate files, of int8 to float32, and milliseconds of a switch."""


def supernet(preset: Path) -> tuple[SpeechModel, list[Subnet]]:
    """Build a preset's model with random weights, and list its widths from the largest."""
    config = load_config(preset)
    space = build_space(config)
    torch.manual_seed(0)
    model = build_model(config.model, None, VOCAB_SIZE, space.widths, head_names(config)).eval()
    return model, sorted(space, key=lambda subnet: -subnet.width)


def write_both(model: SpeechModel, subnets: Sequence[Subnet], folder: Path) -> dict[str, Path]:
    """Write the sizes as a bundle and as separate files, and report how long the bundle took."""
    sides = {"bundle": folder / "bundle", "separate": folder / "separate"}
    for name, side in sides.items():
        side.mkdir()
        start = time.perf_counter()
        write_graphs(model, side, subnets, BundleOptions(int8=True, standalone=name == "separate"))
        seconds = time.perf_counter() - start
        report_figures(f"seconds to write {name}", seconds=seconds, sizes=str(len(subnets)), target=None)
    return sides


def encoders(folder: Path, subnets: Sequence[Subnet], *, int8: bool) -> dict[Subnet, Path]:
    """Return the files of the encoders."""
    return {subnet: folder / encoder_file(subnet, int8=int8) for subnet in subnets}


def total_bytes(folder: Path, *, int8: bool) -> int:
    """Return the bytes of all encoders and their weights in one precision."""
    return sum(path.stat().st_size for path in folder.iterdir() if ("int8" in path.name) == int8 and holds(path))


def holds(path: Path) -> bool:
    """Return whether a file belongs to encoders."""
    return path.name.startswith(("encoder", "weights"))


def fastest(calls: Mapping[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Return the smallest processor time of each call in milliseconds."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(turns + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            best[name] = min(best[name], 1e3 * (time.process_time() - start))
    return best


def compare(
    title: str, sides: Mapping[str, Path], subnets: Sequence[Subnet], frames: int, bins: int, turns: int
) -> None:
    """Report bytes, time to open and time of the encoder of every size, in both precisions."""
    x, lens = torch.randn(1, frames, bins), torch.tensor([frames])
    times: dict[tuple[Subnet, bool], float] = {}
    for int8 in (False, True):
        kind = "int8" if int8 else "float"
        ours, other = (float(total_bytes(folder, int8=int8)) for folder in sides.values())
        report(f"{title}: bytes in {kind}", ours, other, ours / other, BYTES)
        for subnet in subnets:
            paths = {name: encoders(folder, subnets, int8=int8)[subnet] for name, folder in sides.items()}
            opened = fastest({name: partial(Session, path) for name, path in paths.items()}, turns)
            target = LOAD_INT8 if int8 else LOAD
            ours, other = opened.values()
            report(f"{title}: ms to open {subnet.id} in {kind}", ours, other, ours / other, target)
            sessions = {name: Session(path) for name, path in paths.items()}
            ran = fastest({name: partial(session.run, x, lens) for name, session in sessions.items()}, turns)
            ours, other = ran.values()
            report(f"{title}: encoder ms of {subnet.id} in {kind}", ours, other, ours / other, ENCODER)
            times[subnet, int8] = ours
    for subnet in subnets:
        integers, floats = times[subnet, True], times[subnet, False]
        bound = INT8 if title == "30 M" and subnet == subnets[0] else None
        report(f"{title}: encoder ms of {subnet.id}, int8 / float", integers, floats, integers / floats, bound)


def memory(sides: Mapping[str, Path], subnet: Subnet) -> None:
    """Report the resident memory of a process that has opened and run one size."""
    used = {}
    for name, folder in sides.items():
        command = [sys.executable, __file__, "--resident-of", str(folder / encoder_file(subnet))]
        used[name] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    ours, other = used.values()
    report(f"30 M: resident MB added by {subnet.id}", ours, other, ours / other, None)


def resident_of(path: Path, bins: int = 80) -> None:
    """Print by how many megabytes this process grows when it opens and runs a file."""
    before = resident_bytes("VmRSS")
    session = Session(path)
    session.run(torch.randn(1, 1000, bins), torch.tensor([1000]))
    print((resident_bytes("VmRSS") - before) / 1e6)


def switch(folder: Path, subnets: Sequence[Subnet]) -> None:
    """Report how long it takes to open another size of a bundle while one is open."""
    first = Session(folder / encoder_file(subnets[0]))
    for subnet in subnets[1:]:
        start = time.perf_counter()
        Session(folder / encoder_file(subnet))
        milliseconds = 1e3 * (time.perf_counter() - start)
        report_figures(f"AN4: ms to switch to {subnet.id}", ours=milliseconds, target=SWITCH)
    del first


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the utterance")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--sizes", choices=["small", "large", "both"], default="both")
    parser.add_argument("--resident-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.resident_of:
        resident_of(options.resident_of)
        return
    frames = round(100 * options.seconds)
    for size, title, preset in (("small", "AN4", SMALL), ("large", "30 M", LARGE)):
        if options.sizes not in (size, "both"):
            continue
        model, subnets = supernet(preset)
        with tempfile.TemporaryDirectory(prefix="slimasr-") as folder:
            sides = write_both(model, subnets, Path(folder))
            compare(title, sides, subnets, frames, model.config.num_mel_bins, options.turns)
            if size == "small":
                switch(sides["bundle"], subnets)
            else:
                memory(sides, subnets[-1])


if __name__ == "__main__":
    main()
