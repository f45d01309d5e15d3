#!/usr/bin/env bash
# Trains paper 5 on recorded English and Arabic digits, and writes RESULTS_spoken_digits.md.
#   ./compare_spoken_digits.sh [--jobs N] [--last-wave N] [options of run.sh ...]
# --jobs N: trains N models side by side (default: 1). --last-wave N: stops after wave N of 2 (default: 2). Run it again to
# resume, or to go on with the later wave.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

languages=(en ar)
last=2
. ./path.sh
# shellcheck source-path=SCRIPTDIR source=../../tools/waves.sh
. ../../tools/waves.sh
waves_options "$@"
options=(--corpus spoken_digits "${options[@]}")

report() {
  slimasr-report "$@" --title "Recorded digits in two languages, paper 5" --out report_spoken_digits.html \
    --json results_spoken_digits.json --results-md RESULTS_spoken_digits.md --claims
}

# Stages 1 and 2 also make the dev sets of one language. All others start from the dense model.
./run.sh --stop-stage 3 "${options[@]}" --set "data.test=[test-en,test-ar,dev-en,dev-ar]"
./run.sh --stage 4 --stop-stage 4 "${options[@]}"

preset spoken_digits
for_each spoken_digits_lth space.languages
for_each spoken_digits_lth_adaptive space.languages
end_of_wave 1
preset spoken_digits_pathways_lth70
preset spoken_digits_dynamic_lth50
end_of_wave "$last"
