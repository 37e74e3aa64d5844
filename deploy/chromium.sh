#!/usr/bin/env bash
# Prints the path of a Chromium that the tests can drive; where the machine has none, takes
# Debian's package. Usage: browser=$(deploy/chromium.sh)
set -euo pipefail
find_one() { command -v chromium || command -v chromium-browser || command -v google-chrome; }

if ! find_one; then
  if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "please install chromium" >&2
    exit 1
  fi
  { apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
      chromium fonts-dejavu-core fonts-noto-core
  } >&2
  find_one
fi
