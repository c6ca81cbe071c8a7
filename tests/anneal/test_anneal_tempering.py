"""Parallel tempering: its distributions, its best, and a ladder that learns."""

import anneal_processes as processes
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simplex_jax import anneal

KEY = jax.random.key(0)


def test_a_geometric_ladder_has_equal_ratios():
    ladder = anneal.Ladder.geometric(0.1, 10.0, 5)
    np.testing.assert_allclose(
        ladder.temperatures, [0.1, 10**-0.5, 1, 10**0.5, 10], rtol=1e-5
    )


def test_every_rung_keeps_its_distribution():
    ladder = anneal.Ladder.geometric(0.3, 1.2, 3)
    run = jax.jit(
        jax.vmap(
            lambda key: anneal.temper(
                processes.ring_problem(), ladder, key=key, steps=60
            )
        )
    )(jax.random.split(KEY, 2000))
    energies = jnp.array(processes.ENERGIES)
    for rung, level in enumerate(ladder.temperatures):
        wanted = np.asarray(jax.nn.softmax(-energies / level))
        found = np.bincount(run.states[:, rung], minlength=4) / 2000
        assert (abs(found - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / 2000)).all()
    assert (run.best_energy == 0).all()
    assert ((run.swap_rate > 0.3) & (run.swap_rate <= 1)).mean() > 0.9


def deep_wells():
    """A narrow deep well beyond a wall that the coldest rung does not climb."""

    def energy(x):
        return (x**2 - 1) ** 2 * 4 + x

    return anneal.Problem(
        energy, lambda key, x, t: x + 0.3 * jax.random.normal(key), jnp.float32(1)
    )


def test_hot_rungs_lead_the_cold_one_over_the_wall():
    problem = deep_wells()
    alone = anneal.anneal_problem(
        problem, anneal.linear(0.1, 0.1, 1), key=KEY, steps=300
    )
    ladder = anneal.Ladder.geometric(0.1, 5.0, 6)
    together = anneal.temper(problem, ladder, key=KEY, steps=300)
    assert alone.best_energy[0] > 0.8
    assert together.best_energy < -1
    assert together.energies[0] < -0.5
    assert problem.energy(together.best_state) == together.best_energy
    assert (together.status == anneal.Status.OK).all()


@pytest.mark.slow
def test_a_ladder_learns():
    ladder = anneal.Ladder.geometric(0.05, 0.2, 3)
    process = anneal.tempering_process(
        deep_wells(), anneal.MetaLoss(), rungs=3, steps=60, scale=1.0
    )
    sizes = {"steps": 60, "chains": 64}
    found = anneal.learn(
        lambda theta, key: anneal.es(process, theta, key=key, sigma=0.5, **sizes),
        lambda theta: anneal.mean_loss(process, theta, key=KEY, **sizes),
        ladder,
        key=jax.random.key(1),
        meta_steps=40,
        optimizer=optax.adam(0.15),
    )
    losses = found.history.validation_loss
    assert losses.min() < losses[0] - 0.2
    assert found.schedule.temperatures[-1] > 0.4
    assert (jnp.diff(found.schedule.temperatures) > 0).all()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: anneal.Ladder.geometric(0.0, 1.0, 3), "lowest is 0.0"),
        (lambda: anneal.Ladder.geometric(1.0, 1.0, 3), "highest / lowest - 1 is 0"),
        (lambda: anneal.Ladder.geometric(1.0, 2.0, 1), "rungs is 1"),
    ],
)
def test_bad_ladders_are_refused_by_name(make, named):
    with pytest.raises(ValueError, match=named):
        make()
