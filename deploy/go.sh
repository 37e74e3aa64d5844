#!/usr/bin/env bash
# Prints the path of a Go that can build the servers the tests run against (1.24 or later).
# Where the machine has none: takes Debian's package, and with it the newer toolchain that the Go
# module proxy serves as a module. Usage: "$(deploy/go.sh)" install …
set -euo pipefail
toolchain=go1.26.0
cache=$(cd "$(dirname "$0")/.." && pwd)/.cache/go

recent() {
  command -v "$1" >/dev/null || return 1
  minor=$(GOTOOLCHAIN=local "$1" version | sed -E 's/.*go1\.([0-9]+).*/\1/')
  [ "$minor" -ge 24 ]
}

if recent go; then
  command -v go
  exit
fi
fetched="$cache/golang.org/toolchain@v0.0.1-$toolchain.linux-$(dpkg --print-architecture)/bin/go"
if ! recent "$fetched"; then
  if ! command -v go >/dev/null; then
    [ "$(id -u)" = 0 ] || { echo "please install Go 1.24 or later" >&2; exit 1; }
    { apt-get update -q
      DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends golang-go ca-certificates
    } >&2
  fi
  folder=$(mktemp -d)
  (cd "$folder" && GOMODCACHE=$cache GOFLAGS=-modcacherw go mod download \
    "golang.org/toolchain@v0.0.1-$toolchain.linux-$(dpkg --print-architecture)" >&2)
  rmdir "$folder"
  # A module carries no execute bits.
  chmod +x "$(dirname "$fetched")"/* "$(dirname "$fetched")"/../pkg/tool/*/*
fi
echo "$fetched"
