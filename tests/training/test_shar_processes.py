"""Two processes with loader workers, killed in the middle of a pass over shards and started again."""

from __future__ import annotations

import json
import multiprocessing
import signal
import socket
import time
from itertools import islice
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from slimasr.config.load import save_config
from slimasr.data.files import DataFolder, read_cuts
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.training.checkpoint import list_checkpoints
from tests.training.elastic_worker import main_of_rank
from tests.training.test_resume import write_tones
from tests.training.test_shar import config_of, stages

PROCESSES = 2
STEPS = 9
# Packages are imported once, in the process from which the others are forked; optimisers import the second one.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.training.elastic_worker", "torch._dynamo"])


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``config.yaml`` and ``data/``, whose training set is five shards of features."""
    folder = tmp_path_factory.mktemp("shar")
    write_tones(folder, range(9, 15), 4)
    config = config_of(num_workers=1, shar={"shard_cuts": 4})
    training = config.training.model_copy(update={"num_steps": STEPS, "epoch_steps": STEPS})
    config = config.model_copy(update={"training": training})
    save_config(config, folder / "config.yaml")
    stages(config, folder, folder / "data")
    return folder


def start(recipe: Path, exp: Path) -> list[ForkServerProcess]:
    """Start the processes of a training, which write down what they train on."""
    exp.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = recipe / "config.yaml", recipe / "data", exp
    processes = [FORKS.Process(target=main_of_rank, args=(rank, PROCESSES, port, *places)) for rank in range(PROCESSES)]
    for process in processes:
        process.start()
    return processes


def kill_in_mid_pass(processes: list[ForkServerProcess], exp: Path) -> int:
    """Kill all processes after some steps; return the number of steps that the newest checkpoint has."""
    deadline = time.monotonic() + 300
    while not list((exp / "checkpoints").glob("epoch-000-step-*.pt")) and time.monotonic() < deadline:
        assert all(process.is_alive() for process in processes), "training ended before it could be killed"
        time.sleep(0.002)
    for process in processes:
        process.kill()
    assert wait(processes) == [-signal.SIGKILL] * PROCESSES
    stopped = load_checkpoint(list_checkpoints(exp / "checkpoints")[-1])["state"]
    # In the middle of a block, of which each reader has made some batches.
    assert stopped["place"]["readers"] == PROCESSES and stopped["place"]["batch"] > 0
    return int(stopped["step"])


def wait(processes: list[ForkServerProcess]) -> list[int | None]:
    """The exit status of every process."""
    for process in processes:
        process.join(timeout=300)
    return [process.exitcode for process in processes]


def trained(exp: Path) -> dict[int, list[str]]:
    """Step -> the utterances on which all processes have trained in it."""
    found: dict[int, list[str]] = {}
    for line in (exp / "trained.jsonl").read_text().splitlines():
        entry = json.loads(line)
        found.setdefault(entry["step"], []).extend(entry["ids"])
    return found


def test_no_utterance_comes_twice_in_a_pass_that_was_killed(recipe: Path, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    done = kill_in_mid_pass(start(recipe, exp), exp)
    before = trained(exp)
    (exp / "trained.jsonl").unlink()
    assert wait(start(recipe, exp)) == [0] * PROCESSES
    after = trained(exp)
    assert list(after) == list(range(done, STEPS))
    listed = {cut.id for cut in read_cuts(DataFolder(recipe / "data").raw_cuts("train"), "")}
    seen = (name for step in (*range(done), *after) for name in (before if step < done else after)[step])
    # The pass in which the run was killed, and a part of the next one.
    first, second = list(islice(seen, len(listed))), list(seen)
    assert sorted(first) == sorted(listed)
    assert second and len(second) == len(set(second)) and set(second) <= listed
