"""Searching schedules: it finds the scale, leaves what has no spread, and is fair."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simplex_jax import anneal

KEY = jax.random.key(0)
PLAIN = anneal.MetaLoss(1.0, 0.0, 0.0, 0.0)


def waves(x):
    return jnp.sum(x**2 + 3 - 3 * jnp.cos(2 * jnp.pi * x))


def walk(key, x, temperature):
    return x + 0.3 * jax.random.normal(key, x.shape)


def init(key):
    return jax.random.uniform(key, (2,), minval=-4.0, maxval=4.0)


PROBLEM = anneal.Problem(waves, walk, init)


def spread(**free):
    return anneal.FixedSchedule({k: jnp.float32(x) for k, x in free.items()}, _curve)


def _curve(step, initial, rate):
    return initial * jnp.exp(-rate * step)


def search(start=None, widths=None, **options):
    options = {
        "key": KEY,
        "steps": 60,
        "chains": 8,
        "candidates": 32,
        "generations": 4,
        "meta_loss": PLAIN,
    } | options
    # A hundred times too hot: at random for all of the run.
    start = (
        anneal.FixedSchedule(
            {"initial": jnp.log(jnp.float32(300)), "rate": jnp.log(jnp.float32(1e-3))},
            _curve,
        )
        if start is None
        else start
    )
    widths = spread(initial=3.0, rate=1.0) if widths is None else widths
    return anneal.search_schedule(PROBLEM, start, widths, **options)


def test_a_schedule_far_too_hot_is_cooled_and_better_on_fresh_runs():
    found = search()
    assert found.loss.shape == found.best_loss.shape == (4,)
    assert (found.best_loss <= found.loss).all()
    hot = anneal.exponential(300.0, 1e-3)
    means = [
        anneal.anneal_problem(
            PROBLEM, s, key=jax.random.key(9), steps=60, chains=512
        ).best_energy.mean()
        for s in (hot, found.schedule)
    ]
    assert means[1] < means[0] - 0.5, means


def test_what_has_no_spread_stays_and_the_same_key_gives_the_same():
    widths = spread(initial=2.0, rate=0.0)
    found, again = search(widths=widths), search(widths=widths)
    assert found.schedule.values["rate"] == pytest.approx(1e-3, rel=1e-5)
    assert found.schedule.values["initial"] != pytest.approx(300, rel=0.1)
    np.testing.assert_array_equal(found.loss, again.loss)
    np.testing.assert_array_equal(
        found.schedule.values["initial"], again.schedule.values["initial"]
    )


def test_no_spread_judges_the_start_itself():
    found = search(widths=spread(initial=0.0, rate=0.0), generations=1)
    assert found.schedule.values["initial"] == pytest.approx(300, rel=1e-5)
    assert found.best_loss[0] == pytest.approx(found.loss[0], rel=1e-5)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"chains": 0}, "chains is 0"),
        ({"candidates": 7}, "candidates is 7"),
        ({"generations": 0}, "generations is 0"),
    ],
)
def test_bad_arguments_are_refused_by_name(change, named):
    with pytest.raises(ValueError, match=named):
        search(**change)
