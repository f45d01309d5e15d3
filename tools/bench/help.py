"""CPU time, which has a target, and wall-clock time of ``--help`` of every command, in fresh processes."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from common import report

from slimasr.cli.main import STAGES

CPU_SECONDS_AT_MOST = 0.5
REPEATS = 5


def seconds_of(module: str) -> tuple[float, float]:
    """Return median CPU and wall-clock seconds of a command's ``--help``, after one run that does not count."""
    command = [sys.executable, "-c", f"from slimasr.cli.{module} import main; main()", "--help"]
    cpu = []
    wall = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        # `wait4` returns the resources of this child alone.
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, module
        wall.append(time.perf_counter() - start)
        cpu.append(usage.ru_utime + usage.ru_stime)
    return statistics.median(cpu[1:]), statistics.median(wall[1:])


def main() -> None:
    """Measure all commands."""
    for module in ("main", *STAGES):
        name = "slimasr" if module == "main" else f"slimasr-{module}"
        cpu, wall = seconds_of(module)
        ratio = cpu / CPU_SECONDS_AT_MOST
        report(f"{name} --help, CPU seconds", cpu, CPU_SECONDS_AT_MOST, ratio, 1.0, wall_seconds=wall)


if __name__ == "__main__":
    main()
