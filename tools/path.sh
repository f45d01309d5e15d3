# Sourced by egs/<corpus>/path.sh: an active environment that has slimasr is used as it is. Otherwise .venv is used, and
# made first if it does not exist; $SLIMASR_SETUP, such as "--cpu", holds options of tools/setup.sh for that.
# shellcheck shell=bash
if ! command -v slimasr > /dev/null; then
  repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  # shellcheck disable=SC2086
  [ -x "$repository/.venv/bin/slimasr" ] || "$repository/tools/setup.sh" ${SLIMASR_SETUP:-}
  export PATH="$repository/.venv/bin:$PATH"
fi
