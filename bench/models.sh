#!/usr/bin/env bash
# All recommenders on a data set, leave-one-out: the tables of docs/RESULTS.md.
#
#   SERALM_DATA=... bench/models.sh DATASET RESULT.json [SEEDS [RECOMMENDER...]]
#
# DATASET is a folder of $SERALM_DATA: ml-100k, ml-1m, amazon-books, amazon-toys,
# amazon-beauty or yelp. The result is written seed by seed: the same command goes on
# where it was interrupted. `seralm eval table RESULT.json` prints it.
#
# RECOMMENDER is one of the five, popularity or transitions. Of the five, one with -bias
# after its name learns a bias for items of the history, one with -title reads items' titles.
#
# An epoch of a causal architecture (sasrec, gru4rec) learns all positions of all users, in
# steps of 64 sequences; of the others a sample, as many as there are pieces of L items, so it is L
# times shorter, and as many more of them pass before one without a better validation is
# believed. Their steps are of more sequences, each of which teaches one position. The larger
# sets are learnt by a softmax of 2,048 items.
set -euo pipefail
cd "$(dirname "$0")/.."
make --no-print-directory build >&2
set_name=${1:?which data set} result=${2:?where to write the result} seeds=${3:-1,2,3,4,5}
shift 2 && shift || true
all=(popularity transitions sasrec gru4rec lightsans paup caser)
(($# == 0)) || all=("$@")

columns=() stop=(--patience 10 --stop mrr@10) many=256
case $set_name in
ml-100k | ml-1m) columns=(--min-value 3) ;;
amazon-* | yelp)
  stop=(--patience 3 --stop mrr@10 --validate 3000) many=512
  export SERALM_RECOMMENDER_NEGATIVES=2048
  ;;
*) echo "bench: error: no settings for the data set $set_name; see the top of $0" >&2 && exit 1 ;;
esac
export OMP_NUM_THREADS=${THREADS:-1} SERALM_RECOMMENDER_THREADS=${THREADS:-1} SERALM_RECOMMENDER_LEARNING_RATE=2e-3
. bench/sizes.sh

for arm in "${all[@]}"; do
  name=${arm%-*} of=("${stop[@]}" --epochs 100 --batch 64)
  case $name in
  lightsans | paup | caser) of=("${stop[@]}" --epochs 2000 --batch $many) && of[1]=$((3 * of[1])) ;;
  esac
  unset SERALM_RECOMMENDER_HISTORY_BIAS
  case $arm in
  *-bias) export SERALM_RECOMMENDER_HISTORY_BIAS=true && of+=(--arm "$name, history bias") ;;
  *-title) of+=(--knowledge title) ;;
  esac
  sizes "$name"
  bin/seralm eval leaveoneout --dataset "$SERALM_DATA/$set_name" "${columns[@]}" \
    --recommender "$name" "${of[@]}" --seeds "$seeds" --json "$result"
done
