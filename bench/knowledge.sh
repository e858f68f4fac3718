#!/usr/bin/env bash
# Recommenders with and without knowledge on ml-100k, leave-one-out: docs/RESULTS.md.
#
#   SERALM_DATA=... bench/knowledge.sh FOLDER [SEEDS [RECOMMENDER...]]
#
# SEEDS are 1,2,3 and the recommenders gru4rec, lightsans, paup and caser, unless told
# otherwise. Each learns without knowledge, with titles and genres, and with what SmolLM2-135M
# writes, not aligned, which it does once for each seed (five minutes with bf16).
# FOLDER keeps all; the same command goes on where it was interrupted. The result is
# FOLDER/knowledge.json, which `seralm eval table` and `compare` read.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:?where to keep everything} seeds=${2:-1,2,3}
shift && shift || true
recommenders=("$@")
(($# > 0)) || recommenders=(gru4rec lightsans paup caser)
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
make --no-print-directory build >&2

threads=${THREADS:-1}
export OMP_NUM_THREADS=$threads SERALM_RECOMMENDER_THREADS=$threads SERALM_RECOMMENDER_LEARNING_RATE=2e-3
data=(--dataset "$SERALM_DATA/ml-100k" --min-value 3 --stop log_p)

for seed in ${seeds//,/ }; do
  SERALM_KNOWLEDGE_THREADS=$threads SERALM_KNOWLEDGE_DOMAIN=movies SERALM_KNOWLEDGE_BATCH=64 SERALM_ALIGNMENT_MAX_TOKENS=24 \
    bin/seralm eval align "${data[@]}" --batch 32 --patience 4 --adapter none --seed "$seed" --dir "$folder/na-$seed" --texts "$folder/na-$seed.json"
done

. bench/sizes.sh
for name in "${recommenders[@]}"; do
  of=(--batch 64 --epochs 100 --patience 10)
  case $name in
  lightsans | paup | caser) of=(--batch 256 --epochs 2000 --patience 30) ;; # see bench/models.sh
  esac
  sizes "$name"
  for knowledge in none title "$folder/na-{seed}.json"; do
    bin/seralm eval leaveoneout "${data[@]}" --recommender "$name" "${of[@]}" --knowledge "$knowledge" --seeds "$seeds" --json "$folder/knowledge.json"
  done
done
