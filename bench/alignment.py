#!/usr/bin/env python3
"""How much faster alignment is when its two jobs work at the same time than when they take turns.

    bench/alignment.py [--pairs 2] [--iterations 10] [RESULT.json]      (default: build/bench/alignment.json)

Two real processes, seralm up --roles=generator and --roles=policy with SmolLM2-135M, each on a
core of its own (taskset) and with one thread, over the embedded broker of a third one that has
learnt a recommender from testdata/ml-latest-small and does nothing more. They run with
alignment.refresh 50 and with 0, which is taking turns, by turns; then both on one core. Each run
begins with a copy of the same log and a policy that has learnt nothing: the same instances.

What can be gained is (G+T)/max(G',T'), with G and T the seconds that generator and trainer work for an
iteration when they take turns, and G' and T' at the same time. A generator that need not wait samples 16
instances at once (alignment.group), where one that takes turns has the 4 of an iteration: G' is less. A
trainer that learns of an older policy scores its texts again: T' is more. The result has all four (wall
time not spent waiting for the other, and CPU time), so that the ratio can be seen to follow.

Needs two cores and a quiet machine: 10 minutes. `make build weights` comes first.
"""

import argparse
import gzip
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT / "testdata" / "ml-latest-small"
EVENTS = 3_000
WARM = 1  # iterations before the clock starts: weights are loaded, the first texts are there
PATIENCE = 1800  # seconds for a step of the course
# Memory that libtorch gives back is kept: where each of its large tensors is mapped anew, a machine
# that is slow to hand out pages is what is measured.
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(4 << 30)}
SETTINGS = {
    "SERALM_ALIGNMENT_BATCH": "4",
    "SERALM_ALIGNMENT_GROUP": "16",
    "SERALM_ALIGNMENT_CANDIDATES": "4",
    "SERALM_ALIGNMENT_MAX_TOKENS": "12",
    "SERALM_ALIGNMENT_RESERVOIR": "512",
}
UP = ["up", "--roles=serve,gateway,histories,trainer,evaluator"]
REFRESH = {"at the same time": "50", "taking turns": "0"}


class Program:
    """A seralm process, on the cores given, whose metrics can be read."""

    running = []

    def __init__(self, work, name, args, env, cores=None):
        self.name, self.path = name, work / f"{name}.log"
        command = [ROOT / "bin" / "seralm", *args]
        if cores is not None:
            command = ["taskset", "-c", str(cores), *command]
        self.log = open(self.path, "w")
        self.process = subprocess.Popen(command, env=env, stdout=self.log, stderr=subprocess.STDOUT)
        Program.running.append(self.process)
        self.address = self.until("it listens", lambda: re.search(r"msg=started .*http=(\S+)", self.path.read_text()))[1]

    def until(self, what, found):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if got := found():
                return got
            if self.process.poll() is not None:
                sys.exit(f"bench: {self.name} ended while waiting until {what}:\n{self.path.read_text()[-2000:]}")
            time.sleep(0.2)
        sys.exit(f"bench: {self.name}: waited {PATIENCE} s until {what}")

    def metrics(self):
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=60) as answer:
            lines = [line.split(" ") for line in answer.read().decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line for line in lines if len(line) == 2)}

    def end(self):
        self.process.terminate()
        self.process.wait(120)
        Program.running.remove(self.process)
        self.log.close()


def prepare(work, env):
    """A log with a catalogue, interactions and a recommender that reads titles."""
    up = Program(work, "broker", UP, env)
    seralm = lambda *args: subprocess.run([ROOT / "bin" / "seralm", *args], env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seralm("replay", "--dataset", str(DATA), "--limit", "1")
    with gzip.open(DATA / "ratings.csv.gz", "rt") as file:
        ratings = [line.split(",") for line in file.read().splitlines()[1:]]
    taken = {item for _, item, _, _ in sorted(ratings, key=lambda r: int(r[3]))[:EVENTS]}
    titles = {}
    for line in (DATA / "movies.csv").read_text().splitlines()[1:]:
        item, rest = line.split(",", 1)
        if item in taken:
            titles[item] = rest.rsplit(",", 1)[0].strip('"')
    (work / "titles.json").write_text(json.dumps(titles))
    seralm("knowledge", "import", str(work / "titles.json"))
    seralm("replay", "--dataset", str(DATA), "--limit", str(EVENTS))
    def done():
        m = up.metrics()
        return m["seralm_trainer_events_total"] >= EVENTS and m["seralm_trainer_lag_records"] == 0
    up.until("the recommender has learnt", done)
    time.sleep(15)  # it publishes every 5 seconds; what served and looked on comes to rest
    up.end()


def run(work, env, number, placement, mode, iterations):
    data = work / f"data-{number}"
    shutil.copytree(work / "data", data)
    env = env | {"SERALM_DATA_DIR": str(data)}
    broker = Program(work, f"broker-{number}", UP, env)
    env |= {"SERALM_ALIGNMENT_REFRESH": REFRESH[mode], "SERALM_ALIGNMENT_ENABLED": "true"}
    cores = placement_cores(placement)
    jobs = {role: Program(work, f"{role}-{number}", ["up", f"--roles={role}"], env, core) for role, core in cores.items()}
    policy = jobs["policy"]
    def reached(step):
        policy.until(f"iteration {step} is made", lambda: policy.metrics()["seralm_policy_step"] >= step)
        return {"time": time.monotonic(), "broker": broker.metrics()} | {role: job.metrics() for role, job in jobs.items()}
    began, ended = reached(WARM), reached(WARM + iterations)
    for job in *jobs.values(), broker:
        job.end()
    shutil.rmtree(data)
    wall = ended["time"] - began["time"]
    made = ended["policy"]["seralm_policy_step"] - began["policy"]["seralm_policy_step"]
    out = {"placement": placement, "mode": mode, "iterations": made, "seconds": round(wall, 2), "per_second": made / wall}
    for role in jobs:
        since = lambda name: ended[role][name] - began[role][name]
        idle = since(f"seralm_{role}_idle_seconds_total")
        # A generator that is ahead has made more than was learnt: its work is for its own.
        done = since("seralm_generator_samples_total") / int(SETTINGS["SERALM_ALIGNMENT_BATCH"]) if role == "generator" else made
        out[role] = {
            "iterations": round(done, 2), "idle_share": round(min(1, idle / wall), 3), "busy_seconds": round((wall - idle) / max(done, 1e-9), 3),
            "cpu_seconds": round(since("process_cpu_seconds_total") / max(done, 1e-9), 3),
        }
    name = "process_cpu_seconds_total"
    out["broker_cpu_share"] = round((ended["broker"][name] - began["broker"][name]) / wall, 3)
    out["load"], out["version"] = os.getloadavg()[0], re.search(r"version=(\S+)", broker.path.read_text())[1]
    print("bench:", json.dumps(out), file=sys.stderr, flush=True)
    return out


def placement_cores(placement):
    a, *more = sorted(os.sched_getaffinity(0))
    return {"generator": a, "policy": more[0] if placement == "two cores" else a}


def summarise(runs):
    """What the runs say of each placement."""
    summary = {}
    for placement in sorted({r["placement"] for r in runs}, reverse=True):
        of = {mode: [r for r in runs if r["placement"] == placement and r["mode"] == mode] for mode in REFRESH}
        ratios = [s["per_second"] / t["per_second"] for s, t in zip(of["at the same time"], of["taking turns"])]
        cost = {mode: {role: statistics.median(r[role]["cpu_seconds"] for r in of[mode]) for role in ("generator", "policy")} for mode in REFRESH}
        summary[placement] = {
            "iterations_per_second": {mode: statistics.median(r["per_second"] for r in of[mode]) for mode in REFRESH},
            "ratios": [round(r, 3) for r in ratios], "median_ratio": round(statistics.median(ratios), 3),
            "idle_share": {mode: {role: statistics.median(r[role]["idle_share"] for r in of[mode]) for role in cost[mode]} for mode in REFRESH},
            "cpu_seconds_an_iteration": cost,
            "most_that_is_possible": round(sum(cost["taking turns"].values()) / max(cost["at the same time"].values()), 3),
        }
    return summary


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("result", nargs="?", default=str(ROOT / "build" / "bench" / "alignment.json"))
    p.add_argument("--pairs", type=int, default=2, help="of runs on two cores; on one core there is one")
    p.add_argument("--iterations", type=int, default=10, help="that are timed in each run")
    a = p.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("bench: needs two cores")
    runs = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        work = pathlib.Path(folder)
        env = {k: v for k, v in os.environ.items() if not k.startswith("SERALM_")} | MALLOC | SETTINGS | {
            "SERALM_DATA_DIR": str(work / "data"), "SERALM_HTTP_ADDR": "127.0.0.1:0", "SERALM_KNOWLEDGE_ENABLED": "true",
            "SERALM_KNOWLEDGE_DOMAIN": "movies", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive",
        }
        prepare(work, env)
        for placement, pairs in ("two cores", a.pairs), ("one core", 1):
            for _ in range(pairs):
                for mode in REFRESH:
                    runs.append(run(work, env, len(runs), placement, mode, a.iterations))
    summary = summarise(runs)
    result = {
        "benchmark": "alignment: generator and policy, at the same time (alignment.refresh 50) against taking turns (0)",
        "data": f"testdata/ml-latest-small, {EVENTS} events", "settings": SETTINGS, "warm_up_iterations": WARM, "version": runs[0]["version"],
        "machine": {"cores": os.cpu_count(), "processor": cpu_name(), "kernel": platform.release()},
        "summary": summary, "runs": runs,
    }
    path = pathlib.Path(a.result)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(summary, indent=1))


def cpu_name():
    found = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.processor()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: it was told to end"))
    try:
        main()
    finally:
        for process in Program.running:
            process.kill()
