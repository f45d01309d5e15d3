# Puts the environment on the path; shared by all recipes.
# shellcheck shell=bash
. ../../tools/path.sh
