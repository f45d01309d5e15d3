# Sourced by egs/<corpus>/run.sh: the option parser and the stages that all recipes share.
#
# Before run.sh sources this file, it sets:
#   recipe    name shown by --help
#   corpora   corpora of this recipe, the default first; it has conf/slimmable.yaml, the others conf/<corpus>.yaml
# It may also define:
#   preset           configuration of the default corpus (default: conf/slimmable.yaml)
#   data_of CONFIG   prints the data folder of a configuration (default: data)
#   threads          OpenMP threads of every stage, unless $OMP_NUM_THREADS is set (default: torch chooses)
#   choose_config    sets $config after stage 1 if the user names no configuration; preset_words describes it in --help
# A recipe whose data are no corpus also defines, all together:
#   corpus_words               what stage 0 does, in --help
#   corpus_usage               prints the lines of --help about where the data come from
#   corpus_flag NAME           reads an option without a value; fails if it does not know the name
#   corpus_option NAME VALUE   reads an option; fails if it does not know the name
#   corpus_overrides           adds what the options mean to $overrides, and may set $config if $config_is_open
# All paths are relative to the working folder, which is the recipe's own unless run.sh changes it before recipe_main.
# shellcheck shell=bash
# shellcheck disable=SC2154

recipe_dir=$PWD
# shellcheck source=/dev/null
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
scales=
download=false
check_audio=()
accept_data=()
debug=()
overrides=()

recipe_usage() {
  cat <<EOF
usage: egs/$recipe/run.sh [options]

stages:
  0 corpus    ${corpus_words:-find the corpus, make it or (with --download) fetch it}
  1 prepare   manifests                        -> DATA/manifests
  2 features  log-mel filter banks, statistics -> DATA/features
  3 bpe       tokens; with a lexicon, the graph -> DATA/lang_*, DATA/graph_*
  4 train     supernet or separate model       -> EXP/final.pt
  5 search    subnets on dev; the Pareto front -> EXP/search/front.json
  6 decode    the dev and test sets            -> EXP/decode
  7 score     word error rates                 -> EXP/results.json
  8 report    tables and plots                 -> EXP/report.html
  9 export    a bundle of the front, with int8 -> EXP/bundle
  10 check    the bundle in sherpa-onnx        -> EXP/bundle/check.json
Stages 9 and 10, which need the extra export, run only with --stop-stage 9 or 10.

options:
  --stage N, --stop-stage M   run stages N to M only (0 to 8; 9 and 10 must be named)
  --config FILE               configuration of the experiment, such as those in conf/ (default: ${preset_words:-$(default_config)})
$(corpus_usage)
  --data DIR                  folder of manifests and features (default: $(default_data "$(default_config)"))
  --exp DIR                   experiment folder (default: exp/<name of the configuration>)
  --set KEY=VALUE             override one key of the configuration for stages 0 to 4; repeatable
  --subnet S                  subnets that stage 6 decodes and stage 9 exports: all, a width or an id (default: all in
                              stage 6, the Pareto front in stage 9)
  --scales EXP                stages 5 and 6 search graphs with the scales that slimasr-decode --tune chose in EXP
  --nj N                      parallel processes of stage 2 (default: $nj)
  --cmd local|torchrun|slurm  how to start stage 4 (default from cmd.sh: $train_cmd)
  --nproc N                   processes per node of stage 4 with torchrun and slurm (default: 1)
  --check-audio               stage 1 identifies audio files by their content, not by their modification times
  --accept-changed-data       stage 4 resumes a run although its data have changed
  --debug                     print tracebacks of errors

After every stage, stderr says what it made and how long it took; at the end, it says the total time and what to do next.
If a stage fails, the script ends with its exit status. When the script is run again, every stage continues from what is
already there.
EOF
}

if ! declare -F corpus_usage > /dev/null; then
  corpus_usage() {
    echo "  --corpus NAME               one of: $corpora"
    echo "  --corpus-dir DIR            folder of the corpus (default: \$SLIMASR_CORPORA/<name>; see also --download)"
    echo "  --download                  allow stage 0 to download the corpus"
  }
  corpus_flag() { [ "$1" = --download ] && download=true; }
  corpus_option() {
    case "$1" in
      --corpus) corpus=$2 ;;
      --corpus-dir) corpus_dir=$2 ;;
      *) return 1 ;;
    esac
  }
  corpus_overrides() { :; }
fi

recipe_error() {
  echo "error: $*" >&2
  exit 2
}

default_config() {
  if [ "$corpus" = "${corpora%% *}" ]; then echo "${preset:-conf/slimmable.yaml}"; else echo "conf/$corpus.yaml"; fi
}

default_data() {
  if declare -F data_of > /dev/null; then data_of "$1"; else echo data; fi
}

parse_options() {
  local help=false
  while [ $# -gt 0 ]; do
    case "$1" in
      --help|-h) help=true; shift; continue ;;
      --check-audio) check_audio=(--check-audio); shift; continue ;;
      --accept-changed-data) accept_data=(--accept-changed-data); shift; continue ;;
      --debug) debug=(--debug); shift; continue ;;
      # --key=value becomes --key value, which the second case reads.
      --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    esac
    if corpus_flag "$1"; then shift; continue; fi
    [ $# -ge 2 ] || set -- "$1" ""
    case "$1" in
      --stage) stage=$2 ;;
      --stop-stage) stop_stage=$2 ;;
      --config) config=$2 ;;
      --data) data=$2 ;;
      --exp) exp=$2 ;;
      --set) overrides+=(--set "$2") ;;
      --subnet) subnet=$2 ;;
      --scales) scales=$2 ;;
      --nj) nj=$2 ;;
      --cmd) train_cmd=$2 ;;
      --nproc) nproc_per_node=$2 ;;
      *) corpus_option "$1" "$2" || recipe_error "unknown option $1; see --help" ;;
    esac
    [ -n "$2" ] || recipe_error "$1 needs a value; see --help"
    shift 2
  done
  local number
  for number in "$stage" "$stop_stage" "$nj" "$nproc_per_node"; do
    case "$number" in ''|*[!0-9]*) recipe_error "'$number' is not a number; see --help" ;; esac
  done
  case " $corpora " in *" $corpus "*) ;; *) recipe_error "--corpus $corpus: must be one of: $corpora" ;; esac
  # The help comes last because its defaults depend on other options, such as --corpus.
  ! $help || { recipe_usage; exit 0; }
  config_is_open=false
  if [ -z "$config" ] && declare -F choose_config > /dev/null; then config_is_open=true; fi
  config=${config:-$(default_config)}
  if [ ! -e "$config" ] && [ -e "$recipe_dir/$config" ]; then config=$recipe_dir/$config; fi
  data=${data:-$(default_data "$config")}
  corpus_overrides
  [ -e "$config" ] || recipe_error "--config $config: no such file"
}

# Starts stage 4 as train_cmd says. torchrun assigns the ranks; under slurm, one torchrun per node finds the others.
launch_train() {
  local training=(slimasr-train "$@")
  case "$train_cmd" in
    local) "${training[@]}" ;;
    torchrun) torchrun --nproc-per-node "$nproc_per_node" --no-python "${training[@]}" ;;
    slurm)
      # The quoted part runs on the nodes: $0 is the number of processes, $@ the command; the first node leads.
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

# duration SECONDS: prints 45 s, 6 min 10 s or 2 h 05 min.
duration() {
  if [ "$1" -lt 1 ]; then
    echo "less than 1 s"
  elif [ "$1" -lt 60 ]; then
    echo "$1 s"
  elif [ "$1" -lt 3600 ]; then
    echo "$(($1 / 60)) min $(($1 % 60)) s"
  else
    printf '%d h %02d min\n' $(($1 / 3600)) $(($1 % 3600 / 60))
  fi
}

# again_from STAGE [OPTION]: prints the command of this run from a stage on, without an option, quoted for a shell.
again_from() {
  local command=("$0" --stage "$1") skip=false argument
  for argument in "${arguments[@]}"; do
    if $skip; then skip=false; continue; fi
    case "$argument" in
      --stage|"${2:---stage}") skip=true ;;
      --stage=*|"${2:---stage}"=*) ;;
      *) command+=("$argument") ;;
    esac
  done
  printf '%q' "${command[0]}"
  printf ' %q' "${command[@]:1}"
}

# Prints the files that find lists for $watched, one per line with inode, size and time of the last change. Times are
# only compared for equality, because the clock of a network disk may differ. The folders may be links (-H).
snapshot() {
  local times=--full-time
  ls -d "$times" / > /dev/null 2>&1 || times=-T # on BSD and macOS
  find -H "${watched[@]}" -type f ! -name '*.lock' -exec ls -dil "$times" {} + 2> /dev/null | sort || true
}

# folders_of FILES: prints the folders of $data that these lines of a snapshot name, in one line, lang_* before graph_*.
folders_of() {
  local line folders=
  while IFS= read -r line; do
    folders+=${folders:+, }$line
  done < <(while IFS= read -r line; do
    line=${line##*"$data/"}
    echo "$data/${line%%/*}"
  done <<< "$1" | sort -ru)
  echo "$folders"
}

# run_stage NUMBER NAME PRODUCT COMMAND...: runs a stage and reports what it made. If it changes no file of $watched,
# it had nothing to do.
run_stage() {
  local number=$1 name=$2 product=$3
  shift 3
  [ "$stage" -le "$number" ] && [ "$number" -le "$stop_stage" ] || return 0
  local begin=$SECONDS status=0 before changed took
  before=$(snapshot)
  echo "== $(date +%H:%M:%S) stage $number: $name" >&2
  "$@" "${debug[@]}" || status=$?
  took=$(duration $((SECONDS - begin)))
  if [ "$status" -ne 0 ]; then
    echo "error: stage $number ($name) failed after $took with exit status $status, for the reason above;" \
      "run it again with: $(again_from "$number")" >&2
    exit "$status"
  fi
  changed=$(comm -13 <(echo "$before") <(snapshot))
  # The folders of stage 3 depend on the configuration: their names are taken from the files that changed.
  if [ "$name" = bpe ] && [ -n "$changed" ]; then product=$(folders_of "$changed"); fi
  if [ -n "$changed" ]; then
    echo "stage $number $name: done in $took${product:+ -> $product}" >&2
  else
    echo "stage $number $name: nothing to do, ${product:-the corpus} is complete (checked in $took)" >&2
  fi
}

# Stage 3: the tokenizer, and the search graph if the recipe has a lexicon.
make_tokens() {
  slimasr-bpe "$@" && slimasr-graph --if-needed "$@"
}

# Stage 5, with the scales of another experiment if the user has named one.
search_subnets() {
  { [ -z "$scales" ] || slimasr-decode "$exp" --scales "$scales" "${debug[@]}"; } && slimasr-search "$exp" "$@"
}

# Prints a recording of the corpus on which the user can try the model, or a placeholder.
example_recording() {
  local manifest source
  for manifest in "$data"/manifests/cuts_test*.jsonl.gz "$data"/manifests/cuts_*.jsonl.gz; do
    [ -e "$manifest" ] || continue
    source=$(gzip -dc "$manifest" 2> /dev/null | sed -n 's/.*"source": *"\([^"]*\)".*/\1/p;q' || true)
    if [ -f "$source" ]; then
      echo "$source"
      return
    fi
  done
  echo FILE.wav
}

# Prints what the user can do with the results; commands have full paths, quoted for a shell.
next_steps() {
  local bin=$1 full small
  full=$(cd "$exp" && pwd)
  small=$(sed -n 's/^ *"id": *"\([^"]*\)".*/\1/p;' "$full/search/front.json" 2> /dev/null | head -n 1) || true
  small=${small:-min}
  {
    echo "next:"
    printf '  look at the report:     open %q in a browser\n' "$full/report.html"
    printf '  transcribe a recording: %q %q %q --subnet %q\n' \
      "${bin}slimasr-transcribe" "$full" "$(example_recording)" "$small"
    printf '  save a small model:     %q %q --subnet %q --out %q\n' \
      "${bin}slimasr-extract" "$full" "$small" "$full-$small"
  } >&2
}

recipe_main() {
  # $bin is needed by the commands of next_steps if slimasr is not on the user's path.
  local arguments=("$@") bin=
  parse_options "$@"
  command -v slimasr > /dev/null || bin=yes
  local here=$PWD
  cd "$recipe_dir" || exit
  # shellcheck source=/dev/null
  . ./path.sh
  cd "$here" || exit
  [ -z "$bin" ] || bin=$(dirname "$(command -v slimasr)")/
  local from=(--config "$config" --data "$data" "${overrides[@]}")
  local where=()
  [ -z "$corpus_dir" ] || where=(--corpus-dir "$corpus_dir")
  local get=()
  ! $download || get=(--download)
  [ -z "${threads:-}" ] || export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$threads}"
  local begin=$SECONDS watched

  watched=("${corpus_dir:-$data/corpora}" -maxdepth 2)
  run_stage 0 corpus "" slimasr-prepare "${from[@]}" "${where[@]}" "${get[@]}" --only-corpus
  watched=("$data/manifests")
  run_stage 1 prepare "$data/manifests" slimasr-prepare "${from[@]}" "${where[@]}" "${check_audio[@]}"
  if $config_is_open && [ "$stop_stage" -gt 1 ]; then
    choose_config
    from=(--config "$config" --data "$data" "${overrides[@]}")
  fi
  exp=${exp:-exp/$(basename "$config" .yaml)}
  local bundled=$subnet
  [ "$bundled" != all ] || bundled=front
  watched=("$data/features/shards")
  run_stage 2 features "$data/features" slimasr-features "${from[@]}" --num-jobs "$nj"
  watched=("$data" -maxdepth 2 \( -path "*/lang_*/*" -o -path "*/graph_*/*" \))
  run_stage 3 bpe "the tokenizer" make_tokens "${from[@]}"
  watched=("$exp/final.pt")
  run_stage 4 train "$exp/final.pt" launch_train "${from[@]}" --exp "$exp" "${accept_data[@]}"
  watched=("$exp/search/summary.json")
  run_stage 5 search "$exp/search/front.json" search_subnets --data "$data"
  watched=("$exp/decode")
  run_stage 6 decode "$exp/decode" slimasr-decode "$exp" --data "$data" --subnet "$subnet"
  watched=("$exp/results.json")
  run_stage 7 score "$exp/results.json" slimasr-score "$exp"
  watched=("$exp/report.html")
  run_stage 8 report "$exp/report.html" slimasr-report "$exp" --out "$exp/report.html"
  watched=("$exp/bundle/manifest.json")
  run_stage 9 export "$exp/bundle" slimasr-export "$exp" --out "$exp/bundle" --subnet "$bundled" --int8 --data "$data"
  watched=("$exp/bundle/check.json")
  run_stage 10 check "$exp/bundle/check.json" slimasr-check "$exp/bundle" --exp "$exp" --data "$data"

  echo "all stages from $stage to $stop_stage: done in $(duration $((SECONDS - begin)))" >&2
  if [ "$stop_stage" -lt 8 ]; then
    echo "next: $(again_from $((stop_stage + 1)) --stop-stage)" >&2
  else
    next_steps "$bin"
  fi
}
