"""A small decoder with adapters, and data for it."""

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from flax import nnx

from simplex_jax import data, lora, models

VOCAB = 96


def make(dtype=jnp.float32, adapters=True, dropout=0.0) -> models.Decoder:
    config = tiny.config("qwen2", vocab_size=VOCAB)
    # Recomputing makes a step's program a third longer; tests/models compares both.
    model = models.Decoder(config, param_dtype=dtype, remat="none", rngs=nnx.Rngs(0))
    # Weights of 0.02 would leave every distribution nearly uniform.
    model = jax.tree.map(lambda x: x * 10 if x.ndim > 2 else x, model)
    if not adapters:
        return model
    chosen = lora.LoRAConfig(r=4, lora_dropout=dropout, target_modules="all-linear")
    return lora.attach(model, chosen, key=jax.random.key(1), param_dtype=dtype)


def sequences(count: int, seed: int = 0) -> list[tuple[np.ndarray, list[int]]]:
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        size = int(draw.integers(5, 16))
        # The second half repeats the first, so that there is something to learn.
        half = draw.integers(0, VOCAB, size)
        found.append((np.concatenate([half, half]), [0] * size + [1] * size))
    return found


def packed(count: int = 40, rows: int = 4, **options) -> data.PackedBatches:
    return data.pack(sequences(count), batch_size=rows, length=32, **options)
