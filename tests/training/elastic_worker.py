"""One process of a run that stops: ``torchrun -m tests.training.elastic_worker CONFIG DATA EXP STEPS``.

It trains as the command does and stops after ``STEPS`` steps (0: not at all). It adds what it trained on to
``EXP/trained.jsonl``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch.distributed as dist

from slimasr.config.load import load_config
from slimasr.training.step import Stepper
from slimasr.training.trainer import train


def main(config: Path, data: Path, exp: Path, steps: int) -> None:
    """Run this process's share."""
    taken = 0
    step = Stepper.step

    def noted(self: Stepper, batches: Any, context: Any) -> Any:
        nonlocal taken
        taken += 1
        ids = [name for batch in batches for name in batch.ids]
        result = step(self, batches, context)
        entry = {"epoch": context.epoch, "step": context.step, "lr": result.lr, "ids": ids}
        with open(exp / "trained.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        return result

    def until(items: Iterable[Any], total: int | None = None, label: str = "") -> Iterator[Any]:
        for item in items:
            yield item
            if label.startswith("epoch") and taken == steps:
                if dist.is_initialized():
                    dist.barrier()  # the main process has written its checkpoint
                os._exit(0)

    Stepper.step = noted  # type: ignore[method-assign]
    train(load_config(config), data, exp, progress=until)


def main_of_rank(rank: int, size: int, port: int, config: Path, data: Path, exp: Path) -> None:
    """Run the share of one process that ``torchrun`` did not start, and do not stop."""
    # The workers of its loader are forked as well.
    multiprocessing.set_start_method("fork", force=True)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(address, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
    main(config, data, exp, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
