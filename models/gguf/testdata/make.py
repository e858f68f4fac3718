#!/usr/bin/env python3
"""Make the fixtures of models/gguf from the reference implementation (pip install gguf numpy).

    make.py                     types.gguf: every type this package reads, filled at random, and beside each
                                tensor NAME a tensor NAME.f32 that gguf-py dequantised; and metadata of every kind
    make.py smollm2 MODEL.gguf  smollm2.json: sha256 of every tensor of SmolLM2 as gguf-py dequantises it
"""

import hashlib
import json
import pathlib
import sys

import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf import GGUFReader, GGUFWriter
from gguf.quants import dequantize

HERE = pathlib.Path(__file__).resolve().parent
ROWS, COLS = 2, 256
# type: elements and bytes of a block, and where its half-precision scales are.
BLOCKS = {Q.Q4_0: (32, 18, [0]), Q.Q4_1: (32, 20, [0, 2]), Q.Q5_0: (32, 22, [0]), Q.Q5_1: (32, 24, [0, 2]),
          Q.Q8_0: (32, 34, [0]), Q.Q4_K: (256, 144, [0, 2]), Q.Q5_K: (256, 176, [0, 2]), Q.Q6_K: (256, 210, [208])}


def types():
    rng = np.random.default_rng(0)
    w = GGUFWriter(HERE / "types.gguf", "llama")
    w.add_uint8("kind.uint8", 200)
    w.add_int8("kind.int8", -100)
    w.add_uint16("kind.uint16", 60_000)
    w.add_int16("kind.int16", -30_000)
    w.add_uint32("kind.uint32", 4_000_000_000)
    w.add_int32("kind.int32", -2_000_000_000)
    w.add_uint64("kind.uint64", 2**64 - 1)
    w.add_int64("kind.int64", -2**63)
    w.add_float32("kind.float32", 1e-5)
    w.add_float64("kind.float64", 0.1)
    w.add_bool("kind.bool", True)
    w.add_string("kind.string", "Amélie ▁ Ġ")
    w.add_array("kind.strings", ["", "a", "▁b"])
    w.add_array("kind.ints", [1, -2, 3])
    w.add_array("kind.floats", [0.5, -1.5])
    w.add_array("kind.bools", [True, False])

    def put(name, data, ref, raw=None):
        w.add_tensor(name, data, raw_dtype=raw)
        w.add_tensor(name + ".f32", ref.astype(np.float32).reshape(ROWS, COLS))

    for q, (elems, size, scales) in BLOCKS.items():
        a = rng.integers(0, 256, (ROWS, COLS // elems, size), dtype=np.uint8)
        for s in scales:  # a random bit pattern would often be an infinity
            a[:, :, s:s + 2] = rng.normal(0, .02, (ROWS, COLS // elems, 1)).astype(np.float16).view(np.uint8)
        a[0, 0, scales[0]:scales[0] + 2] = np.array([0x8001], np.uint16).view(np.uint8)  # a subnormal scale
        a = a.reshape(ROWS, -1)
        put(q.name, a, dequantize(a, q), q)
    f32 = rng.normal(0, 1, (ROWS, COLS)).astype(np.float32)
    f16 = np.concatenate([[0, -0.0, np.inf, -np.inf, 2**-24, -2**-24, 2**-14, 65504],
                          rng.normal(0, 1, ROWS * COLS - 8)]).astype(np.float16).reshape(ROWS, COLS)
    bf16 = (f32.view(np.uint32) >> 16).astype(np.uint16)
    put("F32", f32, f32)
    put("F16", f16, f16)
    put("BF16", bf16.view(np.uint8).reshape(ROWS, -1), dequantize(bf16.view(np.uint8), Q.BF16), Q.BF16)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def smollm2(path):
    out = {}
    for t in GGUFReader(path).tensors:
        x = dequantize(t.data, t.tensor_type).astype("<f4")
        out[t.name] = {"type": t.tensor_type.name, "shape": [int(n) for n in reversed(t.shape)],
                       "sha256": hashlib.sha256(x.tobytes()).hexdigest()}
    lines = ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in out.items())
    (HERE / "smollm2.json").write_text("{\n" + lines + "\n}\n")


if sys.argv[1:2] == ["smollm2"]:
    smollm2(sys.argv[2])
else:
    types()
