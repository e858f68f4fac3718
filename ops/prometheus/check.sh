#!/usr/bin/env bash
# Check the scrape configuration and run the alerts' unit tests with Prometheus' own
# promtool: the one on PATH, or else Debian's, unpacked into the per-user cache (it
# needs no root). There is no way past this check: without promtool it fails.
set -euo pipefail
cd "$(dirname "$0")"

cache="${XDG_CACHE_HOME:-$HOME/.cache}/seralm/promtool"
promtool="$(command -v promtool || true)"
if [[ -z $promtool && ! -x $cache/promtool ]]; then
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "check: error: promtool is not on PATH. Install Prometheus (its packages and archives hold promtool) and run this again." >&2
    exit 1
  fi
  echo "check: fetching promtool from Debian's prometheus package (19 MB)" >&2
  mkdir -p "$cache"
  tmp="$(mktemp -d)"
  trap 'rm -rf "$tmp"' EXIT
  # Without lists (a fresh container) apt knows no package; getting them needs root.
  (cd "$tmp" && { apt-get -qq download prometheus 2>/dev/null || { apt-get -qq update && apt-get -qq download prometheus; }; })
  dpkg-deb -x "$tmp"/prometheus_*.deb "$tmp/x"
  mv "$tmp/x/usr/bin/promtool" "$cache/promtool"
fi
promtool="${promtool:-$cache/promtool}"

"$promtool" check config prometheus.yml
"$promtool" test rules alerts_test.yml
