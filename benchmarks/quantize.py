"""Quantizing SmolLM2-135M from F32: this library and llama_model_quantize, in turn.

    python benchmarks/quantize.py [--rounds 5] [--types q4_k_m ...] [--json FILE]

Each run is a process of its own with two workers or threads, which times the call
alone, imports set aside; this library's workers start within the call. The figure is
the fastest round: on a shared machine it is the one that was disturbed least. Memory is
the largest sum of the resident sets of a run's processes, sampled a hundred times a
second; both programs map the input, and what they read of it counts. The files must be
equal, byte for byte, or the script says so.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from simplex_jax import gguf, models

WORKERS = 2
TYPES = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q3_k_m", "q2_k")
PROGRAMS = {
    "simplex_jax": """
import sys, time
from simplex_jax import gguf
source, target, kind = sys.argv[1:]
start = time.perf_counter()
gguf.quantize(source, target, kind, workers=WORKERS)
print(time.perf_counter() - start)
""",
    "llama.cpp": """
import ctypes, sys, time
import llama_cpp
from simplex_jax import gguf
source, target, kind = sys.argv[1:]
silent = llama_cpp.llama_log_callback(lambda *_: None)
llama_cpp.llama_log_set(silent, ctypes.c_void_p())
parameters = llama_cpp.llama_model_quantize_default_params()
parameters.ftype, parameters.nthread = int(gguf.FILE_TYPES[kind]), WORKERS
start = time.perf_counter()
status = llama_cpp.llama_model_quantize(source.encode(), target.encode(), parameters)
print(time.perf_counter() - start)
sys.exit(status)
""",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--types", nargs="+", default=TYPES, choices=gguf.FILE_TYPES)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result = measure(args.rounds, args.types)
    print_table(result)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def measure(rounds: int, types: list[str]) -> dict:
    load, rows = [], []
    with tempfile.TemporaryDirectory() as folder:
        source = f"{folder}/f32.gguf"
        gguf.quantize(models.fetch("smollm2-135m"), source, "f32")
        for kind in types:
            seconds: dict = {name: [] for name in PROGRAMS}
            peaks: dict = dict.fromkeys(PROGRAMS, 0)
            for _ in range(rounds):
                load.append(os.getloadavg()[0])
                for name in PROGRAMS:
                    taken, peak = run(name, source, f"{folder}/{name}.gguf", kind)
                    seconds[name].append(taken)
                    peaks[name] = max(peaks[name], peak)
            files = [Path(f"{folder}/{name}.gguf") for name in PROGRAMS]
            ours, theirs = (min(seconds[name]) for name in PROGRAMS)
            rows.append(
                {
                    "type": kind,
                    "seconds": seconds,
                    "ratio": ours / theirs,
                    "peak_bytes": peaks,
                    "size_bytes": files[0].stat().st_size,
                    "same_bytes": files[0].read_bytes() == files[1].read_bytes(),
                }
            )
    return {
        "command": "python benchmarks/quantize.py",
        "commit": _commit(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {"numpy": np.__version__, "python": platform.python_version()},
        "workers": WORKERS,
        "load_average": load,
        "types": rows,
    }


def run(name: str, source: str, target: str, kind: str) -> tuple[float, int]:
    """Return the seconds of the call, and the peak of memory in bytes."""
    code = PROGRAMS[name].replace("WORKERS", str(WORKERS))
    command = [sys.executable, "-c", code, source, target, kind]
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, resident_bytes(process.pid))
            time.sleep(0.01)
        assert process.stdout is not None
        printed = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"{name} ended with status {process.returncode}")
    return float(printed), peak


def resident_bytes(process: int) -> int:
    """Return the resident set of a process and of its children."""
    folder = Path(f"/proc/{process}")
    try:
        pages = int((folder / "statm").read_text().split()[1])
        children = (folder / f"task/{process}/children").read_text().split()
    except OSError:
        return 0
    own = pages * os.sysconf("SC_PAGE_SIZE")
    return own + sum(resident_bytes(int(child)) for child in children)


def print_table(result: dict) -> None:
    print(
        "type      simplex_jax   llama.cpp    ratio   peak MiB, ours and theirs  bytes"
    )
    for row in result["types"]:
        ours, theirs = (min(row["seconds"][name]) for name in PROGRAMS)
        peaks = " ".join(f"{row['peak_bytes'][n] / 2**20:9.0f}" for n in PROGRAMS)
        print(
            f"{row['type']:8} {ours:10.2f} s {theirs:9.2f} s {row['ratio']:8.2f} "
            f"{peaks:>24}      {'equal' if row['same_bytes'] else 'DIFFERENT'}"
        )
    print("load average", [round(x, 2) for x in result["load_average"]])


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
