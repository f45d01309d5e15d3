#!/usr/bin/env bash
# Compares fine-tuning with training from scratch on the same number of epochs, and writes RESULTS_finetune_an4.md and
# RESULTS_finetune_fsdd.md: AN4 from a model of half an hour of LibriSpeech, recorded digits from synthetic ones.
#   ./compare_finetune.sh [--jobs N] [--last-wave N] [options of run.sh ...]
# --jobs N: trains N models side by side (default: 1). --last-wave N: 1 = AN4 alone, 2 = both (default: 2). Each corpus has
# a data folder of its own, data_<corpus>. Run it again to resume.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

last=2
. ./path.sh
# shellcheck source-path=SCRIPTDIR source=../../tools/waves.sh
. ../../tools/waves.sh
waves_options "$@"
if [ "$data" != data ]; then
  echo "compare_finetune.sh: each corpus has a data folder of its own; leave --data out" >&2
  exit 2
fi
epochs=(5 10 20)

# start NAME CORPUS: makes the data of a corpus and trains the model with which others begin.
start() {
  ./run.sh --stop-stage 4 --config "conf/$1.yaml" --data "data_$2" --exp "exp/$1" "${options[@]}"
}

# compare CORPUS TITLE: trains a corpus from scratch and from its start for each number of epochs, and writes the report.
compare() {
  local corpus=$1 number
  local from=(--config "conf/finetune_$corpus.yaml" --data "data_$corpus")
  experiments=()
  ./run.sh --stop-stage 3 "${from[@]}" "${options[@]}"
  for number in "${epochs[@]}"; do
    run "${corpus}_scratch_$number" "${from[@]}" --set "training.num_epochs=$number" --set training.init=null
    run "${corpus}_finetuned_$number" "${from[@]}" --set "training.num_epochs=$number"
  done
  wait_for_runs
  slimasr-report "${experiments[@]}" --title "$2" --out "report_finetune_$corpus.html" \
    --json "results_finetune_$corpus.json" --results-md "RESULTS_finetune_$corpus.md"
}

start start_librispeech librispeech
compare an4 "AN4 after a start from LibriSpeech"
[ "$last" -gt 1 ] || exit 0
start start_digits digits
compare fsdd "Recorded digits after a start from synthetic ones"
