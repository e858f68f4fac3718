#!/usr/bin/env bash
# How fast SmolLM2 writes here and in transformers on PyTorch: tokens per second of 16
# sampled texts of 64 tokens, prompts included, with the same weights, type and
# threads, in turns, and the ratio of the medians. The prompts begin with the same
# instructions, as an item's do; here they are computed once, in transformers for each.
#
#   bench/llm.sh [RESULT.json]      (default: build/bench/llm.json)
#
# Needs Python 3.11 (PYTHON names it). transformers is installed once per user, at the
# versions in bench/llm/requirements.txt: 5 GB, for PyTorch's package wants CUDA even
# on a CPU. Takes some 5 minutes; a busy machine distorts both sides, so each
# measurement is recorded with the load that it began under.
set -euo pipefail
cd "$(dirname "$0")/.."
here=bench/llm
result=${1:-build/bench/llm.json}
repetitions=3
export OMP_NUM_THREADS=2 MKL_NUM_THREADS=2

venv=${XDG_CACHE_HOME:-$HOME/.cache}/seralm/llm-$(sha256sum $here/requirements.txt | cut -c1-12)
if [ ! -e "$venv/.complete" ]; then
  echo "bench: installing transformers into $venv" >&2
  "${PYTHON:-python3.11}" -m venv --clear "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check -r $here/requirements.txt
  touch "$venv/.complete"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 ops/setup/native.py setup smollm2
eval "$(python3 ops/setup/native.py env)" # on both sides, threads that wait sleep
go build -o "$work/seralm" ./$here

for _ in $(seq $repetitions); do
  for type in bf16 float32; do
    "$work/seralm" "$SERALM_SMOLLM2" $here/prompts.json $type | tee -a "$work/runs" >&2
    "$venv/bin/python" $here/peer.py generate "$SERALM_SMOLLM2" $here/prompts.json $type | tee -a "$work/runs" >&2
  done
done
mkdir -p "$(dirname "$result")"
"$venv/bin/python" $here/peer.py summarise "$work/runs" "$result"
