"""RecBole's side of bench/recbole.sh, which calls it.

    convert SOURCE DIR        a data set as RecBole's atomic file DIR/data.inter
    train DIR SCRATCH         measure RecBole's SASRec; one line of JSON
    summarise RUNS RESULT NAME  medians and ratio of the lines of both sides
"""

import gzip
import itertools
import json
import os
import pathlib
import statistics
import sys
import time

# RecBole's defaults but for the length; the same in main.go.
SIZES = {"MAX_ITEM_LIST_LENGTH": 50, "hidden_size": 64, "inner_size": 256, "n_layers": 2, "n_heads": 2}
BATCH = 1024
WARM_UP, MEASURED = 2, 10  # batches: a rate needs no whole epoch, which takes minutes


def convert(source, out):
    source, out = pathlib.Path(source), pathlib.Path(out)
    out.mkdir()
    atomic = source / "ml-100k.inter.gz"
    with gzip.open(atomic if atomic.exists() else source / "ratings.csv.gz", "rt") as rows, open(out / "data.inter", "w") as f:
        next(rows)
        f.write("user_id:token\titem_id:token\trating:float\ttimestamp:float\n")
        f.writelines(row.replace(",", "\t") for row in rows)


def train(data, scratch):
    sys.argv[1:] = []  # RecBole reads them too
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.sequential_recommender.sasrec import SASRec
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    config = Config(model="SASRec", dataset="data", config_dict=SIZES | {
        "data_path": str(pathlib.Path(data).parent), "checkpoint_dir": scratch, "use_gpu": False, "state": "WARNING",
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}, "val_interval": {"rating": "[3,inf)"},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "train_neg_sample_args": None, "loss_type": "CE", "train_batch_size": BATCH, "learning_rate": 1e-3,
        "hidden_dropout_prob": 0.2, "attn_dropout_prob": 0.2,
    })
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    batches, _, _ = data_preparation(config, dataset)
    trainer = Trainer(config, SASRec(config, batches.dataset))
    trainer._train_epoch(itertools.islice(batches, WARM_UP), 0)
    load, begin, cpu = os.getloadavg()[0], time.monotonic(), time.process_time()
    trainer._train_epoch(itertools.islice(batches, MEASURED), 1)
    seconds, cpu = time.monotonic() - begin, time.process_time() - cpu
    targets = min(MEASURED * BATCH, len(batches.dataset))
    print(json.dumps({"system": "recbole", "targets": targets, "seconds": seconds, "cpu_seconds": cpu, "load": load,
                      "items": dataset.item_num - 1, "epoch": len(batches.dataset)}))


def summarise(runs, result, name):
    lines = [json.loads(line) for line in open(runs)]
    rate = {system: statistics.median(r["targets"] / r["seconds"] for r in lines if r["system"] == system)
            for system in ("seralm", "recbole")}
    ratio = rate["seralm"] / rate["recbole"]
    json.dump({
        "data": name, "settings": SIZES | {"threads": 2, "dropout": 0.2, "recbole_batch": BATCH}, "runs": lines,
        "targets_per_second": {k: round(v, 1) for k, v in rate.items()}, "ratio": round(ratio, 1),
    }, open(result, "w"), indent=1)
    print(f"{name}: SeRALM {rate['seralm']:,.0f}, RecBole {rate['recbole']:,.0f} targets/s: {ratio:.0f} x (in {result})")
    if ratio < 20:
        sys.exit("bench: error: below the 20 x that SeRALM promises; is the machine busy? (load in the result file)")


{"convert": convert, "train": train, "summarise": summarise}[sys.argv[1]](*sys.argv[2:])
