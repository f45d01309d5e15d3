# Sourced by egs/<corpus>/cmd.sh: how stage 4 starts. The options --cmd and --nproc of run.sh override it.
# shellcheck shell=bash
# shellcheck disable=SC2034
train_cmd=${train_cmd:-local}            # local: one process; torchrun: --nproc processes here; slurm: through srun
slurm_options=${slurm_options:---nodes 1} # passed to srun, e.g. --nodes 2 --gpus-per-node 4 --time 24:00:00
