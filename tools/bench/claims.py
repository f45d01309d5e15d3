"""Milliseconds per candidate of the study that workers share, without the evaluation: history, claim and outcome.

    claims.py            the other side adds the same number of trials to an optuna study, and does nothing else
    claims.py CHECKOUT   the other side is the same work in another version, whose folder is named

Candidates are subnets of paper 2's space, 16 layers with four sizes each, in an SQLite file. Both sides run in
processes of their own and take turns, ten candidates each, so that what else the machine does slows both alike. Each
line has medians over 300 candidates; the processor's time is next to the wall clock's.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import optuna
from common import report

from slimasr.search.database import Database, default_url
from slimasr.search.generator import Proposal
from slimasr.search.nsga2 import distributions
from slimasr.search.study import Outcome, Study
from slimasr.supernet.front import Limits
from slimasr.supernet.space import LayerSpace
from slimasr.supernet.subnet import Subnet

SPACE = LayerSpace((16, 13, 9), (("ffn", (512, 1024, 2048, 4096)),))
COSTS = {"params": 29.1e6, "macs": 1.2e9, "int8_bytes": 31.0e6}
PARTS = 5
PART = 300
TURN = 10


def through_study(database: Database) -> Callable[[Subnet], float]:
    """A function that takes one subnet through the study and returns the seconds that its history took."""
    study = Study(database, "study", SPACE, {}, "params", Limits())

    def take(subnet: Subnet) -> float:
        start = time.perf_counter()
        study.history()
        seconds = time.perf_counter() - start
        claim = study.claim(Proposal(subnet, 1), COSTS)
        assert claim is not None
        assert study.finish(claim, Outcome(7, 100, 1.0, False, 1.0))
        return seconds

    return take


def through_optuna(database: Database) -> Callable[[Subnet], float]:
    """The same with no more than a trial."""
    study = optuna.create_study(storage=database.storage, directions=["minimize", "minimize"])

    def take(subnet: Subnet) -> float:
        genes = SPACE.genes_of(subnet)
        choices = {name: distribution for name, distribution in distributions(SPACE).items() if name in genes}
        attributes = {"id": subnet.id, **COSTS}
        study.add_trial(
            optuna.trial.create_trial(values=[7.0, 1.0], params=genes, distributions=choices, user_attrs=attributes)
        )
        return 0.0

    return take


def run_side(side: str) -> None:
    """For every line of standard input take a turn, and print the seconds of each candidate as JSON."""
    rng = random.Random(0)
    subnets = iter(dict.fromkeys(SPACE.sample(rng) for _ in range(2 * PARTS * PART)))
    with tempfile.TemporaryDirectory() as folder:
        database = Database(default_url(Path(folder)), patience=60.0, heartbeat_seconds=10)
        take = through_study(database) if side == "study" else through_optuna(database)
        for _ in sys.stdin:
            turn = []
            for _ in range(TURN):
                subnet = next(subnets)
                wall = time.perf_counter()
                processor = time.process_time()
                history = take(subnet)
                turn.append((time.perf_counter() - wall, time.process_time() - processor, history))
            print(json.dumps(turn), flush=True)


def start_side(side: str, checkout: str) -> subprocess.Popen[str]:
    """A process of this script on the package of a checkout."""
    command = [sys.executable, __file__, "--side", side]
    environment = {**os.environ, "PYTHONPATH": checkout}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def take_turn(side: subprocess.Popen[str]) -> list[list[float]]:
    """Seconds of each candidate: wall clock, processor, and wall clock of its history."""
    assert side.stdin is not None
    assert side.stdout is not None
    side.stdin.write("next\n")
    side.stdin.flush()
    turn: list[list[float]] = json.loads(side.stdout.readline())
    return turn


def medians(candidates: list[list[float]]) -> list[float]:
    """The median of every column, in milliseconds."""
    return [1000 * statistics.median(column) for column in zip(*candidates, strict=True)]


def main() -> None:
    """Both sides, part by part."""
    if "--side" in sys.argv:
        run_side(sys.argv[-1])
        return
    here = str(Path(__file__).resolve().parents[2])
    ours = start_side("study", here)
    other = start_side("study", sys.argv[1]) if len(sys.argv) > 1 else start_side("optuna", here)
    against = sys.argv[1] if len(sys.argv) > 1 else "optuna's add_trial alone"
    target = 1.0 if len(sys.argv) > 1 else None
    for part in range(1, PARTS + 1):
        mine: list[list[float]] = []
        theirs: list[list[float]] = []
        for _ in range(PART // TURN):
            mine += take_turn(ours)
            theirs += take_turn(other)
        wall, processor, history = medians(mine)
        other_wall, other_processor, other_history = medians(theirs)
        extra = {"processor": processor, "other_processor": other_processor}
        extra |= {"history": history, "other_history": other_history}
        title = f"study, ms per candidate up to candidate {part * PART}, against {against}"
        report(title, wall, other_wall, wall / other_wall, target, **extra)
    for side in (ours, other):
        side.communicate()


if __name__ == "__main__":
    main()
