#!/usr/bin/env bash
# TED-LIUM 2: segments of talks, 207 hours. See --help and README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

recipe=tedlium2
corpora=tedlium2
preset=conf/separate.yaml

# shellcheck source-path=SCRIPTDIR source=../../tools/recipe.sh
. ../../tools/recipe.sh
recipe_main "$@"
