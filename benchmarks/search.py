"""Hyper-parameter search: annealing, Optuna's TPE and random draws, equal trials.

    python benchmarks/search.py [--seeds 20] [--trials 60] [--json FILE]

A trial adapts a small network, which was trained on upright digits, to digits that are
turned and noisy, through adapters: learning rate, batch, rank, dropout and weight decay
are searched. What a search finds is run again on five fresh seeds, on data that no
trial saw.
"""

import argparse
import json
import os
import platform
import subprocess
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optuna
from sklearn.datasets import load_digits

from simplex_jax import anneal

SPACE = {
    "learning_rate": anneal.Uniform(1e-4, 0.3, log=True),
    "batch": anneal.Integer(4, 128, log=True),
    "rank": anneal.Integer(1, 16),
    "dropout": anneal.Uniform(0.0, 0.6),
    "weight_decay": anneal.Uniform(1e-5, 1.0, log=True),
}
STEPS, LARGEST, WIDTH = 100, 128, 64
MIX = optax.softmax_cross_entropy_with_integer_labels


def main() -> None:
    parser = argparse.ArgumentParser(description="Searches at equal trials.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    run = make_task()
    searches = {"annealing": annealed, "TPE": tpe, "random": at_random}
    test: dict[str, list[float]] = {name: [] for name in searches}
    held_out: dict[str, list[float]] = {name: [] for name in searches}
    for seed in range(args.seeds):

        def objective(params: dict[str, Any], seed: int = seed) -> float:
            return float(run(params, jax.random.key(seed))[0])

        for name, search in searches.items():
            params, value = search(objective, seed, args.trials)
            fresh = [
                float(run(params, jax.random.key(10**6 + 5 * seed + i))[1])
                for i in range(5)
            ]
            held_out[name].append(value)
            test[name].append(float(np.mean(fresh)))
    print(f"{args.seeds} searches of {args.trials} trials each\n")
    print("| search | held-out loss found | test loss, fresh seeds | less than TPE |")
    print("|---|---|---|---|")
    draws = np.random.default_rng(0)
    picks = draws.integers(0, args.seeds, (10_000, args.seeds))
    for name in searches:
        difference = np.array(test["TPE"]) - np.array(test[name])
        low, high = np.quantile(difference[picks].mean(1), [0.025, 0.975])
        print(
            f"| {name} | {_mean(held_out[name])} | {_mean(test[name])} | "
            f"{difference.mean():+.4f} ({low:+.4f} to {high:+.4f}) |"
        )
    if args.json:
        commit = ["git", "describe", "--always", "--dirty"]
        result = {
            "commit": subprocess.run(commit, capture_output=True, text=True).stdout,
            "machine": f"{os.cpu_count()} cores, {platform.machine()}",
            "held_out": held_out,
            "test": test,
        }
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def annealed(objective, seed: int, trials: int) -> tuple[Any, float]:
    found = anneal.search(objective, SPACE, key=jax.random.key(seed), trials=trials)
    return found.params, found.value


def tpe(objective, seed: int, trials: int) -> tuple[Any, float]:
    return _optuna(objective, optuna.samplers.TPESampler(seed=seed), trials)


def at_random(objective, seed: int, trials: int) -> tuple[Any, float]:
    return _optuna(objective, optuna.samplers.RandomSampler(seed=seed), trials)


def _optuna(objective, sampler, trials: int) -> tuple[Any, float]:
    def ask(trial) -> float:
        params: dict[str, Any] = {}
        for name, allowed in SPACE.items():
            suggest = (
                trial.suggest_int
                if isinstance(allowed, anneal.Integer)
                else trial.suggest_float
            )
            params[name] = suggest(name, allowed.low, allowed.high, log=allowed.log)
        return objective(params)

    study = optuna.create_study(sampler=sampler)
    study.optimize(ask, n_trials=trials, catch=())
    return study.best_params, study.best_value


def make_task():
    """Return the jitted run: parameters and a key to held-out and test loss."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    upright = pixels[order] / 16
    turned = np.rot90(upright.reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64)
    noise = np.random.default_rng(1).normal(0, 0.25, turned.shape)
    x = jnp.asarray(turned + noise, jnp.float32)
    y = jnp.asarray(labels[order])
    upright = jnp.asarray(upright, jnp.float32)

    def logits(base, adapters, x, rank_mask, keep):
        for i, (kernel, bias) in enumerate(base):
            a, b = adapters[i]
            x = x @ kernel + bias + ((x * keep[i]) @ a * rank_mask) @ b
            x = jax.nn.relu(x) if i < len(base) - 1 else x
        return x

    shapes = [(64, WIDTH), (WIDTH, WIDTH), (WIDTH, 10)]
    base = [
        (jax.random.normal(jax.random.key(i), s) * np.sqrt(2 / s[0]), jnp.zeros(s[1]))
        for i, s in enumerate(shapes)
    ]
    nothing = [(jnp.zeros((a, 1)), jnp.zeros((1, b))) for a, b in shapes]
    plain = optax.adam(3e-3)

    def pretrain(state, key):
        base, memory = state
        at = jax.random.randint(key, (64,), 0, len(y))
        gradient = jax.grad(
            lambda base: jnp.mean(
                MIX(logits(base, nothing, upright[at], 1.0, [1.0] * 3), y[at])
            )
        )(base)
        changes, memory = plain.update(gradient, memory, base)
        return (optax.apply_updates(base, changes), memory), None

    keys = jax.random.split(jax.random.key(9), 300)
    (base, _), _ = jax.jit(lambda state: jax.lax.scan(pretrain, state, keys))(
        (base, plain.init(base))
    )
    full = jnp.ones(3)

    @jax.jit
    def run(params: dict[str, Any], key):
        split, start, order = jax.random.split(key, 3)
        # A third is the test, always the same; the key splits the rest.
        mine = jax.random.permutation(split, 1198)
        train, held_out, test = mine[:400], mine[400:], jnp.arange(1198, len(y))
        rank_mask = jnp.arange(16) < params["rank"]
        weights = (jnp.arange(LARGEST) < params["batch"]) / params["batch"]
        optimizer = optax.adamw(
            params["learning_rate"], weight_decay=params["weight_decay"]
        )
        adapters = [
            (jax.random.normal(k, (a, 16)) / jnp.sqrt(a), jnp.zeros((16, b)))
            for k, (a, b) in zip(jax.random.split(start, 3), shapes, strict=True)
        ]

        def step(state, key):
            adapters, memory = state
            rows, drop = jax.random.split(key)
            at = train[jax.random.randint(rows, (LARGEST,), 0, len(train))]
            p = 1 - params["dropout"]
            keep = [
                jax.random.bernoulli(k, p, (LARGEST, a)) / p
                for k, (a, _) in zip(jax.random.split(drop, 3), shapes, strict=True)
            ]

            def loss(adapters):
                out = logits(base, adapters, x[at], rank_mask, keep)
                return jnp.sum(MIX(out, y[at]) * weights)

            changes, memory = optimizer.update(
                jax.grad(loss)(adapters), memory, adapters
            )
            return (optax.apply_updates(adapters, changes), memory), None

        (adapters, _), _ = jax.lax.scan(
            step, (adapters, optimizer.init(adapters)), jax.random.split(order, STEPS)
        )

        def evaluate(at):
            out = logits(base, adapters, x[at], rank_mask, full)
            return jnp.mean(MIX(out, y[at]))

        return evaluate(held_out), evaluate(test)

    return run


def _mean(values: list[float]) -> str:
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):.4f} ± {error:.4f}"


if __name__ == "__main__":
    main()
