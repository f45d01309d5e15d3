#!/usr/bin/env bash
# Trains paper 3 at a small scale, with models, baselines and ablations, and writes RESULTS_collaborative.md.
#   ./compare_collaborative.sh [--jobs N] [--last-wave N] [options of run.sh ...]
# --jobs N: trains N models side by side (default: 1). --last-wave N: stops after wave N of 6, to look at what there is
# (default: 5; the sixth has more ablations and a second seed). Run it again to resume, or to go on with later waves.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

last=5
. ./path.sh
# shellcheck source-path=SCRIPTDIR source=../../tools/waves.sh
. ../../tools/waves.sh
waves_options "$@"

report() {
  slimasr-report "$@" --title "AN4, paper 3" --out report_collaborative.html \
    --json results_collaborative.json --results-md RESULTS_collaborative.md --claims
}

# separate PRESET DEPTH...: runs dedicated models of some depths.
separate() {
  local preset=$1 depth
  for depth in "${@:2}"; do
    run "${preset}_l$depth" --config "conf/$preset.yaml" --set "method.subnet=l$depth"
  done
}

# weight LAMBDA: runs three branches with another weight of the frame classifiers.
weight() {
  run "collaborative_three_$1" --config conf/collaborative_three.yaml --set "loss.auxiliary.aux_weight=$1"
}

# A Conformer with a CTC head finds when every character is spoken; its best path is then improved three times.
./run.sh --stop-stage 3 --config conf/collaborative.yaml "${options[@]}"
./run.sh --stage 4 --stop-stage 4 --config conf/separate.yaml --set name=an4-aligner --exp exp/aligner "${options[@]}"
[ -e exp/aligner/alignments/states.json ] || slimasr-align exp/aligner --data "$data" \
  --set-name train --set-name dev --set-name test --realign 3 --states

separate collaborative_separate 10 7 5 4
preset collaborative
end_of_wave 1
preset collaborative_pj
preset collaborative_pj_lf
preset collaborative_pj_lf_ce
end_of_wave 2
preset collaborative_three
preset collaborative_three_unshared
end_of_wave 3
preset collaborative_two
separate collaborative_separate_ce 10 7 4
end_of_wave 4
weight 0.05
weight 0.3
weight 0.2
end_of_wave 5
preset collaborative_pj_ce
preset collaborative_pj_ce_kl
for depth in 10 7 5; do
  run "collaborative_separate_l${depth}_seed1" --config conf/collaborative_separate.yaml \
    --set "method.subnet=l$depth" --set seed=1
done
run collaborative_seed1 --config conf/collaborative.yaml --set seed=1
run collaborative_no_positions --config conf/collaborative.yaml --set model.encoder.position=none
end_of_wave "$last"
