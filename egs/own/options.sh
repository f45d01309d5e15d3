# Sourced by run.sh: where the speech lies, how it is read, and which preset fits its amount.
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034

declare -A sources=() # set -> its paths, as the entries of a YAML list
read_as=()            # overrides of data.options
init=()               # override of training.init

SMALL_HOURS=10
MEDIUM_HOURS=200

corpus_usage() {
  cat <<'USAGE'
  --train PATH                training speech: a folder or a file, repeatable; docs/own_data.md lists the formats
  --dev PATH, --test PATH     speech for validation and for the results (default: split off from --train)
  --split DEV,TEST            shares of the training speech that become dev and test (default: 0.05,0.05)
  --format FORMAT             kaldi, lhotse, shar, jsonl, csv or folder (default: found by looking)
  --channel NUMBER            channel, from 0 on, of audio with several, or average (default: such audio is an error)
  --language LANGUAGE         language of utterances for which the data name none, such as en
  --audio-root DIR            folder of audio whose paths are relative, or have moved
  --allow-pipes               run shell commands that the data hold, such as those in wav.scp of Kaldi
  --init EXP                  begin with a trained model, an experiment folder or a file, with conf/finetune.yaml
USAGE
}

corpus_flag() {
  [ "$1" = --allow-pipes ] && read_as+=(--set data.options.allow_pipes=true)
}

corpus_option() {
  local value=$2
  case "$1" in
    --train|--dev|--test) [ -z "$value" ] || add_source "${1#--}" "$value" ;;
    --split|--format|--channel|--language) read_as+=(--set "data.options.${1#--}=$(yaml_text "$value")") ;;
    --audio-root) needed "$@" && read_as+=(--set "data.options.audio_root=$(yaml_text "$(absolute "$value")")") ;;
    --init) needed "$@" && init=(--set "training.init={from: $(yaml_text "$(absolute "$value")")}") ;;
    *) return 1 ;;
  esac
}

needed() {
  [ -e "$2" ] || recipe_error "$1 $2: there is no such file or folder"
}

add_source() {
  needed "--$1" "$2"
  sources[$1]=${sources[$1]:+${sources[$1]}, }$(yaml_text "$(absolute "$2")")
}

# The configuration of an experiment keeps these paths, so they must not depend on the working folder.
absolute() {
  local folder
  folder=$(cd "$(dirname "$1")" 2> /dev/null && pwd) || recipe_error "$1: there is no such folder"
  echo "${folder%/}/$(basename "$1")"
}

# yaml_text TEXT: prints it as a quoted text of YAML.
yaml_text() {
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

corpus_overrides() {
  local name found=
  if $config_is_open && [ -z "${sources[train]:-}" ]; then
    recipe_error "--train PATH is needed: a folder or a file of speech with transcripts; see --help"
  fi
  if $config_is_open && [ ${#init[@]} -gt 0 ]; then
    config=$recipe_dir/conf/finetune.yaml config_is_open=false
  fi
  for name in train dev test; do
    [ -z "${sources[$name]:-}" ] || found+="${found:+, }$name: [${sources[$name]}]"
  done
  # The user's own --set come last, so they count more.
  overrides=(${found:+--set "data.sources={$found}"} "${read_as[@]}" "${init[@]}" "${overrides[@]}")
}

# Chooses the preset by the hours of the training set, which stage 1 has recorded.
choose_config() {
  local record=$data/manifests/identity_train.json seconds hours name
  [ -e "$record" ] || recipe_error "$record is missing: run stage 1 first, or name a configuration with --config"
  seconds=$(sed -n 's/.*"seconds": *\([0-9.]*\).*/\1/p' "$record" | head -n 1)
  hours=$(awk -v seconds="${seconds:-0}" 'BEGIN { printf "%.2f", seconds / 3600 }')
  name=$(awk -v hours="$hours" -v small=$SMALL_HOURS -v medium=$MEDIUM_HOURS \
    'BEGIN { print hours <= small ? "small" : hours <= medium ? "medium" : "large" }')
  config=$recipe_dir/conf/$name.yaml
  echo "preset: conf/$name.yaml, because the training set has $hours h (small: up to $SMALL_HOURS h, medium: up to" \
    "$MEDIUM_HOURS h, large: above); --config FILE chooses another one" >&2
}
