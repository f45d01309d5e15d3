# Sourced by scripts that train many experiments, wave by wave, and report them together, such as
# egs/an4/compare_collaborative.sh.
#
# Before such a script sources this file, it sets:
#   last      the wave after which it stops, unless --last-wave says otherwise
# and it defines:
#   report EXPERIMENT...   writes the report on some experiments
# This file parses --jobs and --last-wave; it sets `options` to all other options, which are those of run.sh, and `data`
# to the data folder that they name.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154

# shellcheck source=/dev/null
. ../../tools/data_option.sh

jobs=1
options=()
experiments=()
running=()

# waves_options OPTION...: reads the options of the script.
waves_options() {
  while true; do
    case ${1:-} in
      --jobs) jobs=${2:-nothing}; shift $(($# > 1 ? 2 : 1)) ;;
      --last-wave) last=${2:-nothing}; shift $(($# > 1 ? 2 : 1)) ;;
      *) break ;;
    esac
  done
  local number
  for number in "$jobs" "$last"; do
    case $number in
      [1-9]) ;;
      *) echo "$(basename "$0"): --jobs and --last-wave need a number from 1 to 9, not $number" >&2; exit 2 ;;
    esac
  done
  options=("$@")
  data=$(data_option "$@")
}

# run EXPERIMENT OPTION...: trains, searches, decodes and scores an experiment, which the report then includes.
run() {
  local command=(./run.sh --stage 4 --stop-stage 7 --exp "exp/$1" "${@:2}" "${options[@]}")
  experiments+=("exp/$1")
  if [ "$jobs" -eq 1 ]; then
    "${command[@]}"
    return
  fi
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do sleep 1; done
  "${command[@]}" &
  running+=($!)
}

# preset NAME OPTION...: runs a preset as it is, or with other options.
preset() { run "$1" --config "conf/$1.yaml" "${@:2}"; }

# for_each PRESET [KEY]: runs a preset of one language for each of the languages in the array `languages`, which the script
# sets; KEY names the language besides the data.
for_each() {
  local language
  for language in "${languages[@]}"; do
    run "$1_$language" --config "conf/$1.yaml" --set "data.train=[train-$language]" --set "data.dev=dev-$language" \
      --set "data.test=[test-$language]" ${2:+--set "$2=[$language]"}
  done
}

# wait_for_runs: waits for all runs so far, and ends the script if one has failed.
wait_for_runs() {
  local pid failed=0
  for pid in "${running[@]}"; do wait "$pid" || failed=1; done
  running=()
  [ "$failed" -eq 0 ] || { echo "$(basename "$0"): a run failed, see above" >&2; exit 1; }
}

# end_of_wave NUMBER: waits for all runs, because those of later waves need them; after the last wave, writes the report
# and ends the script.
end_of_wave() {
  wait_for_runs
  [ "$last" -eq "$1" ] || return 0
  report "${experiments[@]}"
  exit 0
}

# end_of_loose_wave NUMBER: the same, but waits after the last wave only: runs of the next one may begin beside these.
end_of_loose_wave() { [ "$last" -ne "$1" ] || end_of_wave "$1"; }
