#!/usr/bin/env bash
# Trains paper 4 at a small scale, with models, baselines and ablations, and writes RESULTS_orthosoftmax.md.
#   ./compare_orthosoftmax.sh [--jobs N] [--last-wave N] [options of run.sh ...]
# --jobs N: trains N models side by side (default: 1). --last-wave N: stops after wave N of 5, to look at what there is
# (default: 3; the fourth has the ablations of the paper's table 3 and a second seed, the fifth the other presets). Run it
# again to resume, or to go on with later waves.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

last=3
. ./path.sh
# shellcheck source-path=SCRIPTDIR source=../../tools/waves.sh
. ../../tools/waves.sh
waves_options "$@"

report() {
  slimasr-report "$@" --title "AN4, paper 4" --out report_orthosoftmax.html \
    --json results_orthosoftmax.json --results-md RESULTS_orthosoftmax.md --claims
}

# separate EXPERIMENT SUBNET OPTION...: runs a dedicated model.
separate() { run "orthosoftmax_separate_$1" --config conf/orthosoftmax_separate.yaml --set "method.subnet=$2" "${@:3}"; }

# The whole model, trained alone, chooses the scales with which all models are decoded.
largest=exp/orthosoftmax_separate_l6
./run.sh --stop-stage 3 --config conf/orthosoftmax.yaml "${options[@]}"
./run.sh --stage 4 --stop-stage 4 --config conf/orthosoftmax_separate.yaml --set method.subnet=max --exp "$largest" \
  "${options[@]}"
grep -qs '"tuned"' "$largest/graph.json" || slimasr-decode "$largest" --data "$data" --tune dev

separate l6 max
options+=(--scales "$largest")
preset orthosoftmax
preset orthosoftmax_exits
separate l4 w1-l4
separate l2 w1-l2
end_of_wave 1
preset orthosoftmax_macs_layer
preset orthosoftmax_params_component
preset orthosoftmax_top_k_macs_layer
preset orthosoftmax_top_k_macs_component
preset orthosoftmax_l0_params_layer
preset orthosoftmax_l0_params_component
end_of_wave 2
preset orthosoftmax_scale_0.1
preset orthosoftmax_scale_1
preset orthosoftmax_orthogonality_1
preset orthosoftmax_params_layer
end_of_wave 3
run orthosoftmax_seed1 --config conf/orthosoftmax.yaml --set seed=1
run orthosoftmax_exits_seed1 --config conf/orthosoftmax_exits.yaml --set seed=1
separate l6_seed1 max --set seed=1
separate l4_seed1 w1-l4 --set seed=1
separate l2_seed1 w1-l2 --set seed=1
preset orthosoftmax_no_annealing
preset orthosoftmax_no_adaptive_dropout
preset orthosoftmax_no_layer_dropout
end_of_wave 4
for row in scale_0.5 orthogonality_0.5 orthogonality_1.5 none_layer top_k_none_layer top_k_params_layer \
  top_k_params_component one four; do
  preset "orthosoftmax_$row"
done
end_of_wave "$last"
