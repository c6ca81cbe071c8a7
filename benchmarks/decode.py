"""Greedy decoding speed of SmolLM2-135M in float32, side by side in one run.

    python benchmarks/decode.py [--rounds 6] [--new-tokens 64] [--json FILE]

Each round times every system once, in turn, on the same 32-token prompt, with one row
and with eight. The figure is the fastest round: on a shared machine it is the one that
was disturbed least. All systems must give the same tokens, or the script says so.
"""

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import torch
import transformers

from simplex_jax import models
from simplex_jax.export import LlamaCpp

TEXT = (
    "The history of computing is longer than the history of computing hardware. "
    "It includes the methods of calculation that people used with pen and paper, "
)
PROMPT_TOKENS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result = measure(args.rounds, args.new_tokens)
    print_table(result)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def measure(rounds: int, new_tokens: int) -> dict:
    model, tokenizer = models.load("smollm2-135m")
    prompt = tokenizer.encode(TEXT * 2)[:PROMPT_TOKENS]
    with tempfile.TemporaryDirectory() as folder:
        models.save_hf(model, tokenizer, f"{folder}/hf")
        models.save_gguf(model, tokenizer, f"{folder}/f32.gguf", "f32")
        peer = transformers.AutoModelForCausalLM.from_pretrained(
            f"{folder}/hf", dtype=torch.float32
        ).eval()
        peer.generation_config.eos_token_id = None
        peer.generation_config.pad_token_id = 0
        context = PROMPT_TOKENS + new_tokens
        with LlamaCpp(
            f"{folder}/f32.gguf", context_tokens=context, threads=os.cpu_count() or 1
        ) as cpp:

            def ours(rows: int) -> np.ndarray:
                tokens = np.tile(prompt, (rows, 1))
                out = models.generate(model, tokens, max_new_tokens=new_tokens)
                return np.asarray(out.tokens)

            def theirs(rows: int) -> np.ndarray:
                ids = torch.tensor([prompt] * rows)
                with torch.no_grad():
                    out = peer.generate(
                        ids,
                        attention_mask=torch.ones_like(ids),
                        max_new_tokens=new_tokens,
                        do_sample=False,
                    )
                return out[:, PROMPT_TOKENS:].numpy()

            def llama_cpp(rows: int) -> np.ndarray:
                assert rows == 1
                return np.array([cpp.greedy(prompt, new_tokens)])

            systems = {
                ("simplex_jax", 1): ours,
                ("transformers", 1): theirs,
                ("llama.cpp", 1): llama_cpp,
                ("simplex_jax", 8): ours,
                ("transformers", 8): theirs,
            }
            seconds: dict = {key: [] for key in systems}
            outputs: dict = {}
            load = []
            for number in range(rounds + 1):
                load.append(os.getloadavg()[0])
                for (name, rows), run in systems.items():
                    start = time.perf_counter()
                    outputs[name, rows] = run(rows)
                    # The first round compiles and warms the caches.
                    if number:
                        seconds[name, rows].append(time.perf_counter() - start)
    expected = outputs["transformers", 1][0]
    return {
        "command": "python benchmarks/decode.py",
        "commit": _commit(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {
            "jax": jax.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "load_average": load,
        "new_tokens": new_tokens,
        "systems": [
            {
                "name": name,
                "rows": rows,
                "tokens_per_second": rows * new_tokens / min(times),
                "seconds": times,
                "same_tokens": bool((outputs[name, rows] == expected).all()),
            }
            for (name, rows), times in seconds.items()
        ],
    }


def print_table(result: dict) -> None:
    speed = {(s["name"], s["rows"]): s for s in result["systems"]}
    print(f"{'system':14} rows   tokens/s   simplex_jax is   same tokens")
    for (name, rows), system in speed.items():
        ours = speed["simplex_jax", rows]["tokens_per_second"]
        ratio = ours / system["tokens_per_second"]
        print(
            f"{name:14} {rows:4} {system['tokens_per_second']:10.1f} "
            f"{ratio:12.2f} x   {system['same_tokens']}"
        )
    print("load average", [round(x, 2) for x in result["load_average"]])


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
