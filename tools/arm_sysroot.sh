#!/usr/bin/env bash
# Makes a folder with a system of 64-bit ARM whose Python has numpy and onnxruntime, for slimasr-check --emulate
# cortex-a76 --sysroot DIR, where it can, and prints its path. It changes nothing outside build/ and needs no root. It
# never fails: the tests are skipped without it.
set -uo pipefail

# 1.31.1 ends with a segmentation fault in qemu 7.2, that of Debian 12; this version has wheels for Python 3.10, too.
version=1.23.2
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$PWD/build/arm64

works() {
  qemu-aarch64 -L "$folder" "$folder/usr/bin/python3" -I -c 'import numpy, onnxruntime'
}

# Unpacks Python and what it needs, with lists and a cache of packages of its own.
unpack() {
  local work=$1
  local apt=(apt-get -q -o "Dir::State=$work" -o "Dir::State::status=$work/status" -o "Dir::Cache=$work"
    -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Sandbox::User=root)
  mkdir -p "$work/lists/partial" "$work/archives/partial" && touch "$work/status" || return 1
  timeout 120 "${apt[@]}" update
  timeout 300 "${apt[@]}" install -y --download-only --no-install-recommends \
    python3-minimal libpython3-stdlib libstdc++6 || return 1
  local package
  for package in "$work"/archives/*.deb; do
    dpkg-deb -x "$package" "$folder" || return 1
  done
}

install() {
  local python
  python=$(readlink "$folder/usr/bin/python3") || return 1
  local platforms=(--platform manylinux2014_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64)
  timeout 180 python3 -m pip install --no-deps --only-binary :all: "${platforms[@]}" --python-version "${python#python}" \
    --target "$folder/usr/lib/python3/dist-packages" "onnxruntime==$version" 'numpy<2.3'
}

make_folder() {
  local work
  work=$(mktemp -d) || return 1
  rm -rf "$folder" && mkdir -p "$folder" && unpack "$work" && install && works
  local status=$?
  rm -rf "$work"
  return $status
}

if ! works > /dev/null 2>&1 && ! make_folder > /dev/null 2>&1; then
  echo "ARM: a system of 64-bit ARM cannot be made here; tests of ARM processors are skipped" >&2
  exit 0
fi
echo "$folder"
