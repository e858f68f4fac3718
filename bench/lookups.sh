#!/usr/bin/env bash
# Latency of look-ups over HTTP and freshness of histories, with a real Apache Kafka
# and a real Redis, everything on this machine: `seralm up` in one process, the data
# set replayed into it, then an open-model load.
#
#   bench/lookups.sh [RESULT_FOLDER]        (default: build/bench/lookups)
#
# The data is $SERALM_DATA/ml-1m, or else testdata/ml-latest-small. The model learns
# it once over, in large steps: what it knows does not matter here, its size does.
# RATE (1000), SECONDS_EACH (20) and RUNS (3) change the load.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${SERALM_TEST_REDIS:-}" ]; then
  make --no-print-directory build
  exec ops/integration/run.sh bench/lookups.sh "$@"
fi
results=${1:-build/bench/lookups}
mkdir -p "$results"
if [ -d "${SERALM_DATA:-}/ml-1m" ]; then data=$SERALM_DATA/ml-1m users=6040; else data=testdata/ml-latest-small users=610; fi

work=$(mktemp -d)
export SERALM_KAFKA_BROKERS=$SERALM_TEST_KAFKA SERALM_REDIS_ADDR=$SERALM_TEST_REDIS SERALM_DATA_DIR=$work
export SERALM_KAFKA_TOPIC_PREFIX=bench-$$- SERALM_REDIS_KEY_PREFIX=bench-$$ SERALM_HTTP_ADDR=127.0.0.1:18080
export SERALM_TRAINER_BATCH_EVENTS=4096 SERALM_TRAINER_REPLAY=0 SERALM_LOG_LEVEL=warn
bin/seralm topics create
bin/seralm up --roles=serve,gateway,histories,trainer &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null; rm -rf "$work"' EXIT
bin/seralm replay --dataset "$data"
echo "bench: learning $data" >&2
fresh() { # the model has learnt all and the lag was asked for since
  curl -sf "http://$SERALM_HTTP_ADDR/v1/status" | grep -q '"lag":{"events":0}'
}
until fresh; do sleep 1; kill -0 $server; done
sleep 5
until fresh; do sleep 1; kill -0 $server; done

load() { bin/seralm loadtest --target "http://$SERALM_HTTP_ADDR" --users $users --duration "${SECONDS_EACH:-20}s" "$@"; }
for run in $(seq "${RUNS:-3}"); do
  echo "== look-ups at ${RATE:-1000} a second, run $run"
  load --rate "${RATE:-1000}" --events-share 0 --json "$results/lookups-$run.json" --hgrm "$results/lookups-$run.hgrm"
done
echo "== look-ups and one event in ten, with the time until a click changes a look-up"
load --rate 200 --events-share 0.1 --probe-freshness 20 --json "$results/freshness.json"
echo "== as many look-ups as it can, from 8 connections"
load --saturate 8 --events-share 0 --json "$results/saturated.json"
echo "results in $results"
