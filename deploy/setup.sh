#!/usr/bin/env bash
# Makes a virtual environment that holds Curate and its tools, on a machine with Python 3.11 or
# later and make. Installs the Debian packages it lacks, if it may. Usage: deploy/setup.sh .venv
set -euo pipefail
venv=$1
python=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)

packages() {
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
  else
    echo "please install: $*" >&2
    return 1
  fi
}

if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  packages python3 python3-venv
  python=python3
fi
# Debian ships Python without ensurepip: its package python3-venv brings it.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  packages python3-venv "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
fi

"$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" \
  --constraint "$root/constraints.txt" --editable "$root[dev,s3,dataflow]"
