#!/usr/bin/env bash
# How fast SASRec learns here and in RecBole 1.2.1: targets per second on the same
# data, sizes and threads, in turns, and the ratio of the medians.
#
#   bench/recbole.sh [RESULT.json]      (default: build/bench/recbole.json)
#
# The data is $SERALM_DATA/ml-100k, or else testdata/ml-latest-small. Both learn from
# ratings >= 3 without each user's last two items (RecBole's leave-one-out).
#
# Needs Python 3.11 (PYTHON names it). RecBole is installed once per user, at the
# versions in bench/recbole/requirements.txt: 5 GB, for PyTorch's package wants CUDA
# even on a CPU. Takes 3 minutes on a quiet machine. A busy one distorts both sides:
# each measurement is recorded with the load that it began under, and threads that
# wait sleep, since OpenMP's default of spinning starves whoever shares the cores.
set -euo pipefail
cd "$(dirname "$0")/.."
here=bench/recbole
result=${1:-build/bench/recbole.json}
repetitions=3
export OMP_NUM_THREADS=2 MKL_NUM_THREADS=2 OMP_WAIT_POLICY=passive

venv=${XDG_CACHE_HOME:-$HOME/.cache}/seralm/recbole-$(sha256sum $here/requirements.txt | cut -c1-12)
if [ ! -e "$venv/.complete" ]; then
  echo "bench: installing RecBole into $venv" >&2
  "${PYTHON:-python3.11}" -m venv --clear "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check -r $here/requirements.txt
  touch "$venv/.complete"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -d "${SERALM_DATA:-}/ml-100k" ]; then source=$SERALM_DATA/ml-100k; else source=testdata/ml-latest-small; fi
"$venv/bin/python" $here/peer.py convert "$source" "$work/data"
eval "$(python3 ops/setup/native.py env)"
go build -o "$work/seralm" ./$here

for _ in $(seq $repetitions); do
  "$work/seralm" "$work/data" | tee -a "$work/runs" >&2
  (cd "$work" && "$venv/bin/python" "$OLDPWD/$here/peer.py" train "$work/data" "$work") | tee -a "$work/runs" >&2
done
mkdir -p "$(dirname "$result")"
"$venv/bin/python" $here/peer.py summarise "$work/runs" "$result" "$(basename "$source")"
