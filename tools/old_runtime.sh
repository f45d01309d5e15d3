#!/usr/bin/env bash
# Makes a Python with an old onnxruntime, in which tests run bundles, where it can, and prints its path. It never fails:
# the tests are skipped without it.
set -uo pipefail

# The oldest that run.py supports, and the oldest for Python 3.12.
versions=(1.15.1 1.17.1)
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for version in "${versions[@]}"; do
  folder=$PWD/build/onnxruntime-$version
  # Nothing but what a bundle needs: no pip, and nothing that onnxruntime needs for other purposes.
  if "$folder/bin/python" -c 'import onnxruntime' > /dev/null 2>&1 || {
    python3 -m venv --clear --without-pip "$folder" &&
      timeout 120 python3 -m pip --python "$folder/bin/python" install -qq --no-deps "onnxruntime==$version" "numpy<2" &&
      "$folder/bin/python" -c 'import onnxruntime'
  } > /dev/null 2>&1; then
    echo "$folder/bin/python"
    exit 0
  fi
done
echo "old runtime: onnxruntime ${versions[*]} cannot be installed here; tests of bundles in it are skipped" >&2
