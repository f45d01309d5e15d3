#!/usr/bin/env bash
# Measure training on a GPU in eight minutes; each result is a line of JSON. Without a GPU: tiny models on the CPU.
#   PYTHON=path/to/python tools/bench/gpu.sh [--data folder] [--seconds 480] [--device cuda|cpu] [--parts name ...]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$(dirname "$here")")
python=${PYTHON:-$root/.venv/bin/python}
[ -x "$python" ] || python=$(command -v python3)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" "$here/gpu.py" "$@"
