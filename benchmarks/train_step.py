"""LoRA training beside transformers with PEFT: speed, memory and loss.

    python benchmarks/train_step.py [--part PART] [--alternations 6] [--json FILE]

PART is all, or one of:

- step: an optimizer step of a 135M Llama, rank 16 on attention, 4 x 128 tokens;
- data: generated data, loss on the answers: packed rows of 512 here, rows padded to the
  longest of 8 there, in random order and grouped by length;
- parity: the losses of 20 steps of SmolLM2-135M-Instruct from the same adapters.

Each system trains in a process of its own, so that its peak memory is its own, and they
take turns: one idles while the other runs. A step counts as its fastest repetition: on
a shared machine it is the one that was disturbed least. The first turn compiles and
warms the caches; it is not counted.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np

# Neither jax nor torch is imported here: each process imports its own.

SHAPE = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
LORA = {
    "r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
}
LEARNING_RATE, WEIGHT_DECAY, MAX_NORM = 2e-4, 0.01, 1.0
OURS, PEFT = "simplex_jax", "transformers + PEFT"
PACKED, PADDED, GROUPED = "simplex_jax, packed", "PEFT, padded", "PEFT, by length"
Batch = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {"step": step_part, "data": data_part, "parity": parity_part}
    parser.add_argument("--part", choices=[*parts, "all"], default="all")
    parser.add_argument("--alternations", type=int, default=6)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    packages = ("jax", "flax", "torch", "transformers", "peft")
    result = {
        "command": f"python benchmarks/train_step.py --part {args.part}",
        "commit": _commit(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {name: version(name) for name in packages},
    }
    for name in parts if args.part == "all" else [args.part]:
        before = os.getloadavg()
        result[name] = parts[name](args.alternations)
        result[name]["load_average"] = {"start": before, "end": os.getloadavg()}
        print(f"load average {before[0]:.1f}, then {os.getloadavg()[0]:.1f}\n")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def step_part(alternations: int, steps: int = 2, rows: int = 4, length: int = 128):
    with trainer(simplex_jax_step) as ours, trainer(peft_step) as theirs:
        from simplex_jax import data

        shape = (rows, length + 1)
        ids = np.random.default_rng(0).integers(0, SHAPE["vocab_size"], shape)
        whole = [(row, np.ones(len(row))) for row in ids]
        (packed,) = data.pack(whole, batch_size=rows, length=length, epochs=1)
        pair = [packed] * steps, [unpacked(packed)] * steps
        work = {OURS: (ours, pair[0]), PEFT: (theirs, pair[1])}
        turns = take_turns(work, alternations)
    systems = {}
    for name, (first, *rest) in turns.items():
        seconds = [s for turn in rest for s in turn["seconds"]]
        systems[name] = {
            "tokens_per_second": rows * length / min(seconds),
            "median_tokens_per_second": rows * length / statistics.median(seconds),
            "peak_bytes": rest[-1]["peak_bytes"],
            "peak_bytes_before_training": first["peak_bytes_before_training"],
            "compile_seconds": first["seconds"][0] - min(seconds),
            "first_loss": first["losses"][0],
            "seconds": seconds,
        }
    keys = ("tokens_per_second", "median_tokens_per_second", "peak_bytes")
    ratios = {key: systems[OURS][key] / systems[PEFT][key] for key in keys}
    print(f"step: {rows} x {length} tokens, LoRA rank {LORA['r']}, float32")
    print(f"{'system':22} {'tokens/s':>9} {'median':>7} {'first step +':>13} peak MB")
    for name, s in systems.items():
        print(
            f"{name:22} {s['tokens_per_second']:9.1f} "
            f"{s['median_tokens_per_second']:7.1f} {s['compile_seconds']:11.1f} s "
            f"{s['peak_bytes'] / 1e6:7.0f}"
        )
    print("simplex_jax is", {key: round(ratio, 2) for key, ratio in ratios.items()})
    return {"systems": systems, "ratios": ratios}


def data_part(alternations: int, examples: int = 72, rows: int = 2, length: int = 512):
    with trainer(simplex_jax_step) as ours, trainer(peft_step) as theirs:
        from simplex_jax import data

        sequences = generated(examples)
        packed = data.pack(sequences, batch_size=rows, length=length, epochs=1)
        assert packed.report.sequences == examples
        ordered = sorted(sequences, key=lambda pair: len(pair[0]))
        parts = range(0, examples, 8)
        work = {
            PACKED: (ours, list(packed)),
            PADDED: (theirs, [padded(sequences[i : i + 8]) for i in parts]),
            GROUPED: (theirs, [padded(ordered[i : i + 8]) for i in parts]),
        }
        turns = take_turns(work, alternations)
    tokens = sum(len(ids) for ids, _ in sequences)
    systems = {}
    for name, (_, *rest) in turns.items():
        seconds = [turn["seconds"] for turn in rest]
        batches = work[name][1]
        cells = sum(next(iter(batch.values())).size for batch in batches)
        # A turn is long enough to be disturbed somewhere, so steps count one by one.
        fastest = sum(map(min, zip(*seconds, strict=True)))
        systems[name] = {
            "examples_per_second": examples / fastest,
            "examples_per_second_of_fastest_turn": examples / min(map(sum, seconds)),
            "steps": len(batches),
            "cells": cells,
            "share_of_cells_in_use": tokens / cells,
            "seconds": seconds,
        }
    print(f"data: {examples} examples, {tokens} tokens, float32")
    print(f"{'system':22} {'examples/s':>10} {'steps':>6} {'cells':>7} {'in use':>7}")
    for name, s in systems.items():
        speed = s["examples_per_second"]
        ratio = systems[PACKED]["examples_per_second"] / speed
        print(
            f"{name:22} {speed:10.2f} {s['steps']:6} {s['cells']:7} "
            f"{s['share_of_cells_in_use']:6.0%}   simplex_jax is x {ratio:.2f}"
        )
    return {"examples": examples, "tokens": tokens, "systems": systems}


def parity_part(alternations: int, steps: int = 20, rows: int = 2, length: int = 128):
    """Compare the losses; ``alternations`` has no part in it."""
    from simplex_jax import data, lora, models

    with tempfile.TemporaryDirectory() as folder:
        import jax

        base, tokenizer = models.load("smollm2-135m")
        models.save_hf(base, tokenizer, f"{folder}/base")
        adapted = lora.attach(base, lora.LoRAConfig(**LORA), key=jax.random.key(7))
        lora.save_peft(adapted, f"{folder}/adapter")
        # One sequence a row, because PEFT's rows are.
        shape = {"batch_size": rows, "length": length, "max_segments": 1}
        packed = data.pack(generated(60), **shape)
        batches = [next(packed) for _ in range(steps)]
        with trainer(simplex_jax_step, folder) as ours:
            here = ours(batches)["losses"]
        with trainer(peft_step, folder) as theirs:
            there = theirs([unpacked(batch) for batch in batches])["losses"]
    gaps = [abs(a / b - 1) for a, b in zip(here, there, strict=True)]
    print(f"parity: SmolLM2-135M-Instruct, {steps} steps of {rows} x {length}")
    print(f"loss {here[0]:.4f} at first, {here[-1]:.4f} at last")
    print(f"largest relative difference of the loss at a step {max(gaps):.1e}")
    return {"largest_relative_difference": max(gaps), OURS: here, PEFT: there}


def simplex_jax_step(folder: str | None) -> Callable[[Batch], float]:
    import jax
    from flax import nnx

    from simplex_jax import lora, models, train

    if folder:
        base, _ = models.load_hf(f"{folder}/base")
        model = lora.load_peft(base, f"{folder}/adapter")
    else:
        shape = models.DecoderConfig(model_type="llama", **SHAPE)
        base = models.Decoder(shape, rngs=nnx.Rngs(0))
        model = lora.attach(base, lora.LoRAConfig(**LORA), key=jax.random.key(1))
    graphdef, params, frozen = nnx.split(model, nnx.LoRAParam, ...)
    config = train.TrainingConfig(weight_decay=WEIGHT_DECAY, max_grad_norm=MAX_NORM)
    optimizer = train.make_optimizer(config, LEARNING_RATE)
    state = train.init_state(params, optimizer, jax.random.key(2))
    step = train.make_step(graphdef, optimizer)

    def take_step(batch: Batch) -> float:
        nonlocal state
        micro = {name: array[None] for name, array in batch.items()}
        state, metrics = step(state, frozen, micro)
        return float(jax.block_until_ready((state, metrics))[1]["loss"])

    return take_step


def peft_step(folder: str | None) -> Callable[[Batch], float]:
    import peft
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.manual_seed(0)
    if folder:
        base = transformers.AutoModelForCausalLM.from_pretrained(
            f"{folder}/base", dtype=torch.float32
        )
        adapter = f"{folder}/adapter"
        model = peft.PeftModel.from_pretrained(base, adapter, is_trainable=True)
    else:
        base = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE))
        config = peft.LoraConfig(task_type="CAUSAL_LM", **LORA)
        model = peft.get_peft_model(base, config)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    settings = {"lr": LEARNING_RATE, "weight_decay": WEIGHT_DECAY}
    optimizer = torch.optim.AdamW(trained, **settings)

    def take_step(batch: Batch) -> float:
        arrays = {k: torch.from_numpy(v).long() for k, v in batch.items()}
        loss = model(**arrays, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, MAX_NORM)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return take_step


@contextlib.contextmanager
def trainer(build: Callable, folder: str | None = None) -> Iterator[Callable]:
    """Start a process that trains on the lists of batches it is given."""
    # Started before this process grows: a child's peak counts from its parent's.
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, build, folder), daemon=True)
    process.start()
    there.close()

    def take_steps(batches: list[Batch]) -> dict:
        here.send(batches)
        return here.recv()

    try:
        here.recv()
        yield take_steps
        here.send(None)
        process.join()
    finally:
        process.terminate()


def _serve(connection, build: Callable, folder: str | None) -> None:
    take_step = build(folder)
    before = peak_bytes()
    connection.send("ready")
    while (batches := connection.recv()) is not None:
        seconds, losses = [], []
        for batch in batches:
            start = time.perf_counter()
            losses.append(take_step(batch))
            seconds.append(time.perf_counter() - start)
        reply = {"seconds": seconds, "losses": losses, "peak_bytes": peak_bytes()}
        connection.send(reply | {"peak_bytes_before_training": before})


def take_turns(work: dict[str, tuple[Callable, list]], alternations: int) -> dict:
    """Return each system's replies; the first is of the turn that warms up."""
    turns = {name: [] for name in work}
    for _ in range(alternations + 1):
        for name, (take_steps, batches) in work.items():
            turns[name].append(take_steps(batches))
            # Threads spin for a while after their last work.
            time.sleep(0.3)
    return turns


def generated(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return token ids and losses of an equal mix of the generators, shuffled."""
    from simplex_jax import gguf, models, specialists, text
    from simplex_jax.text import Tokenizer

    with gguf.open(models.fetch("smollm2-135m")) as file:
        tokenizer = Tokenizer.from_gguf(file.metadata)
    examples = [
        text.chat_tokens(example, tokenizer)
        for name in specialists.CATALOG
        for example in specialists.generate(name, count // len(specialists.CATALOG))
    ]
    order = np.random.default_rng(0).permutation(len(examples))
    return [examples[i] for i in order]


def padded(sequences: list[tuple[np.ndarray, np.ndarray]]) -> Batch:
    """Return what a collator makes of sequences: padding up to the longest."""
    longest = max(len(ids) for ids, _ in sequences)
    shape = (len(sequences), longest)
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    labels = np.full(shape, -100)
    for row, (tokens, loss) in enumerate(sequences):
        ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        labels[row, : len(tokens)] = np.where(loss > 0, tokens, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def unpacked(batch: Batch) -> Batch:
    """Return a batch of ``data.pack``, one sequence a row, as transformers takes it."""
    return {
        "input_ids": batch["tokens"],
        "attention_mask": batch["segment_ids"],
        "labels": batch["tokens"],
        "shift_labels": np.where(batch["loss_mask"] > 0, batch["targets"], -100),
    }


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
