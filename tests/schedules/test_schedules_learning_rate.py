"""Learning rates: meta-gradients against differences, and what learning reaches."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from simplex_jax import schedules

ADAMW = functools.partial(optax.adamw, eps_root=1e-8)
STEPS = 12


def adapted(params, batch):
    """Return the loss of a frozen map with an adapter, whose B starts at 0."""
    x, y = batch
    kernel = jnp.sin(jnp.arange(12.0)).reshape(4, 3)
    out = x @ kernel + (x @ params["a"]) @ params["b"]
    # What no loss depends on has a gradient of exactly 0 at every step.
    return jnp.mean((jnp.tanh(out) - y) ** 2) + 0 * jnp.sum(params["unused"])


def problem(seed=0, rows=5):
    draws = np.random.default_rng(seed)
    params = {
        "a": jnp.asarray(draws.normal(size=(4, 2))),
        "b": jnp.zeros((2, 3)),
        "unused": jnp.ones(2),
    }

    def some(count):
        x = draws.normal(size=(count, rows, 4))
        return jnp.asarray(x), jnp.asarray(np.tanh(x[..., :3] + 0.5))

    return params, some(STEPS), some(3)


def schedule(**changes):
    values = {"initial_lr": 0.03, "warmup_steps": 3.0, "oscillation_amp": 0.2}
    return schedules.LearnableLR.from_params(**values | changes, steps=STEPS)


def meta_loss(inner, window=None):
    params, batches, val_batches = problem()

    def f(rate):
        return schedules.unrolled_loss(
            adapted, params, batches, val_batches, rate, inner=inner, window=window
        )

    return f


@pytest.mark.parametrize(
    "inner",
    [optax.sgd, ADAMW, functools.partial(optax.adam, eps_root=1e-12)],
    ids=["sgd", "adamw", "adam"],
)
def test_forward_reverse_and_differences_agree(inner):
    with jax.enable_x64(True):
        f = jax.jit(meta_loss(inner))
        rate = schedule()
        flat, rebuild = ravel_pytree(rate)
        reverse = ravel_pytree(jax.grad(f)(rate))[0]
        forward = ravel_pytree(jax.jacfwd(f)(rate))[0]
        differences = []
        for direction in np.eye(flat.size):
            # Richardson's extrapolation of central differences.
            h = 1e-3
            d = [
                (f(rebuild(flat + s * direction)) - f(rebuild(flat - s * direction)))
                / (2 * s)
                for s in (h, h / 2)
            ]
            differences.append((4 * d[1] - d[0]) / 3)
        assert np.abs(reverse).min() > 0
        np.testing.assert_allclose(forward, reverse, rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(forward, np.array(differences), rtol=1e-6)


def test_windows_cut_gradients_and_nothing_else():
    with jax.enable_x64(True):
        rate = schedule()
        whole, cut = meta_loss(ADAMW), meta_loss(ADAMW, window=4)
        # The last window ends where the whole run does.
        params, batches, val_batches = problem()
        ends = []
        for steps in (4, 8, 12):
            some = jax.tree.map(lambda x, n=steps: x[:n], batches)
            ends.append(
                schedules.unrolled_loss(
                    adapted, params, some, val_batches, rate, inner=ADAMW
                )
            )
        np.testing.assert_allclose(cut(rate), np.mean(ends), rtol=1e-12)
        np.testing.assert_allclose(whole(rate), ends[-1], rtol=1e-12)
        long, short = (ravel_pytree(jax.grad(f)(rate))[0] for f in (whole, cut))
        assert np.abs(long - short).max() > 1e-4


def test_forward_memory_does_not_grow_with_the_updates():
    def bytes_of(steps):
        params, batches, val_batches = problem()
        many = jax.tree.map(lambda x: jnp.tile(x, (steps // STEPS, 1, 1)), batches)

        def f(rate, batches):
            return schedules.unrolled_loss(
                adapted, params, batches, val_batches, rate, inner=ADAMW
            )

        compiled = jax.jit(jax.jacfwd(f)).lower(schedule(), many).compile()
        analysis = compiled.memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    assert bytes_of(12_000) <= 1.1 * bytes_of(120)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_rate_that_is_too_low_is_raised(mode):
    params, batches, val_batches = problem()
    start = schedule(initial_lr=1e-3)
    learned = schedules.learn_learning_rate(
        adapted,
        params,
        batches,
        val_batches,
        start,
        inner=ADAMW,
        mode=mode,
        meta_steps=40,
        optimizer=optax.adam(0.2),
    )
    assert learned.losses[0] > 1.5 * learned.losses.min()
    assert learned.schedule.params["initial_lr"] > 5e-3
    assert len(learned.losses) == 41 and not learned.stopped_early
    rates = learned.schedules.free["initial_lr"]
    assert rates.shape == (41,)
    best = int(np.argmin(learned.losses))
    assert rates[best] == learned.schedule.free["initial_lr"]


def test_a_learned_schedule_is_an_optax_schedule():
    rate = schedules.LearnableLR.default(steps=100)
    optimizer = optax.sgd(rate)
    params = jnp.ones(3)
    state = optimizer.init(params)
    for step in range(3):
        updates, state = optimizer.update(jnp.ones(3), state, params)
        np.testing.assert_allclose(
            np.asarray(updates), -np.full(3, rate(step)), rtol=1e-6
        )


def test_the_learned_rate_of_a_quadratic_is_its_best_one():
    # One step on x^2 / 2 from 1 leaves (1 - rate)^2 / 2: the best rate is 1.
    def loss(x, batch):
        return x**2 / 2 + 0 * batch

    constant = schedules.LearnableLR.from_params(0.1, 1e-4, 0.1, steps=10)
    learned = schedules.learn_learning_rate(
        loss,
        jnp.array(1.0),
        jnp.zeros(1),
        jnp.zeros(1),
        constant,
        inner=optax.sgd,
        meta_steps=150,
        optimizer=optax.adam(0.1),
    )
    assert learned.losses.min() < 1e-6
    assert float(learned.schedule(0)) == pytest.approx(1, abs=1e-3)


def test_shapes_of_the_schedule():
    rate = schedules.LearnableLR.from_params(
        1e-2, 2.0, 10.0, 0.0, 1.0, steps=100, min_lr=1e-6
    )
    found = np.asarray(rate(jnp.arange(101)))
    assert found[9] / (1e-2 * np.exp(-2 * 0.09)) == pytest.approx(0.95, abs=0.002)
    assert found[100] == pytest.approx(1e-2 * np.exp(-2), rel=1e-4)
    assert (np.diff(found[20:]) < 0).all()
    longer = rate.scaled(steps=1000, initial_lr=1e-3)
    np.testing.assert_allclose(
        np.asarray(longer(jnp.arange(500, 1001, 10))), found[50:] / 10, rtol=3e-3
    )
    low = schedules.LearnableLR.from_params(1e-9, steps=100)
    assert float(low(50)) >= 1e-6
    assert float(jax.grad(lambda s: s(50))(low).free["initial_lr"]) > 0
    values: dict[str, Any] = dict(rate.params)
    params = schedules.LearnableLR.from_params(**values, steps=100).params
    for name, value in rate.params.items():
        assert float(params[name]) == pytest.approx(float(value), rel=1e-5)


def test_every_number_has_a_gradient():
    rate = schedule()
    for step in (0, 5, STEPS):
        slopes = jax.grad(lambda s, step=step: s(step))(rate).free
        silent = {name for name, x in slopes.items() if x == 0}
        # Neither decay nor oscillation has begun at step 0.
        begun = set() if step else {"decay_rate", "oscillation_amp", "oscillation_freq"}
        assert silent == begun


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inner": optax.adamw}, "inner: its update has no finite derivative"),
        ({"mode": "sideways"}, "mode is 'sideways'"),
        ({"meta_steps": 0}, "meta_steps is 0"),
        ({"window": 5}, "window is 5, which does not divide 12 batches"),
        ({"window": 0}, "window is 0"),
        ({"batches": (jnp.zeros((0, 5, 4)),) * 2}, "batches has leading axes"),
        ({"val_batches": (jnp.zeros((2, 5, 4)), jnp.zeros((3, 5, 3)))}, "val_batches"),
        (
            {"val_batches": (jnp.ones((1, 5, 4)), jnp.full((1, 5, 3), jnp.inf))},
            "loss at the start is inf",
        ),
    ],
)
def test_bad_arguments_are_named(changes, message):
    params, batches, val_batches = problem()
    arguments = {
        "batches": batches,
        "val_batches": val_batches,
        "schedule": schedule(),
        "inner": optax.sgd,
    }
    arguments |= changes
    names = ("batches", "val_batches", "schedule")
    first = [arguments.pop(name) for name in names]
    with pytest.raises(ValueError, match=message):
        schedules.learn_learning_rate(adapted, params, *first, **arguments)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"initial_lr": 0.0}, "initial_lr is 0.0"),
        ({"warmup_steps": -1.0}, "warmup_steps is -1.0"),
        ({"oscillation_amp": 1.0}, "oscillation_amp is 1.0"),
        ({"steps": 0}, "steps is 0"),
        ({"min_lr": 0.0}, "min_lr is 0.0"),
        ({"decay_rate": float("nan")}, "decay_rate is nan"),
    ],
)
def test_bad_numbers_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        schedules.LearnableLR.from_params(**values)
