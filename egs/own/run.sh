#!/usr/bin/env bash
# Your own speech, in any of the formats of docs/own_data.md. See --help and README.md.
set -euo pipefail
user_dir=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")"

recipe=own
corpora=own
corpus_words="find the speech and its formats"
preset=conf/small.yaml
preset_words="conf/small, medium or large.yaml, by the hours found"

# shellcheck source-path=SCRIPTDIR source=options.sh
. ./options.sh
# shellcheck source-path=SCRIPTDIR source=../../tools/recipe.sh
. ../../tools/recipe.sh
# Paths on the command line and in configurations are relative to the user's folder.
cd "$user_dir"
recipe_main "$@"
