#!/usr/bin/env bash
# Makes a Python with an old onnxruntime, in which tests run bundles, where it can, and prints its path. It never fails:
# the tests are skipped without it.
set -uo pipefail

version=1.17.1
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$PWD/build/onnxruntime-$version

if ! "$folder/bin/python" -c 'import onnxruntime' > /dev/null 2>&1; then
  # Nothing but what a bundle needs: no pip, and nothing that onnxruntime needs for other purposes.
  if ! { python3 -m venv --clear --without-pip "$folder" &&
    timeout 120 python3 -m pip --python "$folder/bin/python" install -qq --no-deps "onnxruntime==$version" "numpy<2" &&
    "$folder/bin/python" -c 'import onnxruntime'; } > /dev/null 2>&1; then
    echo "old runtime: onnxruntime $version cannot be installed here; tests of bundles in it are skipped" >&2
    exit 0
  fi
fi
echo "$folder/bin/python"
