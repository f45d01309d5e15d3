#!/usr/bin/env bash
# Trains paper 2 at a small scale, with models, baselines and ablations, and writes RESULTS_todm.md or
# RESULTS_todm_conformer.md.
#   ./compare_todm.sh [--encoder mh_ssm|conformer] [--grid] [options of run.sh ...]
# --grid: also trains with other classes of the distillation, and with ScaledAdam from the start. Run it again to resume.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

encoder=mh_ssm grid=false
while true; do
  case ${1:-} in
    --encoder) encoder=${2:-nothing}; shift $(($# > 1 ? 2 : 1)) ;;
    --grid) grid=true; shift ;;
    *) break ;;
  esac
done
case $encoder in
  mh_ssm) prefix=todm title=MH-SSM modules=(ffn) ;;
  conformer) prefix=todm_conformer title=Conformer modules=(ffn1 ffn2) ;;
  *) echo "compare_todm.sh: --encoder must be mh_ssm or conformer, not $encoder" >&2; exit 2 ;;
esac

# Prints the medium one of the separate models: six layers with half the FFN channels.
medium() {
  local layer module sizes=()
  for layer in 0 1 2 3 4 5; do
    for module in "${modules[@]}"; do sizes+=("\"$layer.$module\": 192"); done
  done
  printf '{"path": [0, 1, 2, 3, 4, 5], "units": {%s}}' "$(IFS=,; echo "${sizes[*]}")"
}

experiments=()
# run EXPERIMENT OPTION...: trains, searches, decodes and scores an experiment, which the report then includes.
run() {
  ./run.sh --stage 4 --stop-stage 7 --exp "exp/$1" "${@:2}"
  experiments+=("exp/$1")
}

./run.sh --stop-stage 3 --config "conf/$prefix.yaml" "$@"
for variant in "" _layers _channels _dropout _kl _alpha _exits; do
  run "$prefix$variant" --config "conf/$prefix$variant.yaml" "$@"
done
if $grid; then
  for divergence in kl alpha; do
    taught=(--config "conf/${prefix}_$divergence.yaml")
    run "${prefix}_${divergence}_target" "${taught[@]}" --set loss.distillation.classes=target_blank "$@"
    run "${prefix}_${divergence}_20" "${taught[@]}" --set loss.distillation.num_kd_tokens=20 "$@"
  done
  adam='training.optimizer={kind: scaled_adam, lr: 1.9e-2}'
  run "${prefix}_scaled_adam" --config "conf/${prefix}_dropout.yaml" --set "$adam" "$@"
fi
for size in max medium min; do
  subnet=$size
  [ "$size" != medium ] || subnet=$(medium)
  run "${prefix}_separate_$size" --config "conf/${prefix}_separate.yaml" --set "method.subnet=$subnet" "$@"
done

. ./path.sh
. ../../tools/data_option.sh
slimasr-align "exp/${prefix}_separate_max" --data "$(data_option "$@")" --source transducer
run "${prefix}_frames" --config "conf/${prefix}_frames.yaml" \
  --set "loss.alignments=exp/${prefix}_separate_max/alignments" "$@"
slimasr-report "${experiments[@]}" --title "AN4, paper 2, $title" --out "report_$prefix.html" \
  --json "results_$prefix.json" --results-md "RESULTS_$prefix.md" --claims
