#!/usr/bin/env bash
# Prints the path of Prism, Beam's portable reference runner, of the version of Beam that is used
# here; builds it with Go where it is not there yet. Usage: export CURATE_PRISM=$(deploy/prism.sh)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
version=v$(sed -n 's/^apache-beam==//p' "$root/constraints.txt")
program=$root/.cache/bin/prism-$version

if [ ! -x "$program" ]; then
  go=$("$root/deploy/go.sh")
  # Built apart and renamed, so that what stands under the name is whole.
  mkdir -p "$root/.cache/bin"
  folder=$(mktemp -d "$root/.cache/prism.XXXXXX")
  GOBIN=$folder GOPATH=$root/.cache/go GOFLAGS=-modcacherw CGO_ENABLED=0 \
    "$go" install "github.com/apache/beam/sdks/v2/go/cmd/prism@$version" >&2
  mv "$folder/prism" "$program"
  rmdir "$folder"
fi
echo "$program"
