"""CPU time, which has a target, and wall-clock time of ``--help`` of every command, in fresh processes."""

from __future__ import annotations

import statistics
import sys

from common import ChildSeconds, child_seconds, report

from slimasr.cli.main import STAGES

CPU_SECONDS_AT_MOST = 0.5
REPEATS = 5


def seconds_of(module: str) -> ChildSeconds:
    """Return median times of a command's ``--help``, after one run that does not count."""
    command = [sys.executable, "-c", f"from slimasr.cli.{module} import main; main()", "--help"]
    seconds = [child_seconds(command) for _ in range(REPEATS + 1)]
    cpu, wall = zip(*seconds[1:], strict=True)
    return ChildSeconds(statistics.median(cpu), statistics.median(wall))


def main() -> None:
    """Measure all commands."""
    for module in ("main", *STAGES):
        name = "slimasr" if module == "main" else f"slimasr-{module}"
        cpu, wall = seconds_of(module)
        ratio = cpu / CPU_SECONDS_AT_MOST
        report(f"{name} --help, CPU seconds", cpu, CPU_SECONDS_AT_MOST, ratio, 1.0, wall_seconds=wall)


if __name__ == "__main__":
    main()
