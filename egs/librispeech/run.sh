#!/usr/bin/env bash
# LibriSpeech: 100 h, 960 h, or a few utterances to try the recipe on a laptop. See --help and README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

recipe=librispeech
corpora=librispeech
# Feature statistics and subwords belong to a train set, so each train set has its own folder.
data_of() {
  case "$1" in
    *mini*) echo data_mini ;;
    *overfit*) echo data_overfit ;;
    *960h*|*todm*|*collaborative*|*orthosoftmax*) echo data_960h ;;
    *) echo data ;;
  esac
}

# shellcheck source-path=SCRIPTDIR source=../../tools/recipe.sh
. ../../tools/recipe.sh
recipe_main "$@"
