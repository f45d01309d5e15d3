"""A worker of the stress test of claims: races for every subnet of a space, and is sometimes killed at work."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from optuna.trial import FrozenTrial

from slimasr.search.database import Database
from slimasr.search.generator import Proposal
from slimasr.search.study import Outcome, Study
from slimasr.supernet.front import Limits
from tests.search.kit import SPACE, count

RACED = list(SPACE)[:24]
POINTS = ("at work", "after the trial was added")


def main(url: str, log: Path, seed: int, deaths: float) -> None:
    """Measure until everything is measured; every evaluation is a line of the log."""
    rng = random.Random(seed)
    study = Study(Database(url, patience=60.0, heartbeat_seconds=1), "race", SPACE, {}, "params", Limits())

    def may_die(at: str) -> None:
        # A worker is killed at most once per subnet, because a study gives a subnet up after three failures.
        grave = log.with_name(f"died over {subnet.id}")
        if where == at and not grave.exists():
            grave.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def add_trial(trial: FrozenTrial) -> None:
        add(trial)
        may_die("after the trial was added")

    add = study._study.add_trial
    study._study.add_trial = add_trial  # type: ignore[method-assign]
    while True:
        history = study.history()
        free = [subnet for subnet in RACED if subnet not in history]
        if not free:
            if not history.select("running"):
                return
            time.sleep(0.05)
            study.reap()
            continue
        # The first few, so that workers collide all the time.
        subnet = rng.choice(free[:3])
        claim = study.claim(Proposal(subnet), count(subnet))
        if claim is None:
            continue
        where = rng.choice(POINTS) if rng.random() < deaths else ""
        with study.alive(claim):
            may_die("at work")
            with log.open("a") as lines:
                lines.write(f"{subnet.id} {os.getpid()}\n")
        assert study.finish(claim, Outcome(7, 100, 1.0, False, 0.0))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
