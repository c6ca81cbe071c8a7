"""Learn the learning-rate curve that comes with the library, and say what it is worth.

Three small tasks, several runs of each, one curve; a height for each task. Gradients of
the mean held-out loss go through every AdamW update. Prints, for runs of other seeds,
the held-out losses of the curve and of cosine with warm-up at peaks from a grid.

    python benchmarks/ship_schedule.py --out simplex_jax/train/learned_lr.json
"""

import argparse
import inspect
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from simplex_jax import schedules

STEPS, RUNS = 160, 4
PEAKS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
SYMBOLS = "\n abcdefghijklmnopqrstuvwxyz_.,()=:'\"#"
CONTEXT = 8


def digits(seed):
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order] / 16, y[order]
    draws = np.random.default_rng(seed)
    rows = draws.integers(0, 1200, (STEPS, RUNS, 32))
    held = np.tile(np.arange(1200, 1797), (RUNS, 1))
    params = {"hidden": weights(draws, 64, 32), "out": weights(draws, 32, 10)}
    return params, (x[rows], y[rows]), (x[held], y[held])


def characters(seed):
    text = [c for c in inspect.getsource(argparse).lower() if c in SYMBOLS]
    ids = np.array([SYMBOLS.index(c) for c in text])
    windows = np.lib.stride_tricks.sliding_window_view(ids, CONTEXT + 1)
    draws = np.random.default_rng(seed)
    cut = len(windows) * 4 // 5
    rows = draws.integers(0, cut, (STEPS, RUNS, 32))
    held = np.tile(np.arange(cut + CONTEXT, len(windows), 32), (RUNS, 1))
    size = CONTEXT * len(SYMBOLS)
    params = {
        "hidden": weights(draws, size, 48),
        "out": weights(draws, 48, len(SYMBOLS)),
    }

    def split(found):
        one_hot = np.eye(len(SYMBOLS))[found[..., :-1]]
        return one_hot.reshape(*found.shape[:-1], -1), found[..., -1]

    return params, split(windows[rows]), split(windows[held])


def adapters(seed):
    fixed = np.random.default_rng(1)
    change = fixed.normal(size=(24, 3)) @ fixed.normal(size=(3, 32)) / 12
    draws = np.random.default_rng(seed)

    def some(*shape):
        x = draws.normal(size=(*shape, 24))
        y = np.tanh(x @ (kernels()[0] + change)) @ kernels()[1]
        return x, y + 0.3 * draws.normal(size=y.shape)

    params = {"a": weights(draws, 24, 4), "b": np.zeros((RUNS, 4, 32))}
    return params, some(STEPS, RUNS, 16), some(RUNS, 512)


def kernels():
    fixed = np.random.default_rng(2)
    return fixed.normal(size=(24, 32)) / 5, fixed.normal(size=(32, 8)) / 6


def weights(draws, rows, columns):
    return draws.normal(size=(RUNS, rows, columns)) / np.sqrt(rows)


def classified(params, batch):
    x, y = batch
    logits = jnp.tanh(x @ params["hidden"]) @ params["out"]
    chosen = jnp.take_along_axis(logits, y[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - chosen)


def fitted(params, batch):
    x, y = batch
    first, second = (jnp.asarray(k, x.dtype) for k in kernels())
    out = jnp.tanh(x @ first + x @ params["a"] @ params["b"]) @ second
    return jnp.mean((out - y) ** 2)


TASKS = {
    "digits": (digits, classified),
    "characters": (characters, classified),
    "adapters": (adapters, fitted),
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Curves:
    """One curve, and the logarithm of its height for each task."""

    curve: schedules.LearnableLR
    heights: dict[str, jax.Array]

    def __call__(self, step):
        return None

    def rate(self, task):
        free = {**self.curve.free, "initial_lr": self.heights[task]}
        return schedules.LearnableLR(free, self.curve.steps, self.curve.min_lr)


def material(seed):
    parts = {name: make(seed) for name, (make, _) in TASKS.items()}
    params, batches, held = (
        jax.tree.map(
            lambda x: jnp.asarray(x, None if x.dtype.kind == "i" else jnp.float32),
            {name: part[i] for name, part in parts.items()},
        )
        for i in range(3)
    )
    return params, batches, jax.tree.map(lambda x: x[None], held)


def losses(params, batch):
    """Return the loss of every run, by task."""
    return {
        name: jax.vmap(loss)(params[name], batch[name])
        for name, (_, loss) in TASKS.items()
    }


def optimizer(rates):
    parts = {name: optax.adamw(rate, eps_root=1e-16) for name, rate in rates.items()}
    return optax.partition(parts, {name: name for name in rates})


@jax.jit
def trained(params, batches, held, rates):
    """Return the held-out loss of every run after training at rates (STEPS,)."""
    inner = optimizer({n: lambda step, r=r: r[step] for n, r in rates.items()})

    def gradient(params, batch):
        return jax.grad(lambda p: total(losses(p, batch)))(params)

    params, _ = schedules.take_updates(
        gradient, inner, params, inner.init(params), batches
    )
    return losses(params, jax.tree.map(lambda x: x[0], held))


def total(found) -> jax.Array:
    return jnp.sum(jnp.stack([jnp.mean(x) for x in found.values()]))


def rates_of(schedule):
    return jnp.stack([jnp.asarray(schedule(step)) for step in range(STEPS)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--meta-steps", type=int, default=60)
    options = parser.parse_args()
    start = schedules.LearnableLR.from_params(
        1e-2, 1.0, 0.05 * STEPS, 0.0, 1.0, steps=STEPS, min_lr=1e-5
    )
    curves = Curves(start, {n: jnp.log(jnp.array(3e-3)) for n in TASKS})
    learned = schedules.meta_train(
        lambda params, batch, _: total(losses(params, batch)),
        *material(0),
        curves,
        inner=lambda c: optimizer({name: c.rate(name) for name in TASKS}),
        mode="reverse",
        meta_steps=options.meta_steps,
        optimizer=optax.adam(0.08),
    )
    best: Any = learned.schedule
    print("held-out loss, sum of tasks:", learned.losses[0], "->", learned.losses.min())
    print("heights:", {n: float(jnp.exp(x)) for n, x in best.heights.items()})
    shipped = best.curve.scaled(steps=1000).at_peak(1.0)
    print("curve:", {n: float(x) for n, x in shipped.params.items()})
    schedules.save(shipped, options.out)

    curve = shipped.scaled(steps=STEPS).at_peak(1.0)
    shapes = {
        "learned": rates_of(curve),
        "cosine": rates_of(
            optax.warmup_cosine_decay_schedule(0.0, 1.0, STEPS // 20, STEPS)
        ),
        "linear": rates_of(
            optax.join_schedules(
                [
                    optax.linear_schedule(0.05, 1.0, 12),
                    optax.linear_schedule(1, 0, 244),
                ],
                [8],
            )
        ),
        "constant": jnp.ones(STEPS),
    }
    seeds = (101, 102)
    fresh = [material(seed) for seed in seeds]
    for name, shape in shapes.items():
        for peak in PEAKS:
            runs = [trained(*m, {n: peak * shape for n in TASKS}) for m in fresh]
            row = {n: np.concatenate([r[n] for r in runs]) for n in TASKS}
            cells = (
                f"{n} {x.mean():.4f} +- {x.std(ddof=1) / np.sqrt(x.size):.4f}"
                for n, x in row.items()
            )
            print(f"{name:9s} peak {peak:g}:", ", ".join(cells), flush=True)


if __name__ == "__main__":
    main()
