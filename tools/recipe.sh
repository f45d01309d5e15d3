# Sourced by egs/<corpus>/run.sh: the one option parser and the nine stages of all recipes.
#
# run.sh sets, before it sources this file:
#   recipe    name shown by --help
#   corpora   corpora of this recipe, the default first; each has conf/<corpus>.yaml, the first conf/slimmable.yaml
# and may define:
#   data_of CONFIG   prints the data folder of a configuration (default: data)
# shellcheck shell=bash

. ./cmd.sh

stage=0
stop_stage=8
config=
corpus=${corpora%% *}
corpus_dir=
data=
exp=
nj=$(nproc 2> /dev/null || echo 1)
nproc_per_node=1
subnet=all
download=false
debug=()
overrides=()

recipe_usage() {
  cat <<EOF
usage: egs/$recipe/run.sh [options]

stages:
  0 corpus    find the corpus, make it or (with --download) fetch it
  1 prepare   manifests                        -> DATA/manifests
  2 features  log-mel filter banks, statistics -> DATA/features
  3 bpe       subword model                    -> DATA/lang_*
  4 train     supernet or separate model       -> EXP/final.pt
  5 search    every subnet on dev; the front   -> EXP/search/front.json
  6 decode    the test sets                    -> EXP/decode
  7 score     word error rates                 -> EXP/results.json
  8 report    tables and plots                 -> EXP/report.html

options:
  --stage N, --stop-stage M   run stages N to M only (0 to 8)
  --config FILE               the experiment, one of those in conf/ (default: $(default_config))
  --corpus NAME               one of: $corpora
  --corpus-dir DIR            where the corpus lies; else \$SLIMASR_CORPORA/<name>, else see --download
  --download                  allow stage 0 to download the corpus
  --data DIR                  manifests and features (default: $(default_data "$(default_config)"))
  --exp DIR                   the experiment's folder (default: exp/<name of the configuration>)
  --set KEY=VALUE             override one key of the configuration for stages 0 to 4; repeatable
  --subnet S                  what stage 6 decodes: all, a width or an id (default: all)
  --nj N                      jobs of stage 2 (default: $nj)
  --cmd local|torchrun|slurm  how stage 4 starts (default from cmd.sh: $train_cmd)
  --nproc N                   processes per node of stage 4 with torchrun and slurm (default: 1)
  --debug                     show tracebacks
EOF
}

recipe_error() {
  echo "error: $*" >&2
  exit 2
}

default_config() {
  if [ "$corpus" = "${corpora%% *}" ]; then echo conf/slimmable.yaml; else echo "conf/$corpus.yaml"; fi
}

default_data() {
  if declare -F data_of > /dev/null; then data_of "$1"; else echo data; fi
}

parse_options() {
  local help=false
  while [ $# -gt 0 ]; do
    case "$1" in
      --help|-h) help=true; shift; continue ;;
      --download) download=true; shift; continue ;;
      --debug) debug=(--debug); shift; continue ;;
      --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    esac
    [ $# -ge 2 ] || set -- "$1" ""
    case "$1" in
      --stage) stage=$2 ;;
      --stop-stage) stop_stage=$2 ;;
      --config) config=$2 ;;
      --corpus) corpus=$2 ;;
      --corpus-dir) corpus_dir=$2 ;;
      --data) data=$2 ;;
      --exp) exp=$2 ;;
      --set) overrides+=(--set "$2") ;;
      --subnet) subnet=$2 ;;
      --nj) nj=$2 ;;
      --cmd) train_cmd=$2 ;;
      --nproc) nproc_per_node=$2 ;;
      *) recipe_error "unknown option $1; see --help" ;;
    esac
    [ -n "$2" ] || recipe_error "$1 needs a value; see --help"
    shift 2
  done
  local number
  for number in "$stage" "$stop_stage" "$nj" "$nproc_per_node"; do
    case "$number" in ''|*[!0-9]*) recipe_error "'$number' is not a number; see --help" ;; esac
  done
  case " $corpora " in *" $corpus "*) ;; *) recipe_error "--corpus $corpus: must be one of: $corpora" ;; esac
  ! $help || { recipe_usage; exit 0; }
  config=${config:-$(default_config)}
  data=${data:-$(default_data "$config")}
  exp=${exp:-exp/$(basename "$config" .yaml)}
  [ -e "$config" ] || recipe_error "--config $config: no such file"
}

# Stage 4 by train_cmd. torchrun hands ranks to the processes; under slurm one torchrun per node finds the others.
launch_train() {
  local training=(slimasr-train "$@")
  case "$train_cmd" in
    local) "${training[@]}" ;;
    torchrun) torchrun --nproc-per-node "$nproc_per_node" --no-python "${training[@]}" ;;
    slurm)
      # shellcheck disable=SC2016,SC2086
      srun $slurm_options --ntasks-per-node 1 bash -c '
        head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
        exec torchrun --nnodes "$SLURM_NNODES" --nproc-per-node "$0" --rdzv-backend c10d \
          --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$head:29500" --no-python "$@"' \
        "$nproc_per_node" "${training[@]}"
      ;;
    *) recipe_error "--cmd $train_cmd: must be local, torchrun or slurm" ;;
  esac
}

run_stage() {
  local number=$1 title=$2
  shift 2
  if [ "$stage" -le "$number" ] && [ "$number" -le "$stop_stage" ]; then
    echo "== $(date +%H:%M:%S) stage $number: $title" >&2
    "$@" "${debug[@]}"
  fi
}

recipe_main() {
  parse_options "$@"
  . ./path.sh
  local from=(--config "$config" --data "$data" "${overrides[@]}")
  local where=()
  [ -z "$corpus_dir" ] || where=(--corpus-dir "$corpus_dir")
  local get=()
  ! $download || get=(--download)

  run_stage 0 corpus slimasr-prepare "${from[@]}" "${where[@]}" "${get[@]}" --only-corpus
  run_stage 1 prepare slimasr-prepare "${from[@]}" "${where[@]}"
  run_stage 2 features slimasr-features "${from[@]}" --num-jobs "$nj"
  run_stage 3 bpe slimasr-bpe "${from[@]}"
  run_stage 4 train launch_train "${from[@]}" --exp "$exp"
  run_stage 5 search slimasr-search "$exp" --data "$data"
  run_stage 6 decode slimasr-decode "$exp" --data "$data" --subnet "$subnet"
  run_stage 7 score slimasr-score "$exp"
  run_stage 8 report slimasr-report "$exp" --out "$exp/report.html"
}
