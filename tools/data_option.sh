# Sourced by scripts that pass their options on to run.sh and then call a command themselves.
# shellcheck shell=bash

# data_option OPTION...: prints the data folder that options of run.sh name, as --data DIR or --data=DIR.
data_option() {
  local data=data
  while [ $# -gt 0 ]; do
    case "$1" in
      --data=*) data=${1#*=} ;;
      --data) data=${2:-} ;;
    esac
    shift
  done
  echo "$data"
}
