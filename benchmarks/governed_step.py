"""What governance costs: a training step, governed and plain, in turn in one process.

    python benchmarks/governed_step.py [--layers 30] [--rows 2] [--turns 6]

Loss and gradient of all weights, 128 tokens a row, SmolLM2's shape in float32. The
plain decoder's MLP is widened until it has as many parameters as the governed one.
Process CPU time, so that other work on the machine counts as little as it can; a ratio
is taken of each turn, and the first turn, which compiles, is left out.
"""

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from simplex_jax import models, train

SHAPE = models.DecoderConfig(
    model_type="llama",
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    tie_word_embeddings=True,
)
HEADS = {
    "all": models.GovernanceConfig(),
    "policy, veto, forget": models.GovernanceConfig(memory="forget"),
    "delta": models.GovernanceConfig(policy=False, veto_gate=False, memory="delta"),
}
LENGTH = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    shape = dataclasses.replace(SHAPE, num_hidden_layers=args.layers)
    print(f"{args.layers} layers, {args.rows} x {LENGTH} tokens, float32")
    print(f"{'heads':22} {'added':>7} {'governed s':>11} {'plain s':>8} {'ratio':>6}")
    results = {}
    for name in args.heads:
        governed = dataclasses.replace(shape, governance=HEADS[name])
        wide = widened(shape, count(governed))
        steps = [stepper(config, args.rows) for config in (governed, wide)]
        turns = [[step() for step in steps] for _ in range(args.turns + 1)][1:]
        ratios = [ours / plain for ours, plain in turns]
        results[name] = {
            "parameters": {"governed": count(governed), "plain": count(wide)},
            "added_to_the_shape": count(governed) / count(shape) - 1,
            "cpu_seconds": turns,
            "ratios": ratios,
            "median_ratio": statistics.median(ratios),
        }
        ours, plain = (min(seconds) for seconds in zip(*turns, strict=True))
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        added = results[name]["added_to_the_shape"]
        print(
            f"{name:22} {added:7.2%} {ours:11.2f} {plain:8.2f} "
            f"{statistics.median(ratios):6.3f} ({spread})",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


def count(config: models.DecoderConfig) -> int:
    return models.parameter_count(
        nnx.eval_shape(lambda: models.Decoder(config, rngs=nnx.Rngs(0)))
    )


def widened(config: models.DecoderConfig, size: int) -> models.DecoderConfig:
    """Return the plain shape with the MLP whose model comes nearest to a size."""
    column = 3 * config.hidden_size * config.num_hidden_layers
    more = round((size - count(config)) / column)
    return dataclasses.replace(
        config, intermediate_size=config.intermediate_size + more
    )


def stepper(config: models.DecoderConfig, rows: int):
    """Return a function that takes one step and returns its CPU seconds."""
    graphdef, state = nnx.split(models.Decoder(config, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    ids = rng.integers(0, config.vocab_size, (rows, LENGTH + 1))
    batch = {
        "tokens": jnp.asarray(ids[:, :-1], jnp.int32),
        "targets": jnp.asarray(ids[:, 1:], jnp.int32),
        "loss_mask": jnp.ones((rows, LENGTH)),
        "segment_ids": jnp.ones((rows, LENGTH), jnp.int32),
        "positions": jnp.broadcast_to(jnp.arange(LENGTH), (rows, LENGTH)),
    }

    @jax.jit
    def step(state):
        return jax.value_and_grad(
            lambda state: train.nll(nnx.merge(graphdef, state), batch)[0]
        )(state)

    def run() -> float:
        start = time.process_time()
        jax.block_until_ready(step(state))
        return time.process_time() - start

    return run


if __name__ == "__main__":
    main()
