#!/usr/bin/env bash
# Trains paper 3 at a small scale, with models, baselines and ablations, and writes RESULTS_collaborative.md.
#   ./compare_collaborative.sh [--jobs N] [--last-wave N] [options of run.sh ...]
# --jobs N: trains N models side by side (default: 1). --last-wave N: stops after wave N of 6, to look at what there is
# (default: 5; the sixth has more ablations and a second seed). Run it again to resume, or to go on with later waves.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

jobs=1 last=5
while true; do
  case ${1:-} in
    --jobs) jobs=${2:-nothing}; shift $(($# > 1 ? 2 : 1)) ;;
    --last-wave) last=${2:-nothing}; shift $(($# > 1 ? 2 : 1)) ;;
    *) break ;;
  esac
done
for number in "$jobs" "$last"; do
  case $number in
    [1-9]) ;;
    *) echo "compare_collaborative.sh: --jobs and --last-wave need a number from 1 to 9, not $number" >&2; exit 2 ;;
  esac
done

. ./path.sh
. ../../tools/data_option.sh
data=$(data_option "$@")
options=("$@")
experiments=()
running=()

# run EXPERIMENT OPTION...: trains, searches, decodes and scores an experiment, which the report then includes.
run() {
  local command=(./run.sh --stage 4 --stop-stage 7 --exp "exp/$1" "${@:2}" ${options[@]+"${options[@]}"})
  experiments+=("exp/$1")
  if [ "$jobs" -eq 1 ]; then
    "${command[@]}"
    return
  fi
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do sleep 1; done
  "${command[@]}" &
  running+=($!)
}

# separate PRESET DEPTH...: runs dedicated models of some depths.
separate() {
  local preset=$1 depth
  for depth in "${@:2}"; do
    run "${preset}_l$depth" --config "conf/$preset.yaml" --set "method.subnet=l$depth"
  done
}

# preset NAME OPTION...: runs a preset as it is, or with other options.
preset() { run "$1" --config "conf/$1.yaml" "${@:2}"; }

# weight LAMBDA: runs three branches with another weight of the frame classifiers.
weight() {
  run "collaborative_three_$1" --config conf/collaborative_three.yaml --set "loss.auxiliary.aux_weight=$1"
}

# end_of_wave NUMBER: waits for all runs, and ends the script if one has failed; after the last wave, writes the report.
end_of_wave() {
  local pid failed=0
  for pid in ${running[@]+"${running[@]}"}; do wait "$pid" || failed=1; done
  running=()
  [ "$failed" -eq 0 ] || { echo "compare_collaborative.sh: a run of wave $1 failed, see above" >&2; exit 1; }
  [ "$last" -eq "$1" ] || return 0
  slimasr-report "${experiments[@]}" --title "AN4, paper 3" --out report_collaborative.html \
    --json results_collaborative.json --results-md RESULTS_collaborative.md --claims
  exit 0
}

# A Conformer with a CTC head finds when every character is spoken; its best path is then improved three times.
./run.sh --stop-stage 3 --config conf/collaborative.yaml "$@"
./run.sh --stage 4 --stop-stage 4 --config conf/separate.yaml --set name=an4-aligner --exp exp/aligner "$@"
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
