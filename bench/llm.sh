#!/usr/bin/env bash
# How fast SmolLM2 writes here and in transformers on PyTorch: tokens per second of 16
# sampled texts of 64 tokens, prompts included, with the same weights, type and
# threads, in turns, and the ratio of the medians. The prompts begin with the same
# instructions, as an item's do; here they are computed once, in transformers for each.
# llama.cpp's figure is beside them for reference: it computes on the 4-bit weights of
# the file itself, in 8-bit integers.
#
#   bench/llm.sh [RESULT.json]      (default: build/bench/llm.json)
#
# Needs Python 3.11 (PYTHON names it), npm and libffi. transformers is installed once
# per user, at the versions in bench/llm/requirements.txt: 5 GB, for PyTorch's package
# wants CUDA even on a CPU; llama.cpp, as node-llama-cpp releases it, likewise: 12 MB.
# Takes 3 minutes on a quiet machine; a busy one distorts all sides: each measurement is
# recorded with the load that it began under. llama.cpp's threads wait by spinning and
# suffer most, therefore it is measured with one thread, too.
set -euo pipefail
cd "$(dirname "$0")/.."
here=bench/llm
result=${1:-build/bench/llm.json}
repetitions=3
export OMP_NUM_THREADS=2 MKL_NUM_THREADS=2

cache=${XDG_CACHE_HOME:-$HOME/.cache}/seralm
venv=$cache/llm-$(sha256sum $here/requirements.txt | cut -c1-12)
if [ ! -e "$venv/.complete" ]; then
  echo "bench: installing transformers into $venv" >&2
  "${PYTHON:-python3.11}" -m venv --clear "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check -r $here/requirements.txt
  touch "$venv/.complete"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# llama.cpp v0.5.0. Its libraries' names lack the version that it was built with.
package=@node-llama-cpp/linux-x64@3.22.1
sha256=0d953e1503d5ab4608d8ed5b739132308c81ac05ffeb760d2a7f30e08a9f90e0
llamacpp=$cache/llamacpp-${sha256:0:12}
if [ ! -e "$llamacpp/.complete" ]; then
  echo "bench: installing llama.cpp into $llamacpp" >&2
  archive=$work/$(npm pack --silent --pack-destination "$work" $package)
  echo "$sha256  $archive" | sha256sum --check --quiet
  mkdir -p "$llamacpp"
  tar -xzf "$archive" -C "$llamacpp" --strip-components=3 package/bins/linux-x64
  tar -xzf "$archive" -C "$llamacpp" --strip-components=1 package/LICENSE
  for library in ggml llama; do ln -sf lib$library.v0.5.0.so "$llamacpp/lib$library.so"; done
  touch "$llamacpp/.complete"
fi

python3 ops/setup/native.py setup smollm2
eval "$(python3 ops/setup/native.py env)" # on both of libtorch's sides, threads that wait sleep
go build -o "$work/seralm" ./$here
(cd $here/llamacpp && CGO_ENABLED=0 go build -o "$work/llamacpp" .)

for _ in $(seq $repetitions); do
  for type in bf16 float32; do
    "$work/seralm" "$SERALM_SMOLLM2" $here/prompts.json $type | tee -a "$work/runs" >&2
    "$venv/bin/python" $here/peer.py generate "$SERALM_SMOLLM2" $here/prompts.json $type | tee -a "$work/runs" >&2
  done
  for threads in 2 1; do
    "$work/llamacpp" "$llamacpp" "$SERALM_SMOLLM2" $here/prompts.json $threads | tee -a "$work/runs" >&2
  done
done
mkdir -p "$(dirname "$result")"
"$venv/bin/python" $here/peer.py summarise "$work/runs" "$result"
