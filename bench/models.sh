#!/usr/bin/env bash
# All recommenders on a data set, leave-one-out: the tables of docs/RESULTS.md.
#
#   SERALM_DATA=... bench/models.sh DATASET RESULT.json [SEEDS [RECOMMENDER...]]
#
# DATASET is a folder of $SERALM_DATA: ml-100k, ml-1m, amazon-books, amazon-toys,
# amazon-beauty or yelp. The result is written seed by seed: the same command goes on
# where it was interrupted. `seralm eval table RESULT.json` prints it.
#
# An epoch of a causal architecture (sasrec, gru4rec) learns all positions of all users;
# of the others a sample, as many as there are pieces of L items, so it is L times shorter, and as
# many more of them pass before one without a better validation is believed.
set -euo pipefail
cd "$(dirname "$0")/.."
make --no-print-directory build >&2
set_name=${1:?which data set} result=${2:?where to write the result} seeds=${3:-1,2,3,4,5}
shift 2 && shift || true
all=(popularity transitions sasrec gru4rec lightsans paup caser)
(($# == 0)) || all=("$@")

columns=() stop=(--patience 10 --stop mrr@10)
case $set_name in
ml-100k | ml-1m) columns=(--min-value 3) ;;
amazon-* | yelp) stop=(--patience 3 --stop mrr@10 --validate 3000) ;;
*) echo "bench: error: no settings for the data set $set_name; see the top of $0" >&2 && exit 1 ;;
esac
export OMP_NUM_THREADS=${THREADS:-1} SERALM_RECOMMENDER_THREADS=${THREADS:-1} SERALM_RECOMMENDER_LEARNING_RATE=2e-3
. bench/sizes.sh

for name in "${all[@]}"; do
  of=("${stop[@]}" --epochs 100)
  case $name in
  lightsans | paup | caser) of=("${stop[@]}" --epochs 2000) && of[1]=$((3 * of[1])) ;;
  esac
  sizes "$name"
  bin/seralm eval leaveoneout --dataset "$SERALM_DATA/$set_name" "${columns[@]}" \
    --recommender "$name" --batch 64 "${of[@]}" --seeds "$seeds" --json "$result"
done
