#!/usr/bin/env bash
# How long SeRALM takes to the validation NDCG@10 that RecBole 1.2.1 has after some
# epochs of the same model, data, sizes and threads; validation is part of both times.
#
#   bench/race.sh [EPOCHS [MODEL...]]   (default: 4, SASRec GRU4Rec LightSANs Caser)
#
# Results are build/bench/race-MODEL-RATE-BATCH.json; RecBole's curves are kept, by their
# settings. THREADS (default 1) and RATE, the
# learning rate (default 1e-3, RecBole's), are of both sides. A step of RecBole's is
# RECBOLE_BATCH targets (default 1,024); of ours 64 sequences, with about as many, of GRU4Rec
# 16, or of LightSANs and Caser 256 with a target each.
# RecBole's dropout is its default but for LightSANs, .2 as ours; we clip gradients at 5. The
# data is $SERALM_DATA/ml-100k, or else testdata/ml-latest-small; RecBole is the one
# that bench/recbole.sh installs. Its epochs take from 20 seconds (Caser) to two minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
make --no-print-directory build >&2
here=bench/recbole
. bench/sizes.sh
epochs=${1:-4}
shift || true
models=${*:-SASRec GRU4Rec LightSANs Caser}
export RATE=${RATE:-1e-3} RECBOLE_BATCH=${RECBOLE_BATCH:-1024} SERALM_RECOMMENDER_LEARNING_RATE=${RATE:-1e-3}
export OMP_NUM_THREADS=${THREADS:-1} MKL_NUM_THREADS=${THREADS:-1} OMP_WAIT_POLICY=passive SERALM_RECOMMENDER_THREADS=${THREADS:-1}

venv=${XDG_CACHE_HOME:-$HOME/.cache}/seralm/recbole-$(sha256sum $here/requirements.txt | cut -c1-12)
[ -e "$venv/.complete" ] || { echo "bench: error: RecBole is not there; bench/recbole.sh installs it" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -d "${SERALM_DATA:-}/ml-100k" ]; then source=$SERALM_DATA/ml-100k; else source=testdata/ml-latest-small; fi
"$venv/bin/python" $here/peer.py convert "$source" "$work/data"
mkdir -p build/bench

for model in $models; do
  name=$(echo "$model" | tr '[:upper:]' '[:lower:]')
  epochs_of_ours=60 patience=20 batch=64
  case $name in
  gru4rec) batch=16 ;;
  caser | lightsans) epochs_of_ours=400 patience=30 batch=256 ;; # short ones: see bench/models.sh
  esac
  curve=$PWD/build/bench/curve-$(basename "$source")-$model-$epochs-$RATE-$RECBOLE_BATCH-$OMP_NUM_THREADS.json
  if [ ! -e "$curve" ]; then
    (cd "$work" && "$venv/bin/python" "$OLDPWD/$here/peer.py" curve "$work/data" "$work" "$model" "$epochs" "$curve.part")
    mv "$curve.part" "$curve"
  fi
  rm -f "$work/ours.json"
  sizes "$name"
  bin/seralm eval leaveoneout --dataset "$work/data" --min-value 3 \
    --recommender "$name" --batch $batch --epochs $epochs_of_ours --patience $patience --stop ndcg@10 --seeds 1,2,3 --json "$work/ours.json" >&2
  "$venv/bin/python" $here/peer.py race "build/bench/race-$model-$RATE-$RECBOLE_BATCH.json" "$curve" "$work/ours.json"
done
