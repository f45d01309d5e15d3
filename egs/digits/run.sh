#!/usr/bin/env bash
# Digit strings: a synthetic corpus made offline, or (--corpus fsdd) recorded digits. See --help and README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

recipe=digits
corpora="digits fsdd"
data_of() { case "$1" in *fsdd*) echo data_fsdd ;; *) echo data ;; esac; }

. ../../tools/recipe.sh
recipe_main "$@"
