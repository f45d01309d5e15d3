#!/usr/bin/env bash
# Sets up .venv, then runs ruff, mypy and all tests. Arguments go to pytest: tools/test.sh tests/losses -k ctc
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/tools/setup.sh" --extras dev,demo,export,energy,graph,postgresql
cd "$root"
export PATH="$root/.venv/bin:$PATH" OMP_NUM_THREADS=1

ruff check slimasr tests tools
mypy
# Two workers with one thread each: the tests are many and small.
exec pytest -q -n 2 "$@"
