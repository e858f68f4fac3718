#!/usr/bin/env python3
"""Makes MODEL.json: what a peer's model answers and learns, for recbole_test.go.

    python fixtures.py MODEL > MODEL.json

Run in the environment that bench/recbole.sh sets up. The peer is RecBole 1.2.1, but for
PAUP, which it lacks: that is a plain reading of its equations, below.

Items here are RecBole's ids: 0 is padding, real items begin at 1.
"""

import json
import math
import sys

import numpy as np
import torch
from recbole.model.sequential_recommender.caser import Caser
from recbole.model.sequential_recommender.gru4rec import GRU4Rec
from recbole.model.sequential_recommender.lightsans import LightSANs
from recbole.model.sequential_recommender.sasrec import SASRec
from torch import nn

ITEMS = 11  # with padding
LENGTH = 6
COMMON = {
    "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "LIST_SUFFIX": "_list", "ITEM_LIST_LENGTH_FIELD": "item_length",
    "NEG_PREFIX": "neg_", "device": "cpu", "MAX_ITEM_LIST_LENGTH": LENGTH, "loss_type": "CE",
}
TRANSFORMER = {
    "n_layers": 2, "n_heads": 2, "hidden_size": 8, "inner_size": 16, "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0,
    "hidden_act": "gelu", "layer_norm_eps": 1e-12, "initializer_range": 0.02,
}


class Dataset:
    user_num = 2  # with padding

    def num(self, field):
        return ITEMS


class PAUP(nn.Module):
    """Zhu et al., SIGIR 2022, under the names of the authors' code."""

    def __init__(self, d=16, layers=2, heads=2, inner=16, m=2, k1=2):
        super().__init__()
        mid = LENGTH / k1
        k2 = math.ceil(mid / m)
        pad = math.ceil((k2 * m - mid) / 2)
        block = lambda **parts: nn.ModuleDict(parts)
        shorten = lambda: block(conv1a=nn.Conv1d(d, d // 16, k1, k1), conv2a=nn.Conv1d(d // 16, d, k2, k2, pad))
        norm = lambda: nn.LayerNorm(d, 1e-12)
        self.heads, self.d = heads, d
        self.item_embedding, self.position_embedding = nn.Embedding(ITEMS, d, padding_idx=0), nn.Embedding(LENGTH, d)
        self.LayerNorm = norm()
        self.trm_encoder = block(layer=nn.ModuleList(block(
            multi_head_attention=block(
                **{n: nn.Linear(d, d) for n in ("query", "key", "value", "pos_q_linear", "pos_k_linear", "dense")},
                attpooling_key=shorten(), attpooling_value=shorten(), pos_ln=norm(), LayerNorm=norm()),
            feed_forward=block(dense_1=nn.Linear(d, inner), dense_2=nn.Linear(inner, d), LayerNorm=norm()),
        ) for _ in range(layers)))

    def full_sort_predict(self, batch):
        x = self.LayerNorm(self.item_embedding(batch["item_id_list"]))
        split = lambda z: z.unflatten(2, (self.heads, -1)).transpose(1, 2)
        shorten = lambda z, conv: conv.conv2a(torch.relu(conv.conv1a(z.mT))).mT
        size = self.d / self.heads
        for layer in self.trm_encoder.layer:
            a, f = layer.multi_head_attention, layer.feed_forward
            q, k, v = a.query(x), a.key(x), a.value(x)
            items = (split(q) @ split(shorten(k, a.attpooling_key)).mT / size**0.5).softmax(-2)
            p = a.pos_ln(self.position_embedding.weight + x)
            positions = (split(a.pos_q_linear(p)) * (2 * size) ** -0.5 @ split(a.pos_k_linear(p)).mT / size**0.5).softmax(-2)
            context = items @ split(shorten(v, a.attpooling_value)) + positions @ split(v)
            x = a.LayerNorm(a.dense(context.transpose(1, 2).flatten(2)) + x)
            x = f.LayerNorm(f.dense_2(nn.functional.gelu(f.dense_1(x))) + x)
        last = x[torch.arange(len(x)), batch["item_length"] - 1]
        return last @ self.item_embedding.weight.T


def build(name):
    """The model, and its sizes under our names."""
    transformer = {"Dim": 8, "Layers": 2, "Heads": 2, "Inner": 16}
    make = lambda model, config: model(COMMON | config, Dataset())
    match name:
        case "sasrec":
            return make(SASRec, TRANSFORMER), transformer
        case "gru4rec":
            return make(GRU4Rec, {"embedding_size": 8, "hidden_size": 12, "num_layers": 2, "dropout_prob": 0.0}), {"Dim": 8, "Layers": 2, "Inner": 12}
        case "lightsans":
            return make(LightSANs, TRANSFORMER | {"k_interests": 3}), transformer | {"Interests": 3}
        case "paup":
            return PAUP(), transformer | {"Dim": 16, "Segments": 2, "Kernel": 2}
        case "caser":
            return make(Caser, {"embedding_size": 8, "nh": 3, "nv": 2, "dropout_prob": 0.0, "reg_weight": 1e-4}), {"Dim": 8, "Vertical": 2, "Horizontal": 3}


def batch(histories):
    """Right padding with 0, the newest items of what is too long: RecBole's. All are of one user."""
    kept = [h[-LENGTH:] for h in histories]
    seq = torch.tensor([h + [0] * (LENGTH - len(h)) for h in kept])
    return {"item_id_list": seq, "item_length": torch.tensor([len(h) for h in kept]), "user_id": torch.ones(len(kept), dtype=torch.long)}


def plain(name, tensor):
    """The shortest decimals that are these float32."""
    values = tensor.detach().numpy()
    if name == "user_embedding.weight":
        values = values[1:]
    return {"shape": list(values.shape), "data": [float(str(np.float32(v))) for v in values.ravel()]}


name = sys.argv[1]
random = np.random.default_rng(1)
torch.manual_seed(1)
model, sizes = build(name)
with torch.no_grad():  # away from their first values: gradients well above rounding, biases that matter
    for parameter in model.parameters():
        parameter += 0.3 * torch.from_numpy(random.standard_normal(parameter.shape, dtype=np.float32))
    if name != "sasrec":  # it masks padding; the others see it, as nothing
        model.item_embedding.weight[0] = 0

draw = lambda n: [int(i) for i in random.integers(1, ITEMS, n)]
histories = [draw(n) for n in (1, 2, 5, 6, 9)]
sequences = [draw(n) for n in (2, 3, 5, 7, 7)]
logits = model.full_sort_predict(batch(histories))

# Prefix expansion: each prefix predicts its next item. RecBole counts the padding id
# among the classes of its softmax, at no use; here it is left out. Of Caser's penalties
# the one on the horizontal filters is kept.
prefixes = [(s[:t], s[t]) for s in sequences for t in range(1, len(s))]
z = model.full_sort_predict(batch([p for p, _ in prefixes]))
z = z.masked_fill(torch.arange(ITEMS) == 0, -torch.inf)
loss = torch.nn.functional.cross_entropy(z, torch.tensor([y for _, y in prefixes]))
(loss + (model.reg_loss_conv_h() if name == "caser" else 0)).backward()

json.dump({
    "sizes": {"Name": name, "MaxLen": LENGTH} | sizes, "items": ITEMS,
    "weights": {n: plain(n, p) for n, p in model.named_parameters()},
    "histories": histories, "logits": plain("", logits),
    "sequences": sequences, "targets": len(prefixes), "loss": loss.item(),
    "gradients": {n: plain(n, p.grad) for n, p in model.named_parameters()},
}, sys.stdout, separators=(",", ":"))
