#!/usr/bin/env bash
# Trains everything that RESULTS.md reports, and writes RESULTS.md: slimmable training, its variants, and a separate
# model of each size. Options are passed on to run.sh (--corpus-dir, --cmd, ...). Run it again to resume.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

./run.sh --stop-stage 3 "$@"
experiments=()
for config in slimmable slimmable_head_size slimmable_shared_norm slimmable_recalibrated; do
  ./run.sh --stage 4 --stop-stage 7 --config "conf/$config.yaml" "$@"
  experiments+=("exp/$config")
done
for width in 1.0 0.75 0.5 0.25; do
  ./run.sh --stage 4 --stop-stage 7 --config conf/separate.yaml --set "method.subnet=$width" \
    --exp "exp/separate_$width" "$@"
  experiments+=("exp/separate_$width")
done

. ./path.sh
. ../../tools/data_option.sh
slimasr-search exp/separate_1.0 --data "$(data_option "$@")" --slice 0.75,0.5,0.25
slimasr-report "${experiments[@]}" --title AN4 --out report.html --json results.json \
  --results-md RESULTS.md --claims
