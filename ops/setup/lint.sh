#!/usr/bin/env bash
# Runs golangci-lint at the version in tools.txt, built once per user into the cache.
set -euo pipefail
cd "$(dirname "$0")/../.."
module=$(grep golangci-lint ops/setup/tools.txt)
bin="${XDG_CACHE_HOME:-$HOME/.cache}/seralm/tools/golangci-lint-${module##*@}"
if [ ! -x "$bin" ]; then
  echo "lint: building $module, some minutes the first time" >&2
  tmp=$(mktemp -d)
  trap 'rm -rf "$tmp"' EXIT
  env -u CXX -u CGO_CFLAGS -u CGO_CXXFLAGS -u CGO_LDFLAGS CGO_ENABLED=0 GOFLAGS= GOBIN="$tmp" go install "$module"
  mkdir -p "$(dirname "$bin")"
  mv "$tmp/golangci-lint" "$bin"
fi
exec "$bin" run "$@" ./...
