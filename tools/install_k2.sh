#!/usr/bin/env bash
# Installs k2 from its own pages, in the build for the installed torch. k2 is optional: it makes the pruned transducer
# loss faster.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: tools/install_k2.sh [--from PAGE]

  --from PAGE  page or folder with k2 wheels (default: k2's page for the installed torch, CPU or CUDA)
EOF
}

fail() {
  echo "error: $*" >&2
  exit 1
}

page=
while [ $# -gt 0 ]; do
  case "$1" in
    --from) page=${2:?--from needs a page}; shift ;;
    -h|--help) usage; exit 0 ;;
    *) usage >&2; fail "unknown option $1" ;;
  esac
  shift
done

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || python=$(command -v python3)
torch=$("$python" -c 'import torch; print(torch.__version__.split("+")[0])' 2> /dev/null) ||
  fail "$python has no torch; run tools/setup.sh first"
cuda=$("$python" -c 'import torch; print(torch.version.cuda or "")')
# k2's versions end in their build, such as +cpu.torch2.9.0 or +cuda12.8.torch2.9.0.
build=${cuda:+cuda$cuda}
build=${build:-cpu}
page=${page:-https://k2-fsa.github.io/k2/$([ -n "$cuda" ] && echo cuda || echo cpu).html}

echo "looking for k2 +$build.torch$torch on $page"
versions=$("$python" -m pip index versions k2 --pre --no-index --find-links "$page" 2> /dev/null) ||
  fail "no k2 wheel for this Python and platform on $page (or the page did not answer)"
version=$(grep -o -m 1 -e "[^ ,()]*+$build\.torch$torch" <<< "$versions" | head -n 1 || true)
[ -n "$version" ] || fail "$page has no k2 built for torch $torch ($build); it offers: $(tail -n +2 <<< "$versions")"

echo "installing k2 $version"
# --no-deps keeps the installed torch as it is.
"$python" -m pip install --quiet --no-deps --no-index --find-links "$page" "k2==$version"
"$python" -c 'import k2; k2.rnnt_loss_pruned' || fail "k2 $version is installed but does not import"
echo "k2 $version works; losses with backend: auto use it from now on"
