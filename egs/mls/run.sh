#!/usr/bin/env bash
# Multilingual LibriSpeech: read books in English, French, Italian and Dutch, 47,600 hours. See --help and README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

recipe=mls
corpora=mls
preset=conf/dense.yaml

# shellcheck source-path=SCRIPTDIR source=../../tools/recipe.sh
. ../../tools/recipe.sh
recipe_main "$@"
