"""Another side of bench/llm.sh: transformers on PyTorch, with the same weights, prompts, type and threads.

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
LLAMACPP = ("for reference, no like-for-like ratio: computed on the file's 4-bit weights in 8-bit integers, the others on the same weights in their type. "
            "Its threads wait for each other by spinning, which beside other work costs it many times over; one thread does not.")


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
    print(json.dumps({"system": "transformers", "type": kind, "threads": THREADS, "prompt_tokens": sum(map(len, sequences)), "tokens": tokens,
                      "seconds": time.monotonic() - begin, "cpu_seconds": time.process_time() - cpu, "load": load}))


def summarise(runs, result):
    lines = [json.loads(line) for line in open(runs)]
    if len({r["prompt_tokens"] for r in lines}) > 1:
        sys.exit("bench: error: the sides read prompts of different lengths; is PROMPT the same in main.go, llamacpp/main.go and peer.py?")

    def rates(*side, per="seconds"):
        return statistics.median(r["tokens"] / r[per] for r in lines if (r["system"], r["type"], r["threads"]) == side)

    out = {"settings": {"batch": 16, "max_tokens": MAX_TOKENS, "temperature": TAU, "threads": THREADS}}
    for kind in ("bf16", "float32"):
        wall, cpu = ({s: rates(s, kind, THREADS, per=per) for s in ("seralm", "transformers")} for per in ("seconds", "cpu_seconds"))
        out[kind] = {"tokens_per_second": {k: round(v, 1) for k, v in wall.items()}, "ratio": round(wall["seralm"] / wall["transformers"], 2),
                     "tokens_per_cpu_second": {k: round(v, 1) for k, v in cpu.items()}}
        print(f"{kind}: SeRALM {wall['seralm']:.0f}, transformers {wall['transformers']:.0f} tokens/s: {out[kind]['ratio']} x (in {result})")
    out["llama.cpp"] = {"note": LLAMACPP, "by_threads": {}}
    for threads in (THREADS, 1):
        wall, cpu = (rates("llama.cpp", "Q4_1", threads, per=per) for per in ("seconds", "cpu_seconds"))
        out["llama.cpp"]["by_threads"][threads] = {"tokens_per_second": round(wall, 1), "tokens_per_cpu_second": round(cpu, 1)}
        print(f"llama.cpp on 4-bit weights, threads: {threads}: {wall:.0f} tokens/s, {cpu:.0f} per CPU second")
    json.dump(out | {"runs": lines}, open(result, "w"), indent=1)
    if min(out[k]["ratio"] for k in ("bf16", "float32")) < 1:
        sys.exit("bench: error: slower than transformers; is the machine busy? (load in the result file)")


{"generate": generate, "summarise": summarise}[sys.argv[1]](*sys.argv[2:])
