# How stage 4 starts; settings of one recipe may be changed here.
# shellcheck shell=bash
. ../../tools/cmd.sh
