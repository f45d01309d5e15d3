# How stage 4 starts. Settings of this recipe may be changed here.
# shellcheck shell=bash
. ../../tools/cmd.sh
