#!/usr/bin/env python3
"""Make the fixtures of models/llm from the reference implementation (pip install torch transformers gguf).

    make.py tiny                    a random llama of Llama 2's layout: tiny/ as Hugging Face writes it, in several
                                    files, tiny.gguf with the same weights as llama.cpp's converter writes them
                                    (q and k rows permuted), and tiny.json: what transformers makes of it in float32
    make.py smollm2 SMOLLM2.gguf    smollm2.json: what transformers makes of SmolLM2, dequantised to float32
    make.py compare SMOLLM2.gguf LOGITS   largest difference to logits that `go test -tags weights` wrote for the
                                    prompts of smollm2.json (variable SERALM_LOGITS), over the whole vocabulary
"""

import json
import pathlib
import sys

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.quants import dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).resolve().parent
TOKENIZERS = HERE.parent.parent / "tokenizer/testdata"
# Llama 2's own, from its tokenizer_config.json.
LLAMA2 = ("{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}"
          "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
          "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate "
          "user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}"
          "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}"
          "{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
          "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")
MOVIE = "Summarise in two sentences what kind of viewer would enjoy the movie '{}', genres {}. Mention themes, mood and similar films."
ITEM = "Summarise in two sentences what kind of {} would enjoy '{}', category {}. Mention themes, mood and similar items."
# (system, user); an empty system is the template's own choice.
CHATS = [("", MOVIE.format("Heat (1995)", "Action, Crime, Thriller")),
         ("You write about items.", MOVIE.format("Toy Story (1995)", "Animation, Children, Comedy")),
         ("", MOVIE.format("Blade Runner (1982)", "Action, Sci-Fi, Thriller")),
         ("", MOVIE.format("Amélie (2001)", "Comedy, Romance")),
         ("Answer briefly.", "  What is 2+2? "),
         ("", ITEM.format("reader", "Dune by Frank Herbert", "Science Fiction")),
         ("", ITEM.format("customer", "CeraVe Moisturizing Cream, 19 oz", "Beauty > Skin Care")),
         ("", "Hi")]


def chat_ids(tok, system, user):
    messages = [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": user}]
    return tok.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


@torch.inference_mode()
def case(model, tok, system, user, new, stride, stop):
    ids = chat_ids(tok, system, user)
    logits = model(torch.tensor([ids])).logits[0]
    out, x = [], torch.tensor([ids])
    for _ in range(new):
        nxt = int(model(x).logits[0, -1].argmax())
        out.append(nxt)
        if nxt in stop:
            break
        x = torch.cat([x, torch.tensor([[nxt]])], 1)
    text = tok.decode([i for i in out if i not in stop], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    logp = torch.log_softmax(model(x).logits[0, len(ids) - 1:-1].float() / .7, -1)
    n = logp.shape[0]
    return {"system": system, "user": user, "ids": ids, "greedy": out, "text": text,
            "logits": [round(v, 5) for v in logits[-1, ::stride].tolist()],
            "logp_at_0.7": [round(v, 5) for v in logp[torch.arange(n), torch.tensor(out[:n])].tolist()]}


def write(name, cases, **rest):
    lines = ",\n".join(json.dumps(c) for c in cases)
    (HERE / name).write_text('{"cases": [\n' + lines + "\n]" + "".join(f", {json.dumps(k)}: {json.dumps(v)}" for k, v in rest.items()) + "}\n")


def tiny():
    torch.manual_seed(0)
    pieces = json.loads((TOKENIZERS / "pieces.json").read_text())
    cfg = LlamaConfig(vocab_size=600, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                      max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=False, initializer_range=.3,
                      bos_token_id=1, eos_token_id=2, pad_token_id=None, dtype="bfloat16")
    m = LlamaForCausalLM(cfg)
    for p in m.parameters():
        if p.dim() == 1:
            p.data.uniform_(.5, 1.5)
    m = m.to(torch.bfloat16)
    tok = PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZERS / "sentencepiece.json"), bos_token="<s>", eos_token="</s>", unk_token="<unk>",
                                  chat_template=LLAMA2)
    m.save_pretrained(HERE / "tiny", max_shard_size="50KB")
    tok.save_pretrained(HERE / "tiny")
    w = GGUFWriter(HERE / "tiny.gguf", "llama")
    w.add_context_length(512)
    w.add_embedding_length(32)
    w.add_block_count(2)
    w.add_feed_forward_length(48)
    w.add_head_count(4)
    w.add_head_count_kv(2)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(10000.0)
    w.add_rope_dimension_count(8)
    w.add_vocab_size(600)
    w.add_tokenizer_model("llama")
    w.add_token_list(pieces["tokens"])
    w.add_token_scores(pieces["scores"])
    w.add_token_types(pieces["types"])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_chat_template(LLAMA2)
    names = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
    for l in range(2):
        for hf, gg in (("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"), ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"),
                       ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down"),
                       ("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm")):
            names[f"model.layers.{l}.{hf}.weight"] = f"blk.{l}.{gg}.weight"
    for hf, p in m.state_dict().items():
        x = p.float()
        for part, heads in (("q_proj", 4), ("k_proj", 2)):
            if part in hf:  # LlamaModel.permute of llama.cpp's converter
                x = x.reshape(heads, 2, x.shape[0] // heads // 2, x.shape[1]).swapaxes(1, 2).reshape(x.shape)
        x = np.ascontiguousarray(x.numpy())
        if x.ndim == 1:
            w.add_tensor(names[hf], x)
        else:
            half = (x.view(np.uint32) >> 16).astype(np.uint16)  # exact: the weights are bfloat16
            w.add_tensor(names[hf], half.view(np.uint8).reshape(x.shape[0], -1), raw_dtype=GGMLQuantizationType.BF16)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    # Loaded again: .to(bfloat16) has rounded the rotary frequencies, which are no weights.
    m = LlamaForCausalLM.from_pretrained(HERE / "tiny", dtype=torch.float32).eval()
    write("tiny.json", [case(m, tok, s, u, 12, 1, {2}) for s, u in CHATS])


def load_smollm2(path, dtype=torch.float32):
    r = GGUFReader(path)
    t = {x.name: torch.from_numpy(dequantize(x.data, x.tensor_type).astype(np.float32).copy()) for x in r.tensors}
    cfg = LlamaConfig(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                      num_key_value_heads=3, max_position_embeddings=8192, rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=1,
                      eos_token_id=2, pad_token_id=2, rope_parameters={"rope_type": "default", "rope_theta": 100000.0})
    m = LlamaForCausalLM(cfg)

    def unpermute(w, heads):
        o, i = w.shape
        return w.view(heads, o // heads // 2, 2, i).transpose(1, 2).reshape(o, i)

    sd = {"model.embed_tokens.weight": t["token_embd.weight"], "model.norm.weight": t["output_norm.weight"], "lm_head.weight": t["token_embd.weight"]}
    for l in range(30):
        p, g = f"model.layers.{l}.", f"blk.{l}."
        sd[p + "self_attn.q_proj.weight"] = unpermute(t[g + "attn_q.weight"], 9)
        sd[p + "self_attn.k_proj.weight"] = unpermute(t[g + "attn_k.weight"], 3)
        sd[p + "self_attn.v_proj.weight"] = t[g + "attn_v.weight"]
        sd[p + "self_attn.o_proj.weight"] = t[g + "attn_output.weight"]
        for a in ("gate", "up", "down"):
            sd[p + f"mlp.{a}_proj.weight"] = t[g + f"ffn_{a}.weight"]
        sd[p + "input_layernorm.weight"] = t[g + "attn_norm.weight"]
        sd[p + "post_attention_layernorm.weight"] = t[g + "ffn_norm.weight"]
    m.load_state_dict(sd)
    m.tie_weights()
    f = r.fields
    tokens, types = f["tokenizer.ggml.tokens"].contents(), f["tokenizer.ggml.token_type"].contents()
    bpe = Tokenizer(models.BPE(vocab={x: i for i, x in enumerate(tokens)}, merges=[tuple(x.split(" ")) for x in f["tokenizer.ggml.merges"].contents()]))
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens([AddedToken(x, special=True, normalized=False) for x, k in zip(tokens, types) if k == 3])
    tok = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|im_end|>", chat_template=f["tokenizer.chat_template"].contents())
    return m.to(dtype).eval(), tok


def compare(path, logits):
    m, tok = load_smollm2(path)
    with torch.inference_mode():
        want = torch.stack([m(torch.tensor([chat_ids(tok, s, u)])).logits[0, -1] for s, u in CHATS])
    got = torch.from_numpy(np.fromfile(logits, "<f4").reshape(want.shape).copy())
    print("largest logit difference, 8 prompts x 49152:", (got - want).abs().max().item())


if __name__ == "__main__":
    if sys.argv[1] == "tiny":
        tiny()
    elif sys.argv[1] == "smollm2":
        m, tok = load_smollm2(sys.argv[2])
        write("smollm2.json", [case(m, tok, s, u, 48, 64, {2}) for s, u in CHATS])
    else:
        compare(*sys.argv[2:])
