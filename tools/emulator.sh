#!/usr/bin/env bash
# Gets qemu-user, on which tests run int8 encoders as older processors do, from the system's packages where it can. It
# never fails: the tests are skipped without it.
set -uo pipefail

command -v qemu-x86_64 > /dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
  # The index of packages may be old or absent.
  (timeout 60 apt-get update -qq && timeout 600 apt-get install -y -qq --no-install-recommends qemu-user) \
    > /dev/null 2>&1 || echo "emulator: qemu-user cannot be installed here; tests of emulated processors are skipped" >&2
else
  echo "emulator: install Debian's package qemu-user to run the tests of emulated processors" >&2
fi
exit 0
