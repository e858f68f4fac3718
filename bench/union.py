#!/usr/bin/env python3
"""A data set with a large catalogue, of several smaller ones: bench/union.py $SERALM_DATA FOLDER [EVERY]

One in EVERY (default 4) users of amazon-books, amazon-beauty, amazon-toys and yelp, and everybody of
MovieLens latest-small, which comes with this project: about 55,000 items. No user has items of two sets,
so a model must find out which items go together; what is learnt of each set is its own.
"""

import csv
import gzip
import pathlib
import sys

LATEST = pathlib.Path(__file__).resolve().parent.parent / "testdata" / "ml-latest-small" / "ratings.csv.gz"
SETS = ["amazon-books", "amazon-beauty", "amazon-toys", "yelp"]


def derived(path, every):
    """Rows of one in so many users; those of a user follow each other, oldest first."""
    with gzip.open(path, "rt") as file:
        last, n = None, 0
        for row in csv.DictReader(file):
            if row["user_id"] != last:
                last, n = row["user_id"], n + 1
            if n % every == 0:
                yield row["user_id"], row["item_id"]


def latest():
    with gzip.open(LATEST, "rt") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (int(row["userId"]), int(row["timestamp"])))
    for row in rows:
        yield row["userId"], row["movieId"]


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    data, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    every = int(sys.argv[3]) if len(sys.argv) > 3 else 4
    sources = {name: derived(data / name / "interactions.csv.gz", every) for name in SETS} | {"ml-latest-small": latest()}
    folder.mkdir(parents=True, exist_ok=True)
    items, position, last = set(), 0, None
    with gzip.open(folder / "interactions.csv.gz", "wt", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["user_id", "item_id", "position"])
        for name, rows in sources.items():
            for user, item in rows:
                position = position + 1 if (name, user) == last else 0
                last = name, user
                items.add((name, item))
                out.writerow([f"{name}-{user}", f"{name}-{item}", position])
    print(f"{folder}: {len(items)} items")


if __name__ == "__main__":
    main()
