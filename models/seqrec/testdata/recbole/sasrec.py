#!/usr/bin/env python3
"""Makes sasrec.json: what RecBole 1.2.1's SASRec answers and learns, for sasrec_recbole_test.go.

Run in the environment that bench/recbole.sh sets up:

    python sasrec.py > sasrec.json

Items here are RecBole's ids: 0 is padding, real items begin at 1.
"""

import json
import sys

import numpy as np
import torch
from recbole.model.sequential_recommender.sasrec import SASRec

ITEMS = 11  # with padding
SIZES = {"n_layers": 2, "n_heads": 2, "hidden_size": 8, "inner_size": 16, "MAX_ITEM_LIST_LENGTH": 6}
CONFIG = SIZES | {
    "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "LIST_SUFFIX": "_list", "ITEM_LIST_LENGTH_FIELD": "item_length",
    "NEG_PREFIX": "neg_", "device": "cpu", "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "hidden_act": "gelu",
    "layer_norm_eps": 1e-12, "initializer_range": 0.02, "loss_type": "CE",
}


class Dataset:
    def num(self, field):
        return ITEMS


def batch(histories):
    """Right padding with 0, the newest items of what is too long: RecBole's."""
    width = SIZES["MAX_ITEM_LIST_LENGTH"]
    kept = [h[-width:] for h in histories]
    seq = torch.tensor([h + [0] * (width - len(h)) for h in kept])
    return {"item_id_list": seq, "item_length": torch.tensor([len(h) for h in kept])}


def plain(tensor):
    """The shortest decimals that are these float32."""
    values = tensor.detach().numpy()
    return {"shape": list(values.shape), "data": [float(str(np.float32(v))) for v in values.ravel()]}


random = np.random.default_rng(1)
torch.manual_seed(1)
model = SASRec(CONFIG, Dataset())
with torch.no_grad():  # away from their first values: gradients well above rounding, biases that matter
    for parameter in model.parameters():
        parameter += 0.3 * torch.from_numpy(random.standard_normal(parameter.shape, dtype=np.float32))

draw = lambda n: [int(i) for i in random.integers(1, ITEMS, n)]
histories = [draw(n) for n in (1, 2, 5, 6, 9)]
sequences = [draw(n) for n in (2, 3, 5, 7, 7)]
logits = model.full_sort_predict(batch(histories))

# Prefix expansion: each prefix predicts its next item. RecBole counts the padding id
# among the classes of its softmax, at no use; here it is left out.
prefixes = [(s[:t], s[t]) for s in sequences for t in range(1, len(s))]
z = model.full_sort_predict(batch([p for p, _ in prefixes]))
z = z.masked_fill(torch.arange(ITEMS) == 0, -torch.inf)
loss = torch.nn.functional.cross_entropy(z, torch.tensor([y for _, y in prefixes]))
loss.backward()

json.dump({
    "sizes": SIZES, "items": ITEMS,
    "weights": {n: plain(p) for n, p in model.named_parameters()},
    "histories": histories, "logits": plain(logits),
    "sequences": sequences, "targets": len(prefixes), "loss": loss.item(),
    "gradients": {n: plain(p.grad) for n, p in model.named_parameters()},
}, sys.stdout, separators=(",", ":"))
