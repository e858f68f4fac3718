#!/usr/bin/env bash
# All recommenders on the stream of ML-1M, each event ranked, then learnt: docs/RESULTS.md,
# "Prequential".
#
#   SERALM_DATA=... bench/prequential.sh FOLDER [ARM...]
#
# The arms are these, all of them unless told otherwise:
#
#   sasrec gru4rec lightsans paup caser    popularity and item-transition kNN beside each;
#                                          lightsans and paup, for which each target that is
#                                          replayed costs a whole sequence, replay one for a new
#                                          one, the others four
#   bias                                   SASRec with the learnt bias for items of the history
#   daily                                  SASRec beside one that is trained from scratch,
#                                          EPOCHS (10) passes over all so far, every day of
#                                          the first LIMIT (200,000) events; an hour and more
#
# Each arm is a file of FOLDER, one that is there is not run again, and at the end
# FOLDER/prequential.svg shows the curves of those five that are there. An arm takes 15
# minutes and more.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:?where to keep everything}
shift
arms=("$@")
(($# > 0)) || arms=(sasrec gru4rec lightsans paup caser bias daily)
mkdir -p "$folder"
make --no-print-directory build >&2
export OMP_NUM_THREADS=${THREADS:-1} SERALM_RECOMMENDER_THREADS=${THREADS:-1}

for arm in "${arms[@]}"; do
  result=$folder/$arm.json
  of=(--recommender "$arm")
  unset SERALM_RECOMMENDER_LAYERS SERALM_RECOMMENDER_INNER SERALM_RECOMMENDER_MAX_LEN SERALM_RECOMMENDER_HISTORY_BIAS SERALM_TRAINER_REPLAY
  case $arm in
  sasrec) ;;
  bias) of=(--recommender sasrec) && export SERALM_RECOMMENDER_HISTORY_BIAS=true ;;
  lightsans | paup) export SERALM_TRAINER_REPLAY=1 ;;
  gru4rec) export SERALM_RECOMMENDER_LAYERS=1 SERALM_RECOMMENDER_INNER=128 ;;
  caser) export SERALM_RECOMMENDER_MAX_LEN=10 ;;
  daily) of=(--recommender sasrec --retrain 24h --epochs "${EPOCHS:-10}" --limit "${LIMIT:-200000}") && result=$folder/daily-${EPOCHS:-10}-${LIMIT:-200000}.json ;;
  *) echo "bench: error: no arm $arm; see the top of $0" >&2 && exit 1 ;;
  esac
  # One that was interrupted has its curve so far.
  { [ -e "$result" ] && ! grep -q '"unfinished": true' "$result"; } ||
    bin/seralm eval prequential --dataset "$SERALM_DATA/ml-1m" "${of[@]}" --json "$result"
done

files=()
for arm in sasrec gru4rec lightsans paup caser; do
  [ ! -e "$folder/$arm.json" ] || files+=("$folder/$arm.json")
done
((${#files[@]} == 0)) || bin/seralm eval plot --metric masked_ndcg@10 --out "$folder/prequential.svg" "${files[@]}"
