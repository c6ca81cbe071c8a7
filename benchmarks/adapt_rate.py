"""What adapting a learned rate costs, in steps: SmolLM2-135M, rank 16 on q, k, v, o.

Processor seconds of the process, steps and adaptations in turn; prints both and their
ratio, which decides how often `train` adapts, and what compiling takes.

    python benchmarks/adapt_rate.py --rows 1 --length 128
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from simplex_jax import lora, models, train
from simplex_jax.train._adapt import WINDOW, make_adaptation


def batch(draws, *shape):
    tokens = draws.integers(5, 2000, shape)
    return {
        "tokens": tokens,
        "targets": np.roll(tokens, -1, -1),
        # As in generated data, a fifth of the cells are answers.
        "loss_mask": (draws.random(shape) < 0.2).astype(np.float32),
        "segment_ids": np.ones(shape, np.int32),
        "positions": np.broadcast_to(np.arange(shape[-1]), shape),
    }


def seconds(work):
    began = time.process_time()
    jax.block_until_ready(work())
    return time.process_time() - began


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model, _ = models.load("smollm2-135m", dtype=jnp.float32, remat="projections")
    chosen = lora.LoRAConfig(
        r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]
    )
    model = lora.attach(model, chosen, key=jax.random.key(0))
    graphdef, params, frozen = nnx.split(model, nnx.LoRAParam, ...)
    config = train.TrainingConfig(lr_scheduler_type="learned")
    rate = train.learning_rate_schedule(config, 1000)
    optimizer = train.make_optimizer(config, rate)
    step = train.make_step(graphdef, optimizer)
    adapt = make_adaptation(graphdef, optimizer, rate)
    state = train.init_state(params, optimizer, jax.random.key(1))
    draws = np.random.default_rng(0)
    ahead = batch(draws, WINDOW, 1, options.rows, options.length)
    judge = batch(draws, options.rows, options.length)
    first = {name: x[0] for name, x in ahead.items()}

    def take():
        nonlocal state
        state, found = step(state, frozen, first)
        return found

    def look():
        nonlocal state
        state, found = adapt(state, frozen, ahead, judge)
        return found

    print(f"first step {seconds(take):.1f} s, first adaptation {seconds(look):.1f} s")
    steps, looks = [], []
    for _ in range(options.rounds):
        steps += [seconds(take) for _ in range(4)]
        looks.append(seconds(look))
    each, one = statistics.median(steps), statistics.median(looks)
    print(
        f"step {each:.2f} s, adaptation of {WINDOW} updates {one:.2f} s: "
        f"{one / each:.1f} steps"
    )


if __name__ == "__main__":
    main()
