#!/usr/bin/env bash
# Digit strings in four languages, made offline, or (--corpus) recorded digits or telephone prompts. See --help and README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

recipe=multilingual
corpora="digits spoken_digits prompts"
preset=conf/dense.yaml
data_of() {
  case "$1" in
    *spoken_digits*) echo data_spoken_digits ;;
    *prompts*) echo data_prompts ;;
    *) echo data ;;
  esac
}
threads=1 # as training.num_threads

# shellcheck source-path=SCRIPTDIR source=../../tools/recipe.sh
. ../../tools/recipe.sh
recipe_main "$@"
