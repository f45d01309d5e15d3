# Sourced by egs/<corpus>/path.sh: puts .venv on the path, making it first where it is absent. Once it is there,
# tools/setup.sh is the way to change it. An environment that already has slimasr active is used as it is.
# shellcheck shell=bash
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ -x "$repository/.venv/bin/slimasr" ]; then
  PATH="$repository/.venv/bin:$PATH"
elif ! command -v slimasr > /dev/null; then
  # shellcheck disable=SC2086
  "$repository/tools/setup.sh" ${SLIMASR_SETUP:-}
  PATH="$repository/.venv/bin:$PATH"
fi
export PATH
