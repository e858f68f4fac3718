#!/usr/bin/env bash
# Run a command beside a real Apache Kafka and a real Redis:
#
#   ops/integration/run.sh go test ./stream/...
#
# Both listen on free ports of 127.0.0.1, keep their data in a temporary folder, and
# are gone when the command has ended, or when this script is killed. The command finds
# them in
#
#   SERALM_TEST_KAFKA      host:port
#   SERALM_TEST_KAFKA_TLS  https://user:password@host:port?ca=FILE
#                          the same Kafka's listener with TLS and SCRAM-SHA-512
#   SERALM_TEST_REDIS      host:port
#
# Where SERALM_TEST_KAFKA or SERALM_TEST_REDIS is set already, that one is used as it
# is and none is started.
#
# Kafka's jars come from Maven by exact version and sha256 (pom.xml, SHA256SUMS). Redis
# is the redis-server on PATH; where there is none, Debian's package is unpacked, which
# needs no root and installs nothing. Both are fetched once per user, into
# $XDG_CACHE_HOME/seralm/integration; after that no network is needed.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/seralm/integration"
logs="" data="" partial="" command="" servers=()

say() { echo "integration: $*" >&2; }
die() { say "error: $*"; exit 1; }
need() { command -v "$1" >/dev/null || die "$1 is not on PATH: $2"; }

# Whatever ends this script, even half-way through a download.
cleanup() {
  local status=$? pid
  trap - EXIT
  for pid in $command "${servers[@]}"; do
    kill -KILL -- "-$pid" || true # the whole process group; the data is thrown away
    wait "$pid" || true
  done 2>/dev/null
  rm -rf "$data" "$partial"
  if [[ -d $logs ]] && ! rmdir "$logs" 2>/dev/null; then
    if ((status)); then say "failed; the brokers' logs are in $logs"; else rm -rf "$logs"; fi
  fi
  exit "$status"
}

# A signal goes to the command first, which may have something to tidy up.
interrupted() {
  if [[ -n $command ]]; then
    kill -TERM -- "-$command" 2>/dev/null || true
    for _ in {1..50}; do
      kill -0 -- "-$command" 2>/dev/null || break
      sleep 0.1
    done
  fi
  exit $((128 + $1))
}
trap cleanup EXIT
trap 'interrupted 1' HUP
trap 'interrupted 2' INT
trap 'interrupted 15' TERM

# install FOLDER FUNCTION: the function fills a temporary folder, which is then renamed:
# it is there or not, never half, however many run this at once.
install() {
  [[ ! -d $1 ]] || return 0
  mkdir -p "$cache"
  partial="$(mktemp -d "$cache/.partial-XXXXXX")"
  "$2" "$partial"
  chmod 755 "$partial"
  mv -T "$partial" "$1" 2>/dev/null || [[ -d $1 ]] || die "could not put $1 in place"
  rm -rf "$partial"
}

fetch_kafka() {
  need mvn "apt-get install maven (it is needed once, to fetch Kafka)"
  say "fetching Apache Kafka $kafka_version from Maven, once (43 MB)"
  mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$1" >"$logs/maven" 2>&1 ||
    { tail -n 20 "$logs/maven" >&2; die "Maven could not fetch Kafka: check that mvn reaches its repository, and run this again"; }
  # Exactly these files: none missing, changed or besides.
  (cd "$1" && sha256sum --quiet --strict -c "$here/SHA256SUMS" && diff <(ls) <(sed 's/^.*  //' "$here/SHA256SUMS")) >&2 ||
    die "the jars that Maven fetched are not those of ops/integration/SHA256SUMS"
}

redis_remedy="put a redis-server on PATH (apt-get install redis-server), or name a running Redis in SERALM_TEST_REDIS"

fetch_redis() {
  local packages=(redis-server redis-tools libjemalloc2 liblzf1 libatomic1) deb
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || die "there is no redis-server: $redis_remedy"
  say "fetching redis-server from this system's packages, once (2 MB)"
  # Without lists (a fresh container) apt knows no package; getting them needs root.
  (cd "$1" && { apt-get -qq download "${packages[@]}" || { apt-get -qq update && apt-get -qq download "${packages[@]}"; }; }) 2>"$logs/apt" ||
    die "apt-get could not fetch redis-server ($(tail -n 1 "$logs/apt")): $redis_remedy"
  for deb in "$1"/*.deb; do dpkg-deb -x "$deb" "$1"; done
  rm "$1"/*.deb
}

# serve LOG TEXT COMMAND...: start a server and return when its log says TEXT. It is in
# a process group of its own (Ctrl-C is for the command), and dies with this script.
serve() {
  local log="$logs/$1" text="$2"
  shift 2
  : >"$log"
  setsid setpriv --pdeathsig KILL "$@" >>"$log" 2>&1 </dev/null &
  servers+=($!)
  for _ in {1..600}; do
    ! grep -q "$text" "$log" || return 0
    kill -0 $! 2>/dev/null || break
    sleep 0.1
  done
  tail -n 20 "$log" >&2
  die "$(basename "$log") did not start"
}

# ports N: free ones, held at the same time so that they differ, and from below those
# that the kernel hands out to clients meanwhile.
ports() {
  python3 - "$1" <<'EOF'
import random, socket, sys
held = []
while len(held) < int(sys.argv[1]):
    s = socket.socket()
    try:
        s.bind(("127.0.0.1", random.randrange(20000, 32000)))
        held.append(s)
    except OSError:
        s.close()
print(*(s.getsockname()[1] for s in held))
EOF
}

start_kafka() {
  need java "apt-get install openjdk-17-jre-headless"
  need openssl "apt-get install openssl"
  local java
  java="$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')"
  ((java >= 17)) || die "java is version ${java:-unknown}; Kafka needs 17 or later: apt-get install openjdk-17-jre-headless"
  kafka_version="$(sed -n 's|.*integration-kafka</artifactId><version>\([^<]*\)<.*|\1|p' "$here/pom.xml")"
  local jars
  jars="$cache/kafka-$kafka_version-$(sha256sum <"$here/SHA256SUMS" | cut -c1-12)"
  install "$jars" fetch_kafka

  local plain secure controller user=seralm password=integration
  read -r plain secure controller <<<"$(ports 3)"
  sed -e "s|@DIR@|$data|g; s|@PLAIN@|$plain|g; s|@SECURE@|$secure|g; s|@CONTROLLER@|$controller|g" \
    "$here/server.properties" >"$data/server.properties"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=IP:127.0.0.1 -keyout "$data/key.pem" -out "$data/ca.pem" 2>"$logs/openssl" || die "openssl made no certificate: see $logs/openssl"
  cat "$data/key.pem" "$data/ca.pem" >"$data/server.pem"
  # A quick start and little memory; the optimising compiler would pay off later only.
  local jvm=(java -Xms64m -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData
    "-Dlog4j2.configurationFile=$here/log4j2.properties" -cp "$jars/*")
  "${jvm[@]}" kafka.tools.StorageTool format --cluster-id seralm-integration-ab --config "$data/server.properties" \
    --add-scram "SCRAM-SHA-512=[name=$user,password=$password]" >"$logs/format" 2>&1 || { cat "$logs/format" >&2; die "formatting Kafka's folder failed"; }
  serve kafka "Kafka Server started" "${jvm[@]}" kafka.Kafka "$data/server.properties"
  export SERALM_TEST_KAFKA="127.0.0.1:$plain" SERALM_TEST_KAFKA_TLS="https://$user:$password@127.0.0.1:$secure?ca=$data/ca.pem"
  say "Kafka $kafka_version is at $SERALM_TEST_KAFKA (with TLS at port $secure)"
}

start_redis() {
  local redis=(redis-server) port folder="$cache/redis-server"
  if ! command -v redis-server >/dev/null; then
    install "$folder" fetch_redis
    redis=(env "LD_LIBRARY_PATH=$(echo "$folder"/usr/lib/*-linux-gnu)" "$folder/usr/bin/redis-server")
  fi
  "${redis[@]}" --version >"$logs/redis-version" 2>&1 || die "redis-server does not run ($(tail -n 1 "$logs/redis-version")): $redis_remedy"
  port="$(ports 1)"
  serve redis "Ready to accept connections" "${redis[@]}" --bind 127.0.0.1 --port "$port" --save "" --dir "$data"
  export SERALM_TEST_REDIS="127.0.0.1:$port"
  say "Redis $(sed -n 's/.* v=\([^ ]*\).*/\1/p' "$logs/redis-version") is at $SERALM_TEST_REDIS"
}

(($#)) || die "usage: $0 COMMAND..."
need python3 "apt-get install python3"
need setpriv "apt-get install util-linux"
logs="$(mktemp -d "${TMPDIR:-/tmp}/seralm-integration-logs-XXXXXX")"
data="$(mktemp -d "${TMPDIR:-/tmp}/seralm-integration-data-XXXXXX")"
[[ -n ${SERALM_TEST_KAFKA:-} ]] || start_kafka
[[ -n ${SERALM_TEST_REDIS:-} ]] || start_redis

set -m # the command gets a process group, so that a signal reaches all of it
"$@" &
command=$!
set +m
status=0
wait "$command" || status=$?
exit "$status"
