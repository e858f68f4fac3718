#!/usr/bin/env bash
# Lint the Go code (golangci-lint) and the alerts (promtool). The linter is built once
# per version into the per-user cache, which takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."

tool="$(grep golangci-lint ops/setup/tools.txt | grep -v '^#')"
bin="${XDG_CACHE_HOME:-$HOME/.cache}/seralm/tools/golangci-lint-${tool##*@}"
if [[ ! -x $bin/golangci-lint ]]; then
  echo "lint: building $tool, once (some minutes)" >&2
  mkdir -p "$bin"
  # Into a folder beside it and then renamed: an interrupted build leaves nothing that runs.
  tmp="$(mktemp -d "$bin/.partial-XXXXXX")"
  trap 'rm -rf "$tmp"' EXIT
  CGO_ENABLED=0 GOFLAGS= GOBIN="$tmp" go install "$tool"
  mv "$tmp/golangci-lint" "$bin/golangci-lint"
fi
"$bin/golangci-lint" run ./...

ops/prometheus/check.sh
