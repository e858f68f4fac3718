"""The other side of bench/llm.sh: transformers on PyTorch, with the same weights, prompts, type and threads.

    peer.py generate SMOLLM2.gguf PROMPTS.json TYPE    one line of JSON, as main.go prints it
    peer.py summarise RUNS RESULT.json                 ratios of the medians
"""

import json
import os
import pathlib
import statistics
import sys
import time

PROMPT = "Summarise in two sentences what kind of viewer would enjoy the movie '{}'. Mention themes, mood and similar films."
MAX_TOKENS, TAU, THREADS = 64, .8, 2
END, PAD = 2, 0  # <|im_end|>, <|endoftext|>


def generate(model, prompts, kind):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "models/llm/testdata"))
    import torch
    from make import chat_ids, load_smollm2

    torch.set_num_threads(THREADS)
    m, tok = load_smollm2(model, {"bf16": torch.bfloat16, "float32": torch.float32}[kind])
    sequences = [chat_ids(tok, "", PROMPT.format(title)) for title in json.load(open(prompts))]
    width = max(map(len, sequences))
    ids = torch.tensor([[PAD] * (width - len(s)) + s for s in sequences])
    mask = torch.tensor([[0] * (width - len(s)) + [1] * len(s) for s in sequences])

    def sample(n):
        with torch.inference_mode():
            torch.manual_seed(1)
            out = m.generate(ids, attention_mask=mask, max_new_tokens=n, do_sample=True, temperature=TAU, top_k=0, top_p=1.0,
                             eos_token_id=END, pad_token_id=PAD, use_cache=True)
        return out.shape[0] * (out.shape[1] - width)  # as main.go counts

    sample(4)
    load, begin, cpu = os.getloadavg()[0], time.monotonic(), time.process_time()
    tokens = sample(MAX_TOKENS)
    print(json.dumps({"system": "transformers", "type": kind, "tokens": tokens,
                      "seconds": time.monotonic() - begin, "cpu_seconds": time.process_time() - cpu, "load": load}))


def summarise(runs, result):
    lines = [json.loads(line) for line in open(runs)]
    out = {"settings": {"batch": 16, "max_tokens": MAX_TOKENS, "temperature": TAU, "threads": THREADS}, "runs": lines}
    for kind in ("bf16", "float32"):
        rate = {s: statistics.median(r["tokens"] / r["seconds"] for r in lines if r["system"] == s and r["type"] == kind)
                for s in ("seralm", "transformers")}
        ratio = rate["seralm"] / rate["transformers"]
        cpu = {s: statistics.median(r["tokens"] / r["cpu_seconds"] for r in lines if r["system"] == s and r["type"] == kind) for s in rate}
        out[kind] = {"tokens_per_second": {k: round(v, 1) for k, v in rate.items()}, "ratio": round(ratio, 2),
                     "tokens_per_cpu_second": {k: round(v, 1) for k, v in cpu.items()}}
        print(f"{kind}: SeRALM {rate['seralm']:.0f}, transformers {rate['transformers']:.0f} tokens/s: {ratio:.1f} x (in {result})")
    json.dump(out, open(result, "w"), indent=1)
    if min(out[k]["ratio"] for k in ("bf16", "float32")) < 1:
        sys.exit("bench: error: slower than transformers; is the machine busy? (load in the result file)")


{"generate": generate, "summarise": summarise}[sys.argv[1]](*sys.argv[2:])
