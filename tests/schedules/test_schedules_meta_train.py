"""Schedules of a run: gradients through its updates, and what learning reaches."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from test_schedules_curves import SCHEDULES

from simplex_jax import schedules

STEPS = 8


def problem(rows=6):
    draws = np.random.default_rng(3)
    params = {
        "a": jnp.asarray(draws.normal(size=(4, 2))),
        "b": jnp.zeros((2, 3)),
        "unused": jnp.ones(2),
    }

    def some(count):
        x = draws.normal(size=(count, rows, 4))
        return jnp.asarray(x), jnp.asarray(np.tanh(x[..., :3] + 0.5))

    return params, some(STEPS), some(2)


def outputs(params, x):
    kernel = jnp.sin(jnp.arange(12.0)).reshape(4, 3)
    return x @ kernel + (x @ params["a"]) @ params["b"]


def errors(params, batch):
    x, y = batch
    # What no loss depends on has a gradient of exactly 0 at every step.
    return (outputs(params, x) - y) ** 2 + 0 * jnp.sum(params["unused"])


def plain(params, batch, values):
    return jnp.mean(errors(params, batch))


def trained_by_all(params, batch, values):
    """Return a loss that every schedule has its part in."""
    # A soft mask: the larger the share, the more of the weights go.
    kept = jax.tree.map(
        lambda w: w * jax.nn.sigmoid(9 * (w**2 - values.sparsity)), params
    )
    tasks = jnp.sum(values.curriculum * jnp.mean(errors(kept, batch), axis=0))
    teacher, student = 2 * batch[1], outputs(kept, batch[0])
    temperature, weight = values.distillation
    p = jax.nn.log_softmax(teacher / temperature)
    q = jax.nn.log_softmax(student / temperature)
    taught = temperature**2 * jnp.mean(jnp.sum(jnp.exp(p) * (p - q), axis=-1))
    # The error of b bits is that of noise of this variance.
    noise = 4.0 ** (1 - values.bits)
    weights = sum(jnp.sum(w**2) for w in jax.tree.leaves(params))
    return weight * taught + (1 - weight) * tasks + noise * weights


def test_forward_reverse_and_differences_agree_for_every_family():
    with jax.enable_x64(True):
        params, batches, val_batches = problem()

        def f(schedule):
            return schedules.held_out_loss(
                trained_by_all,
                params,
                batches,
                val_batches,
                schedule,
                inner=lambda s: optax.adamw(s.lr, eps_root=1e-8),
                val_loss=plain,
            )

        schedule = SCHEDULES["bundle"]().scaled(steps=STEPS)
        flat, rebuild = ravel_pytree(schedule)
        both = jax.jit(jax.value_and_grad(f))
        reverse = ravel_pytree(both(schedule)[1])[0]
        forward = ravel_pytree(jax.jit(jax.jacfwd(f))(schedule))[0]
        assert np.abs(reverse).min() > 0
        np.testing.assert_allclose(forward, reverse, rtol=1e-9, atol=1e-15)

        def at(shift):
            return both(rebuild(flat + shift))[0]

        differences = []
        for direction in np.eye(flat.size):
            # Richardson's extrapolation of central differences.
            h = 1e-2
            d = [(at(s * direction) - at(-s * direction)) / (2 * s) for s in (h, h / 2)]
            differences.append((4 * d[1] - d[0]) / 3)
        np.testing.assert_allclose(forward, np.array(differences), rtol=1e-6)


def rounded(params, batch, values):
    return plain(params, batch, values) + 4.0 ** (1 - values)


def constant(schedule):
    return optax.adam(0.05, eps_root=1e-12)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_mixture_learns_which_task_is_worth_training(mode):
    # Two tasks: one pulls to what is held out, one away from it.
    targets = jnp.array([1.0, -1.0])

    def loss(x, batch, shares):
        return jnp.sum(shares * (x - targets) ** 2) + 0 * batch

    def val_loss(x, batch, shares):
        return (x - 1.0) ** 2 + 0 * batch

    learned = schedules.meta_train(
        loss,
        jnp.array(0.0),
        jnp.zeros(10),
        jnp.zeros(1),
        schedules.LearnableCurriculum.default(2, steps=10),
        inner=lambda schedule: optax.sgd(0.1),
        val_loss=val_loss,
        mode=mode,
        meta_steps=60,
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)),
    )
    # 2 * 0.1 of the way in each of ten steps is the best there is.
    assert learned.losses[0] == pytest.approx(1.0)
    best = 0.8**20
    assert best < learned.losses.min() < 2 * best
    shares = np.asarray(learned.schedule(jnp.arange(10)))
    assert shares[:, 0].min() > 0.9
    assert np.shape(learned.schedules.free["early"]) == (61, 2)
    assert not learned.stopped_early


def test_patience_ends_what_does_not_gain():
    learned = schedules.meta_train(
        lambda x, batch, values: x**2 + 0 * batch,
        jnp.array(1.0),
        jnp.zeros(2),
        jnp.zeros(1),
        schedules.LearnableLR.from_params(0.5, 1e-3, 0.1, steps=2),
        inner=optax.sgd,
        meta_steps=50,
        # Away from the minimum, where it starts.
        optimizer=optax.sgd(-0.5),
        patience=3,
    )
    assert learned.stopped_early
    assert len(learned.losses) == 4
    assert learned.losses[0] == learned.losses.min()


def test_updates_in_a_scan_are_updates_one_by_one():
    optimizer = optax.adam(0.1)
    params = {"w": jnp.array([1.0, -2.0])}
    batches = jnp.array([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]])
    found, state = schedules.take_updates(
        lambda p, b: {"w": p["w"] - b},
        optimizer,
        params,
        optimizer.init(params),
        batches,
    )
    wanted: Any = params
    kept = optimizer.init(params)
    for batch in batches:
        changes, kept = optimizer.update({"w": wanted["w"] - batch}, kept, wanted)
        wanted = optax.apply_updates(wanted, changes)
    for a, b in zip(
        jax.tree.leaves((found, state)), jax.tree.leaves((wanted, kept)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inner": lambda s: optax.adam(0.1)}, "inner: its update has no finite"),
        ({"mode": "sideways"}, "mode is 'sideways'"),
        ({"window": 3}, "window is 3, which does not divide 8 batches"),
        ({"batches": (jnp.zeros((0, 6, 4)), jnp.zeros((0, 6, 3)))}, "batches has lead"),
        ({"val_batches": ()}, r"val_batches has leading axes \[\]"),
        ({"val_loss": lambda p, b, v: jnp.nan}, "loss at the start is nan"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    params, batches, val_batches = problem()
    arguments = {
        "batches": batches,
        "val_batches": val_batches,
        "schedule": SCHEDULES["bits"](),
        "inner": constant,
    } | changes
    names = ("batches", "val_batches", "schedule")
    first = [arguments.pop(name) for name in names]
    with pytest.raises(ValueError, match=message):
        schedules.meta_train(rounded, params, *first, **arguments)
