#!/usr/bin/env bash
# Gets what the tests of the web page need, where it can: Chromium from the system's packages, and onnxruntime-web from
# npm, into node_modules. It never fails: the tests are skipped without them.
set -uo pipefail

version=1.30.0
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v chromium > /dev/null && ! command -v google-chrome > /dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    # The index of packages may be old or absent.
    (timeout 60 apt-get update -qq && timeout 600 apt-get install -y -qq --no-install-recommends chromium) \
      > /dev/null 2>&1 || echo "browser: Chromium cannot be installed here; tests of the web page are skipped" >&2
  else
    echo "browser: install Chromium to run the tests of the web page" >&2
  fi
fi

installed=node_modules/onnxruntime-web/package.json
if ! grep -qs "\"version\": \"$version\"" "$installed"; then
  timeout 120 npm install --silent --fetch-retries 1 --no-save --no-package-lock --ignore-scripts "onnxruntime-web@$version" \
    > /dev/null 2>&1 ||
    echo "browser: onnxruntime-web cannot be installed by npm; tests of the web page are skipped" >&2
fi
exit 0
