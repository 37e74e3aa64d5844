#!/usr/bin/env bash
# Prints the python of an environment with clip-retrieval's index and back, in which tests let them
# read what we export. It is apart from ours, as they need NumPy 1 and an old pyarrow; their models
# are left out. Usage: reader=$(deploy/clip_retrieval.sh)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
version=2.45.0
place=$root/.cache/clip-retrieval-$version

if [ ! -e "$place/.ready" ]; then
  uv=$root/.venv/bin/uv
  rm -rf "$place"
  {
    "$uv" venv --python "$root/.venv/bin/python" "$place"
    install() { "$uv" pip install --python "$place/bin/python" "$@"; }
    install "numpy<2" "pandas<3" "pyarrow<16" "faiss-cpu<1.9" "autofaiss<3" "flask<4" flask_restful \
      "flask_cors<5" "fire<0.6" "h5py<4" "prometheus-client<1" pillow tqdm requests fsspec "setuptools<81"
    install --no-deps "clip-retrieval==$version"
  } >&2
  touch "$place/.ready"
fi
echo "$place/bin/python"
