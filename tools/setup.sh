#!/usr/bin/env bash
# Makes .venv with everything that slimasr needs, at the versions of constraints.txt. It returns at once if nothing has
# changed.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: tools/setup.sh [--cpu] [--extras LIST]

  --cpu          install PyTorch's CPU build, also where the default index has the CUDA build
  --extras LIST  optional parts, separated by commas: demo, dev, export, energy, graph, microphone, postgresql
                 (default: demo)

PYTHON=/path/to/python3 chooses the interpreter (3.10 or newer).
EOF
}

fail() {
  echo "error: $*" >&2
  exit 1
}

extras=demo
cpu=false
while [ $# -gt 0 ]; do
  case "$1" in
    --cpu) cpu=true ;;
    --extras) extras=${2:?--extras needs a list}; shift ;;
    -h|--help) usage; exit 0 ;;
    *) usage >&2; fail "unknown option $1" ;;
  esac
  shift
done

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
# The name of the stamp depends on all that set-up depends on.
stamp=$venv/set-up-$( (echo "$root $extras"; cat "$root/pyproject.toml" "$root/constraints.txt") | sha256sum | cut -c 1-16)
[ ! -e "$stamp" ] || exit 0

if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -m pip --version > /dev/null 2>&1; then
  python=${PYTHON:-python3}
  command -v "$python" > /dev/null || fail "$python not found; install Python 3.10 or newer, or set PYTHON"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$("$python" --version) is too old; install Python 3.10 or newer, or set PYTHON"
  "$python" -c 'import ensurepip, venv' 2> /dev/null ||
    fail "$python has no venv module; on Debian and Ubuntu: sudo apt install python3-venv"
  echo "setup: making $venv with $("$python" --version)" >&2
  "$python" -m venv --clear "$venv"
fi

pip_install() {
  "$venv/bin/python" -m pip install -qq --disable-pip-version-check --constraint "$root/constraints.txt" "$@"
}

if $cpu && ! "$venv/bin/python" -m pip show -q torch 2> /dev/null; then
  # Its version is 2.13.0+cpu, which pip prefers to a plain 2.13.0. Everything else comes from the default index.
  echo "setup: installing PyTorch's CPU build" >&2
  pip_install --no-deps --retries 1 --extra-index-url https://download.pytorch.org/whl/cpu torch
fi

echo "setup: installing slimasr[$extras]" >&2
pip_install setuptools
pip_install --no-build-isolation --editable "${root}[$extras]"
if $cpu && ! "$venv/bin/python" -c 'import sys, torch; sys.exit(torch.version.cuda is not None)'; then
  echo "setup: this torch is the CUDA build (it was here before, or the CPU index did not answer); it runs on CPU too" >&2
fi
touch "$stamp"
