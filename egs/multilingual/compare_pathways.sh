#!/usr/bin/env bash
# Trains paper 5 at a small scale, with models, baselines and ablations, and writes RESULTS.md.
#   ./compare_pathways.sh [--jobs N] [--last-wave N] [options of run.sh ...]
# --jobs N: trains N models side by side (default: 1). --last-wave N: stops after wave N of 9, to look at what there is
# (default: 8; the ninth has the ablations). Run it again to resume, or to go on with later waves.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

languages=(en fr nl it)
last=8
. ./path.sh
# shellcheck source-path=SCRIPTDIR source=../../tools/waves.sh
. ../../tools/waves.sh
waves_options "$@"

report() {
  slimasr-report "$@" --title "Digits in four languages, paper 5" --out report.html \
    --json results.json --results-md RESULTS.md --claims
}

# Stages 1 and 2 also make the dev sets of one and of two languages. All others start from the dense model, and those with
# several pathways from the masks of waves 2, 3 and 7.
every=test-en,test-fr,test-it,test-nl,dev-en,dev-fr,dev-it,dev-nl,dev-fr+dev-nl
./run.sh --stop-stage 3 --config conf/dense.yaml "${options[@]}" --set "data.test=[$every]"
./run.sh --stage 4 --stop-stage 4 --config conf/dense.yaml "${options[@]}"

preset dense
for_each unpruned space.languages
end_of_loose_wave 1
for_each lth space.languages
end_of_loose_wave 2
preset lap
end_of_loose_wave 3
for_each lth_adaptive space.languages
end_of_wave 4
preset pathways_lth70
preset dynamic_lth50
end_of_loose_wave 5
preset pathways_two_lth70
preset pathways_two_lap70
for masks in lth70 lth50 lap70 lap50; do preset "dynamic_two_$masks"; done
end_of_loose_wave 6
for_each imp space.languages
wait_for_runs
preset pathways_imp70
for_each imp_adaptive space.languages
end_of_loose_wave 7
preset dynamic_two_lth20
preset dynamic_two_lap20
for_each dense_small
end_of_loose_wave 8
for row in n50 n500 no_residual no_zeroing keep_moments; do preset "dynamic_two_$row"; done
end_of_wave "$last"
