#!/usr/bin/env python3
"""Fetch SeRALM's native parts (libtorch, ONNX Runtime, model weights) and tell the build where they are.

    native.py check            name what is missing on this machine, exit 1 if anything is
    native.py setup [PART...]  fetch what is not there yet (default: what a build needs;
                                the weights smollm2 and minilm are fetched by name)
    native.py env              print the variables a build needs, as `export NAME='value'` lines
    native.py make             the same as Makefile assignments

Parts are downloaded by pip by exact version and sha256 (native.lock.json), unpacked into a
per-user cache folder shared by every checkout, and put in place by one rename: an interrupted
run leaves only a temporary folder, which the next run removes. Nothing is fetched twice, and
once everything is there no network is needed.

SERALM_LIBTORCH=DIR uses an existing PyTorch 2.11 (the folder with include/ and lib/) instead.
SERALM_NATIVE=DIR   puts the parts somewhere else (default: $XDG_CACHE_HOME/seralm/native).
"""

import fcntl
import hashlib
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
LOCK = json.loads((HERE / "native.lock.json").read_text())["parts"]
# Libraries that gotch's link line names and a CPU build does not need. An empty
# archive satisfies the linker; on a CUDA machine the real ones are opened at start.
STUBS = ["cuda", "cudart", "cublas", "cudnn", "caffe2_nvrtc", "nvrtc-builtins", "nvrtc",
         "nvToolsExt", "c10_cuda", "torch_cuda", "torch"]
# gotch compiles its thin C++ layer with -g -O3, which takes 5-6 minutes; the last
# flag wins, and the arithmetic is all inside libtorch, so nothing is lost. -w: its
# warnings are not ours to mend.
CXX = '#!/bin/sh\nexec "${SERALM_CXX:-g++}" "$@" -O0 -g0 -w\n'


def say(msg):
    print(f"setup: {msg}", file=sys.stderr, flush=True)


def die(msg):
    sys.exit(f"setup: error: {msg}")


def home():
    if os.environ.get("SERALM_NATIVE"):
        return pathlib.Path(os.environ["SERALM_NATIVE"]).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(base).absolute() / "seralm" / "native"


def digest(*texts):
    h = hashlib.sha256()
    for t in texts:
        h.update(t.encode() + b"\0")
    return h.hexdigest()[:12]


def part_dir(name):
    p = LOCK[name]
    return home() / f"{name}-{p['version']}-{digest(json.dumps(p['wheels'], sort_keys=True))}"


def libtorch_dir():
    given = os.environ.get("SERALM_LIBTORCH")
    if not given:
        return part_dir("libtorch")
    d = pathlib.Path(given).absolute()
    for need in ("include/torch/csrc/api/include/torch/torch.h", "lib/libtorch_cpu.so", "lib/libc10.so"):
        if not (d / need).exists():
            die(f"SERALM_LIBTORCH={given}: {need} is not there. Point it at the folder that holds "
                "include/ and lib/ (for a pip install: .../site-packages/torch).")
    version = d / "include/torch/headeronly/version.h"
    if version.exists() and not ("VERSION_MAJOR 2" in version.read_text() and "VERSION_MINOR 11" in version.read_text()):
        die(f"SERALM_LIBTORCH={given} is not PyTorch 2.11, the version SeRALM is built against.")
    return d


def glue_dir():
    return home() / f"glue-{digest((HERE / 'compat.h').read_text(), CXX, ' '.join(STUBS))}"


def check():
    """Problems as sentences, each with its remedy."""
    bad = []
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        bad.append(f"this is {platform.system()} {platform.machine()}; the pinned native parts are for Linux x86_64. "
                   "Use a container or a Linux machine.")
    if sys.version_info < (3, 9):
        bad.append(f"Python {platform.python_version()} is too old as a downloader; 3.9 or later is needed.")
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        bad.append("python3 has no pip. Debian/Ubuntu: apt-get install python3-pip")
    for tool, remedy in (("go", "install Go 1.26 or later"), ("make", "apt-get install make"),
                         (os.environ.get("SERALM_CXX", "g++"), "apt-get install g++"), ("ar", "apt-get install binutils")):
        if not shutil.which(tool):
            bad.append(f"{tool} is not on PATH: {remedy}")
    return bad


def download(wheel, into):
    say(f"downloading {wheel['requirement']} ({wheel['size_mb']} MB)")
    req = into / "requirement.txt"
    req.write_text(f"{wheel['requirement']} --hash=sha256:{wheel['sha256']}\n")
    cmd = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--no-cache-dir",
           "--disable-pip-version-check", "--only-binary=:all:", "--implementation", "cp",
           "--python-version", wheel["python"], "--abi", wheel["abi"], "--platform", wheel["platform"],
           "-d", str(into), "-r", str(req)]
    if not sys.stderr.isatty():
        cmd.insert(4, "--quiet")
    for attempt in (1, 2, 3):
        if subprocess.run(cmd, stdout=sys.stderr).returncode == 0:
            return next(into.glob("*.whl"))
        say(f"attempt {attempt} of 3 failed")
        time.sleep(2 * attempt)
    die(f"could not download {wheel['requirement']}. Check the network and that pip reaches its package "
        "index; then run the same command again, what is already there is kept.")


def unpack(whl, members, into):
    with zipfile.ZipFile(whl) as z:
        for prefix, target in members.items():
            names = [n for n in z.namelist() if (n.startswith(prefix) if prefix.endswith("/") else n == prefix)]
            if not names:
                die(f"{whl.name} holds no {prefix}")
            for n in names:
                if n.endswith("/"):
                    continue
                out = into / target / (n[len(prefix):] if prefix.endswith("/") else pathlib.Path(n).name)
                out.parent.mkdir(parents=True, exist_ok=True)
                with z.open(n) as src, open(out, "wb") as dst:
                    shutil.copyfileobj(src, dst, 1 << 20)


def install(target, fill):
    """Create folder target by filling a temporary one and renaming it: there or not, never half."""
    if target.is_dir():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    tmp = pathlib.Path(tempfile.mkdtemp(prefix=f".partial-{target.name}-", dir=target.parent))
    try:
        fill(tmp)
        os.sync()
        os.chmod(tmp, 0o755)
        tmp.rename(target)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    return True


def setup_part(name):
    if name == "libtorch" and os.environ.get("SERALM_LIBTORCH"):
        say(f"libtorch: using {libtorch_dir()}")
        return
    target = part_dir(name)
    wheels = LOCK[name]["wheels"]

    def fill(tmp):
        free = shutil.disk_usage(tmp).free >> 20
        need = 4 * sum(w["size_mb"] for w in wheels)
        if free < need:
            die(f"{name} needs about {need} MB free in {target.parent}, and {free} MB are. "
                "Free some room, or set SERALM_NATIVE to another folder.")
        for w in wheels:
            with tempfile.TemporaryDirectory(dir=tmp) as d:
                unpack(download(w, pathlib.Path(d)), w["members"], tmp)

    began = time.time()
    if install(target, fill):
        say(f"{name} {LOCK[name]['version']} is ready ({time.time() - began:.0f} s) in {target}")


def setup_glue():
    def fill(tmp):
        shutil.copy(HERE / "compat.h", tmp / "compat.h")
        (tmp / "cxx").write_text(CXX)
        (tmp / "cxx").chmod(0o755)
        for s in STUBS:
            subprocess.run(["ar", "rcs", str(tmp / f"lib{s}.a")], check=True)

    install(glue_dir(), fill)


def variables():
    """The build's environment: the only place where these flags are written. Go's build cache
    keeps the compiled C++ layer for as long as they stay the same to the byte."""
    t, g = libtorch_dir(), glue_dir()
    return {
        "CXX": f"{g}/cxx",
        "CGO_ENABLED": "1",
        "CGO_CFLAGS": "-O2 -w -D_GLIBCXX_USE_CXX11_ABI=1",
        "CGO_CXXFLAGS": f"-include {g}/compat.h -I{t}/include -I{t}/include/torch/csrc/api/include -D_GLIBCXX_USE_CXX11_ABI=1",
        "CGO_LDFLAGS": f"-L{g} -L{t}/lib -Wl,-rpath,{t}/lib",
        "SERALM_ONNXRUNTIME": f"{part_dir('onnxruntime')}/lib/libonnxruntime.so.{LOCK['onnxruntime']['version']}",
        # Threads of libtorch that wait for each other sleep: by default they spin, which
        # starves whoever shares the cores.
        "OMP_WAIT_POLICY": "passive",
        # Weights: where they are once `setup smollm2 minilm` has fetched them.
        "SERALM_SMOLLM2": f"{part_dir('smollm2')}/SmolLM2-135M-Instruct.Q4_1.gguf",
        "SERALM_MINILM": str(part_dir("minilm")),
    }


def setup(parts):
    for p in parts:
        if p not in LOCK:
            die(f"unknown part {p!r}; there are: {', '.join(LOCK)}")
    bad = check()
    if bad:
        die("this machine lacks something:\n  - " + "\n  - ".join(bad))
    home().mkdir(parents=True, exist_ok=True)
    with open(home() / ".lock", "w") as lock:  # two checkouts may set up at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        for half in home().glob(".partial-*"):
            say(f"removing {half.name}, left by an interrupted run")
            shutil.rmtree(half)
        setup_glue()
        for p in parts:
            setup_part(p)


def main():
    cmd, rest = (sys.argv[1:2] or ["help"])[0], sys.argv[2:]
    if cmd == "check":
        for b in check():
            print(f"missing: {b}")
        sys.exit(1 if check() else 0)
    elif cmd == "setup":
        setup(rest or [p for p in LOCK if LOCK[p]["default"]])
    elif cmd == "env":
        for k, v in variables().items():
            print(f"export {k}='{v}'")
    elif cmd == "make":
        for k, v in variables().items():
            print(f"export {k} := {v}")
    else:
        print(__doc__)
        sys.exit(0 if cmd in ("help", "-h", "--help") else 2)


if __name__ == "__main__":
    main()
