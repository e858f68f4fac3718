#!/usr/bin/env bash
# The arms of alignment on ml-100k: docs/RESULTS.md, "Alignment of SmolLM2-135M".
#
#   SERALM_DATA=... bench/align.sh FOLDER [SEEDS [ARM...]]
#
# SEEDS are 1,2,3 and the arms all of these, unless told otherwise:
#
#   Base title NA_LLM    without texts; title and genres; texts of the model as it is
#   catalogue            SeRALM with the catalogue reward, which is the default
#   instance             SeRALM with p(y|x,s) of one interaction, as Algorithm 1 has it
#   fine-tuned           of 4 texts the best by the catalogue reward is learnt, no other
#   best-of-4            of 4 texts the best by the catalogue reward, nothing is learnt
#
# FOLDER keeps all: the same command goes on where it was interrupted. RESULT is
# FOLDER/align.json; `seralm eval table` and `compare` read it. An arm in which the model
# learns takes 25 minutes a seed on a quiet machine with AMX, and several times as long
# without bf16.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:?where to keep everything} seeds=${2:-1,2,3}
shift && shift || true
arms=("$@")
(($# > 0)) || arms=(Base title NA_LLM catalogue instance fine-tuned best-of-4)
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
set=$SERALM_DATA/ml-100k
make --no-print-directory build >&2

threads=${THREADS:-1} iterations=${ITERATIONS:-100}
export OMP_NUM_THREADS=$threads SERALM_RECOMMENDER_THREADS=$threads SERALM_KNOWLEDGE_THREADS=$threads
export SERALM_RECOMMENDER_LEARNING_RATE=2e-3 SERALM_KNOWLEDGE_DOMAIN=movies SERALM_KNOWLEDGE_BATCH=64
export SERALM_ALIGNMENT_MAX_TOKENS=24 SERALM_ALIGNMENT_RESERVOIR=100000 SERALM_ALIGNMENT_LEARNING_RATE=1e-3
of=(--dataset "$set" --min-value 3 --batch 32 --patience 4 --stop log_p)

made=$folder/iterations
[ -e "$made" ] || echo "$iterations" >"$made"
if [ "$(cat "$made")" != "$iterations" ]; then
  echo "bench: error: $folder has policies of $(cat "$made") iterations: name another folder, or set ITERATIONS" >&2
  exit 1
fi

# The texts that the judge has learnt from: what a system writes of itself.
texts=$folder/texts.jsonl
if [ ! -e "$texts" ]; then
  export SERALM_DATA_DIR=$folder/system
  SERALM_KNOWLEDGE_ENABLED=true SERALM_KNOWLEDGE_MAX_TOKENS=64 SERALM_HTTP_ADDR=127.0.0.1:0 bin/seralm up >"$folder/system.log" 2>&1 &
  system=$!
  trap 'kill $system 2>/dev/null || true; wait' EXIT
  until bin/seralm replay --dataset "$set" --limit 1 >"$folder/replay.log" 2>&1; do
    kill -0 $system || { echo "bench: error: seralm up has ended; see $folder/system.log" >&2; exit 1; }
    sleep 2
  done
  until bin/seralm knowledge stats | grep ': 0 have the vector of their title only, 0 have nothing' >/dev/null; do
    kill -0 $system || { echo "bench: error: seralm up has ended; see $folder/system.log" >&2; exit 1; }
    sleep 10
  done
  bin/seralm knowledge export "$texts.part"
  mv "$texts.part" "$texts"
  kill $system
  wait $system || true
  trap - EXIT
  unset SERALM_DATA_DIR
fi

# write ARM SEED OPTION... writes the texts of an arm. The judge is the seed's.
write() {
  local arm=$1 seed=$2 dir=$folder/$1-$2 judge=$folder/judge-$2
  shift 2
  [ ! -e "$folder/$arm-$seed.json" ] || return 0
  mkdir -p "$dir"
  [ ! -e "$judge" ] || [ -e "$dir/recommender" ] || cp -r "$judge" "$dir/recommender"
  bin/seralm eval align "${of[@]}" --knowledge "$texts" --seed "$seed" --dir "$dir" --texts "$folder/$arm-$seed.json" "$@"
  [ -e "$judge" ] || [ ! -e "$dir/recommender" ] || cp -r "$dir/recommender" "$judge"
}

for arm in "${arms[@]}"; do
  knowledge=(--knowledge "$folder/$arm-{seed}.json")
  for seed in ${seeds//,/ }; do
    case $arm in
    Base) knowledge=() ;;
    title) knowledge=(--knowledge title) ;;
    NA_LLM) write "$arm" "$seed" --adapter none ;;
    catalogue) write "$arm" "$seed" --iterations "$iterations" ;;
    instance) SERALM_ALIGNMENT_REWARD=instance write "$arm" "$seed" --iterations "$iterations" ;;
    fine-tuned)
      SERALM_ALIGNMENT_ESTIMATOR=best_of_k SERALM_ALIGNMENT_WEIGHTING=none SERALM_ALIGNMENT_ALPHA=0 \
        write "$arm" "$seed" --iterations "$iterations"
      ;;
    best-of-4) write "$arm" "$seed" --best-of 4 ;;
    *) echo "bench: error: no arm $arm; see the top of $0" >&2 && exit 1 ;;
    esac
  done
  bin/seralm eval leaveoneout "${of[@]}" --seeds "$seeds" --json "$folder/align.json" --arm "$arm" "${knowledge[@]}"
done
bin/seralm eval table "$folder/align.json"
