#!/usr/bin/env bash
# Digit strings: a synthetic corpus made offline, or (--corpus fsdd) recorded digits. See --help and README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

recipe=digits
corpora="digits fsdd"
data_of() { case "$1" in *fsdd*) echo data_fsdd ;; *) echo data ;; esac; }
# With models of this size, decoding and searching take as long with one thread as with two on a quiet machine, and half
# as long if another process needs the processor.
threads=1

# shellcheck source-path=SCRIPTDIR source=../../tools/recipe.sh
. ../../tools/recipe.sh
recipe_main "$@"
