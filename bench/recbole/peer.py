"""RecBole's side of bench/recbole.sh, which calls it.

    convert SOURCE DIR        a data set as RecBole's atomic file DIR/data.inter
    train DIR SCRATCH         measure RecBole's SASRec; one line of JSON
    summarise RUNS RESULT NAME  medians and ratio of the lines of both sides
    curve DIR SCRATCH MODEL EPOCHS RESULT  so many epochs of a model, each validated
    race RESULT CURVE OURS...  how long both sides take to RecBole's best validation
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
BATCH = int(os.environ.get("RECBOLE_BATCH", 1024))  # targets of a step
RATE = float(os.environ.get("RATE", 1e-3))
WARM_UP, MEASURED = 2, 10  # batches: a rate needs no whole epoch, which takes minutes


def convert(source, out):
    source, out = pathlib.Path(source), pathlib.Path(out)
    out.mkdir()
    atomic = source / "ml-100k.inter.gz"
    with gzip.open(atomic if atomic.exists() else source / "ratings.csv.gz", "rt") as rows, open(out / "data.inter", "w") as f:
        next(rows)
        f.write("user_id:token\titem_id:token\trating:float\ttimestamp:float\n")
        f.writelines(row.replace(",", "\t") for row in rows)


def prepare(data, scratch, model, settings):
    """RecBole's trainer of a model, and its batches: to learn and to validate."""
    sys.argv[1:] = []  # RecBole reads them too
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    config = Config(model=model, dataset="data", config_dict=settings | {
        "data_path": str(pathlib.Path(data).parent), "checkpoint_dir": scratch, "use_gpu": False, "state": "WARNING",
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}, "val_interval": {"rating": "[3,inf)"},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "train_neg_sample_args": None, "loss_type": "CE", "train_batch_size": BATCH, "learning_rate": RATE,
        "metrics": ["NDCG", "Hit"], "topk": [10], "valid_metric": "NDCG@10",
    })
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    batches, validation, _ = data_preparation(config, dataset)
    trainer = get_trainer(config["MODEL_TYPE"], model)(config, get_model(model)(config, batches.dataset))
    return trainer, batches, validation, dataset


DROPOUT = {"hidden_dropout_prob": 0.2, "attn_dropout_prob": 0.2}


def train(data, scratch):
    trainer, batches, _, dataset = prepare(data, scratch, "SASRec", SIZES | DROPOUT)
    trainer._train_epoch(itertools.islice(batches, WARM_UP), 0)
    load, begin, cpu = os.getloadavg()[0], time.monotonic(), time.process_time()
    trainer._train_epoch(itertools.islice(batches, MEASURED), 1)
    seconds, cpu = time.monotonic() - begin, time.process_time() - cpu
    targets = min(MEASURED * BATCH, len(batches.dataset))
    print(json.dumps({"system": "recbole", "targets": targets, "seconds": seconds, "cpu_seconds": cpu, "load": load,
                      "items": dataset.item_num - 1, "epoch": len(batches.dataset)}))


# Length 20, and RecBole's defaults but for LightSANs' dropout, which is .5 there. Caser
# has one filter height for each position.
MODELS = {
    "SASRec": SIZES | DROPOUT | {"MAX_ITEM_LIST_LENGTH": 20},
    "GRU4Rec": {"MAX_ITEM_LIST_LENGTH": 20},
    "LightSANs": SIZES | DROPOUT | {"MAX_ITEM_LIST_LENGTH": 20, "k_interests": 2},
    "Caser": {"MAX_ITEM_LIST_LENGTH": 10},
}


def curve(data, scratch, model, epochs, result):
    trainer, batches, validation, _ = prepare(data, scratch, model, MODELS[model])
    points, seconds = [], 0.0
    for epoch in range(int(epochs)):
        begin, load = time.monotonic(), os.getloadavg()[0]
        loss = trainer._train_epoch(batches, epoch)
        _, metrics = trainer._valid_epoch(validation)
        seconds += time.monotonic() - begin
        points.append({"epoch": epoch + 1, "loss": float(loss), "seconds": round(seconds, 2), "load": load} | {k: float(v) for k, v in metrics.items()})
        print(json.dumps(points[-1]), file=sys.stderr, flush=True)
        # Written each time: what is interrupted leaves its curve so far.
        json.dump({"system": "RecBole 1.2.1", "model": model, "settings": MODELS[model], "batch": BATCH, "learning_rate": RATE, "threads": os.environ["OMP_NUM_THREADS"], "curve": points}, open(result, "w"), indent=1)


def race(result, theirs, *ours):
    theirs = json.load(open(theirs))
    best = max(theirs["curve"], key=lambda p: p["ndcg@10"])
    out = {"model": theirs["model"], "validation_ndcg@10": best["ndcg@10"], "recbole": theirs, "seralm": []}
    for path in ours:
        for arm in json.load(open(path))["arms"]:
            for run in arm["runs"]:
                there = [p for p in run["curve"] if p["validation"]["ndcg@10"] >= best["ndcg@10"]]
                out["seralm"].append({"seed": run["seed"], "seconds": there[0]["seconds"] if there else None, "curve": [
                    {"epoch": p["epoch"], "seconds": p["seconds"], "ndcg@10": p["validation"]["ndcg@10"]} for p in run["curve"]]})
    reached = [r["seconds"] for r in out["seralm"] if r["seconds"]]
    if len(reached) == len(out["seralm"]):
        out["ratio"] = round(best["seconds"] / statistics.median(reached), 1)
    json.dump(out, open(result, "w"), indent=1)
    print(f"{out['model']}: validation NDCG@10 {best['ndcg@10']:.4f}: RecBole {best['seconds']:.0f} s (epoch {best['epoch']} of {len(theirs['curve'])}), "
          f"SeRALM {', '.join(f'{s:.0f}' for s in reached) or 'never'} s: {out.get('ratio', 'no')} x")


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


{"convert": convert, "train": train, "summarise": summarise, "curve": curve, "race": race}[sys.argv[1]](*sys.argv[2:])
