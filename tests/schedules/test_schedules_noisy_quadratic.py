r"""Learned learning rates on the noisy quadratic, whose best schedule is known.

SGD on $\frac{h}{2} (w - c_t)^2$ with independent $c_t$ of mean 0 and variance
$\sigma^2$ takes $A = E[w^2]$ to $(1 - \eta h)^2 A + (\eta h)^2 \sigma^2$. Its minimum
at $\eta_t h = A_t / (A_t + \sigma^2)$ gives $1 / A_{t + 1} = 1 / A_t + 1 / \sigma^2$.

Expectations are made exact: many copies of w, whose start and noises are orthogonal
columns of a Hadamard matrix, have just these second moments as their means.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg

from simplex_jax import schedules

STEPS, VARIANCE = 31, 0.5


def problem(curvatures):
    """Return loss, start, batches and held-out batches, for w of len(curvatures)."""
    columns = jnp.asarray(scipy.linalg.hadamard(STEPS + 1), float)
    h = jnp.asarray([curvatures], float)

    def loss(w, target):
        return jnp.mean(jnp.sum(h * (w - target[:, None]) ** 2, 1)) / 2

    start = jnp.tile(columns[0][:, None], (1, len(curvatures)))
    noise = jnp.sqrt(VARIANCE) * columns[1:]
    return loss, start, noise, jnp.zeros((1, STEPS + 1))


def sgd(schedule):
    # The mean over the copies divides every gradient by their number.
    return optax.sgd(lambda step: (STEPS + 1) * schedule(step))


def learn(curvatures, **options: Any):
    loss, start, noise, held_out = problem(curvatures)
    rate = schedules.PiecewiseLR.constant(0.3, steps=STEPS, knots=STEPS + 1)
    learned = schedules.learn_learning_rate(
        loss,
        start,
        noise,
        held_out,
        rate,
        inner=sgd,
        mode="reverse",
        meta_steps=400,
        optimizer=optax.adam(optax.cosine_decay_schedule(0.1, 400)),
        **options,
    )
    value = schedules.unrolled_loss(
        loss, start, noise, held_out, learned.schedule, inner=sgd
    )
    return learned.schedule, float(value)


def test_the_learned_schedule_is_the_optimal_one():
    with jax.enable_x64(True):
        schedule, value = learn([1.0])
        t = jnp.arange(STEPS)
        second = 1 / (1 + t / VARIANCE)
        best = second / (second + VARIANCE)
        optimum = 0.5 / (1 + STEPS / VARIANCE)
        assert optimum - 1e-12 <= value <= optimum + 1e-6
        np.testing.assert_allclose(schedule(t), best, rtol=0.05)


def test_its_loss_is_the_recursion_of_second_moments():
    with jax.enable_x64(True):
        loss, start, noise, held_out = problem([2.0])
        rate = schedules.PiecewiseLR.constant(0.2, steps=STEPS)
        found = schedules.unrolled_loss(loss, start, noise, held_out, rate, inner=sgd)
        second = 1.0
        for _ in range(STEPS):
            second = (1 - 0.4) ** 2 * second + 0.4**2 * VARIANCE
        assert found == pytest.approx(second, rel=1e-12)


def test_short_horizons_are_biased_where_curvatures_differ():
    # One step ahead, the flat direction is not worth the noise in the steep one.
    with jax.enable_x64(True):
        curvatures = [1.0, 0.03]
        _, whole = learn(curvatures)
        _, greedy = learn(curvatures, window=1)
        assert greedy > 1.2 * whole


def test_piecewise_rates_are_log_linear_between_their_points():
    logs = jnp.log(jnp.array([1.0, 4.0, 0.25]))
    rate = schedules.PiecewiseLR({"log_rates": logs}, 100.0)
    found = rate(jnp.array([0, 25, 50, 75, 100, 500]))
    np.testing.assert_allclose(found, [1, 2, 4, 1, 0.25, 0.25], rtol=1e-6)
    longer = rate.scaled(steps=200).at_peak(0.1)
    np.testing.assert_allclose(longer(jnp.array([50, 100])), [0.05, 0.1], rtol=1e-6)
    assert optax.sgd(rate).init(jnp.zeros(2)) is not None


@pytest.mark.parametrize(
    "inner",
    [optax.sgd, functools.partial(optax.adamw, eps_root=1e-8)],
    ids=["sgd", "adamw"],
)
def test_forward_reverse_and_differences_agree(inner):
    with jax.enable_x64(True):
        loss, start, noise, held_out = problem([1.0, 0.3])

        def f(log_rates):
            rate = schedules.PiecewiseLR({"log_rates": log_rates}, float(STEPS))
            return schedules.unrolled_loss(
                loss, start, noise, held_out, rate, inner=inner
            )

        f = jax.jit(f)
        at = jnp.log(jnp.array([0.1, 0.4, 0.3, 0.05]))
        reverse, forward = jax.grad(f)(at), jax.jacfwd(f)(at)
        differences = []
        for direction in jnp.eye(4):
            # Richardson's extrapolation of central differences.
            d = [
                (f(at + h * direction) - f(at - h * direction)) / (2 * h)
                for h in (1e-3, 5e-4)
            ]
            differences.append((4 * d[1] - d[0]) / 3)
    np.testing.assert_allclose(forward, reverse, rtol=1e-10)
    np.testing.assert_allclose(forward, differences, rtol=1e-6)
