#!/usr/bin/env python3
"""Make the fixtures of models/encoder from the reference (pip install torch transformers sentence-transformers).

    make.py tiny             tiny/: a random BERT as Hugging Face writes it, with the small vocabulary of
                             models/tokenizer; tiny.json: the vectors that sentence-transformers makes with it
    make.py minilm FOLDER    minilm.json: the same for all-MiniLM-L6-v2

The texts are every fourth of models/tokenizer/testdata/cases.json; two are repeated until they must be cut.
"""

import json
import pathlib
import shutil
import sys
import tempfile

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).resolve().parent
TOKENIZERS = HERE.parent.parent / "tokenizer/testdata"


def texts():
    all = [c["text"] for c in json.loads((TOKENIZERS / "cases.json").read_text())["texts"]][::4]
    return [t * 80 if i in (4, 30) else t for i, t in enumerate(all)]


def vectors(folder, tokenizer):
    with tempfile.TemporaryDirectory() as tmp:  # with the tokenizer files that sentence-transformers looks for
        for name in ("config.json", "model.safetensors"):
            shutil.copy(pathlib.Path(folder) / name, tmp)
        tokenizer.save_pretrained(tmp)
        word = Transformer(tmp, max_seq_length=256)
        model = SentenceTransformer(modules=[word, Pooling(word.get_word_embedding_dimension(), pooling_mode="mean"), Normalize()], device="cpu")
        return [model.encode([t], convert_to_numpy=True)[0].tolist() for t in texts()]  # one at a time: nothing is padded


def fast(path):
    return PreTrainedTokenizerFast(tokenizer_file=str(path), unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
                                   mask_token="[MASK]", model_max_length=256, model_input_names=["input_ids", "token_type_ids", "attention_mask"])


def write(name, vs):
    lines = ",\n".join(json.dumps({"text": t, "vector": [round(x, 6) for x in v]}) for t, v in zip(texts(), vs, strict=True))
    (HERE / name).write_text("[\n" + lines + "\n]\n")


def tiny():
    torch.manual_seed(0)
    m = BertModel(BertConfig(vocab_size=600, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
                             max_position_embeddings=256, initializer_range=.3))
    for p in m.parameters():
        if p.dim() == 1:
            p.data += torch.randn_like(p) * .2
    m.save_pretrained(HERE / "tiny")
    shutil.copy(TOKENIZERS / "wordpiece.json", HERE / "tiny/tokenizer.json")
    write("tiny.json", vectors(HERE / "tiny", fast(HERE / "tiny/tokenizer.json")))


if sys.argv[1] == "tiny":
    tiny()
else:
    write("minilm.json", vectors(sys.argv[2], fast(pathlib.Path(sys.argv[2]) / "tokenizer.json")))
