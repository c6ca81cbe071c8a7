"""Speed of the block codecs in millions of weights a second, one type a row.

    python benchmarks/gguf_codecs.py [--weights 4194304] [--rounds 5] [--json FILE]

Decoding: jitted (``gguf.traced``), NumPy (``gguf.dequantize_array``), gguf-py.
Encoding: jitted, NumPy (``gguf.quantize_array``, the exact one). Each round times every
system once, in turn; the figure is the fastest round. Compilation is not timed.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import gguf as gguf_py
import jax
import jax.numpy as jnp
import numpy as np

from simplex_jax import gguf
from simplex_jax.gguf import GGMLType, traced

TYPES = "Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K".split()
COLUMNS = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=int, default=1 << 22)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = {name: measure(name, args.weights, args.rounds) for name in TYPES}
    print_table(rows)
    if args.json:
        result = {
            "machine": platform.processor() or platform.machine(),
            "cpus": len(os.sched_getaffinity(0)),
            "backend": jax.default_backend(),
            "jax": jax.__version__,
            "weights": args.weights,
            "mweights_per_second": rows,
        }
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def measure(name: str, weights: int, rounds: int) -> dict[str, float]:
    kind, shape = GGMLType[name], (weights // COLUMNS, COLUMNS)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    blocks = gguf.quantize_array(x, kind)
    on_device, blocks_on_device = jnp.asarray(x), jnp.asarray(blocks)
    decode = {
        "decode jitted": lambda: traced.dequantize(blocks_on_device, kind, shape),
        "decode numpy": lambda: gguf.dequantize_array(blocks, kind, shape),
        "decode gguf-py": lambda: gguf_py.dequantize(blocks, kind),
    }
    encode = {
        "encode jitted": lambda: traced.quantize(on_device, kind),
        "encode numpy": lambda: gguf.quantize_array(x, kind),
    }
    seconds = {**fastest(decode, rounds), **fastest(encode, max(1, rounds // 3))}
    return {what: round(x.size / s / 1e6, 1) for what, s in seconds.items()}


def fastest(systems: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Return each system's fastest round, after one that is not timed."""
    best = dict.fromkeys(systems, float("inf"))
    for call in systems.values():
        jax.block_until_ready(call())
    for _ in range(rounds):
        for what, call in systems.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            best[what] = min(best[what], time.perf_counter() - start)
    return best


def print_table(rows: dict[str, dict[str, float]]) -> None:
    columns = list(next(iter(rows.values())))
    print(f"{'type':6}" + "".join(f"{column:>16}" for column in columns))
    for name, row in rows.items():
        print(f"{name:6}" + "".join(f"{row[column]:16.1f}" for column in columns))


if __name__ == "__main__":
    main()
