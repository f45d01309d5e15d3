#!/usr/bin/env bash
# Run every benchmark, one after the other; each prints lines of JSON. Leave the machine alone meanwhile.
#   PYTHON=path/to/python tools/bench/run_all.sh [name ...]      (default: all)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$(dirname "$here")")
python=${PYTHON:-$root/.venv/bin/python}
[ -x "$python" ] || python=$(command -v python3)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
names=("$@")
if [ ${#names[@]} -eq 0 ]; then
  for file in "$here"/*.py; do
    case "$(basename "$file")" in common.py | data_side.py | flops.py | gpu_setting.py | made_up_data.py | steps.py | torchaudio_parts.py | untrained.py) continue ;; esac
    names+=("$(basename "$file" .py)")
  done
fi
failed=0
for name in "${names[@]}"; do
  "$python" "$here/$name.py" || { echo "$name failed" >&2; failed=1; }
done
exit $failed
