"""Chains: what they find, keep, never visit, and say about trouble."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simplex_jax import anneal


def bowl(x):
    return jnp.sum(x**2)


def walk(key, x, temperature):
    return x + 0.5 * jax.random.normal(key, x.shape)


COLD = anneal.exponential(1.0, 0.02)
START = jnp.full(3, 2.0)


def run(energy=bowl, propose=walk, init: Any = START, schedule=COLD, **options):
    options = {"key": jax.random.key(0), "steps": 200, "chains": 4} | options
    return anneal.anneal(energy, propose, init, schedule, **options)


def test_a_bowl_is_descended():
    result = run(steps=1000)
    assert result.best_energy.shape == (4,)
    assert float(result.best_energy.max()) < 0.05
    np.testing.assert_allclose(
        jax.vmap(bowl)(result.best_state), result.best_energy, rtol=1e-5
    )
    assert (result.status == anneal.Status.OK).all()


def test_the_trace_agrees_with_itself():
    result = run()
    trace = result.trace
    for x in trace:
        assert x.shape == (4, 200)
    np.testing.assert_array_equal(
        trace.best_energy, np.minimum(12, np.minimum.accumulate(trace.energy, axis=1))
    )
    np.testing.assert_array_equal(trace.best_energy[:, -1], result.best_energy)
    np.testing.assert_allclose(
        trace.temperature[0], COLD.temperature(jnp.arange(200)), rtol=1e-6
    )
    best = np.concatenate([np.full((4, 1), 12.0), trace.best_energy], axis=1)
    stuck = 0
    for now, better in zip(trace.stagnation[1], np.diff(best[1]) < 0, strict=True):
        stuck = 0 if better else stuck + 1
        assert now == stuck
    moved = np.diff(np.concatenate([np.full((4, 1), 12.0), trace.energy], 1)) != 0
    np.testing.assert_array_equal(moved, trace.accepted)


def test_chains_share_random_numbers_whatever_their_number_and_schedule():
    few, many = run(chains=1), run(chains=1, schedule=anneal.linear(1.0, 0.1, 200))
    assert few.trace.energy[0, 0] == many.trace.energy[0, 0]
    np.testing.assert_array_equal(run().best_energy, run().best_energy)
    assert len({float(e) for e in run().best_energy}) == 4


def test_states_are_any_pytree():
    init = {"x": 3.0, "n": jnp.int32(5), "flags": (jnp.array([True, False]),)}

    def propose(key, state, temperature):
        a, b = jax.random.split(key)
        return {
            "x": state["x"] + temperature * jax.random.normal(a),
            "n": state["n"] + jax.random.choice(b, jnp.array([-1, 1])),
            "flags": (~state["flags"][0],),
        }

    result = run(lambda s: s["x"] ** 2 + s["n"] ** 2, propose, init, steps=400)
    assert (result.best_state["n"] == 0).all()
    assert result.best_state["flags"][0].shape == (4, 2)


# Five cities on a circle; swaps of two neighbours in the tour.
ANGLES = 2 * jnp.pi * jnp.array([0, 2, 4, 1, 3]) / 5
CITIES = jnp.stack([jnp.cos(ANGLES), jnp.sin(ANGLES)], axis=1)


def tour_length(tour):
    steps = CITIES[tour] - CITIES[jnp.roll(tour, 1)]
    return jnp.sum(jnp.sqrt(jnp.sum(steps**2, axis=1)))


def swap(tour, at):
    after = (at + 1) % 5
    return tour.at[at].set(tour[after]).at[after].set(tour[at])


def test_moves_with_their_change_of_energy_find_the_tour():
    problem = anneal.Problem(
        tour_length,
        lambda key, tour, temperature: jax.random.randint(key, (), 0, 5),
        jnp.arange(5),
        apply=swap,
        delta_energy=lambda tour, at: tour_length(swap(tour, at)) - tour_length(tour),
    )
    result = anneal.anneal_problem(
        problem, COLD, key=jax.random.key(1), steps=200, chains=8
    )
    shortest = min(
        float(tour_length(jnp.array(tour))) for tour in itertools.permutations(range(5))
    )
    np.testing.assert_allclose(result.best_energy, shortest, rtol=1e-5)
    np.testing.assert_array_equal(
        jax.vmap(tour_length)(result.best_state), result.best_energy
    )


def test_proposals_get_what_was_drawn_for_them():
    def draw(key, n):
        return {"at": jnp.arange(n), "far": jax.random.normal(key, (n, 3))}

    def propose(drawn, state, temperature):
        seen = state["seen"].at[drawn["at"]].set(drawn["far"])
        return {"seen": seen, "at": drawn["at"] + 1}

    problem = anneal.Problem(
        lambda state: 5.0 - state["at"],  # every proposal is taken
        propose,
        {"seen": jnp.zeros((6, 3)), "at": jnp.int32(0)},
        draw=draw,
    )
    result = anneal.anneal_problem(
        problem, COLD, key=jax.random.key(2), steps=6, chains=2
    )
    seen = np.asarray(result.state["seen"])
    assert len(np.unique(seen)) == 2 * 6 * 3
    again = anneal.anneal_problem(
        problem, COLD, key=jax.random.key(2), steps=6, chains=2
    )
    np.testing.assert_array_equal(again.state["seen"], seen)


@pytest.mark.slow
def test_hard_acceptance_visits_states_as_boltzmann_says():
    energies = jnp.array([0.0, 0.7, 0.3, 1.1])

    def ring(key, i, temperature):
        return (i + jax.random.choice(key, jnp.array([1, 3]))) % 4

    wanted = jax.nn.softmax(-energies / 0.6)
    for rule in (anneal.metropolis, anneal.barker):
        result = run(
            lambda i: energies[i],
            ring,
            jnp.int32(0),
            anneal.linear(0.6, 0.6, 1, rule=rule),
            steps=400,
            chains=1000,
        )
        found = np.bincount(result.state, minlength=4) / 1000
        # Four standard errors of a frequency.
        assert (abs(found - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / 1000)).all()


@pytest.mark.parametrize("how", ["feasible", "project"])
def test_constraints_are_never_violated(how):
    def outside_ball(x):
        return jnp.sum(x**2) >= 1

    def recorded(x):
        # An energy below every feasible one, so that a violation would be kept.
        return jnp.where(outside_ball(x), jnp.sum(x**2), -1e6)

    def push_out(x):
        return x / jnp.minimum(jnp.sqrt(jnp.sum(x**2)), 1) * (1 + 1e-6)

    limits: dict[str, Any] = {"feasible": outside_ball, "project": push_out}
    problem = anneal.Problem(recorded, walk, START, **{how: limits[how]})
    result = anneal.anneal_problem(
        problem, COLD, key=jax.random.key(0), steps=500, chains=16
    )
    assert float(result.trace.energy.min()) >= 1
    assert float(result.best_energy.max()) < 1.1


@pytest.mark.slow
def test_a_stuck_chain_restarts_from_its_best():
    hot = anneal.linear(1e3, 1e3, 1)
    result = run(schedule=hot, steps=300, restart_after=20)
    back = np.asarray(result.trace.stagnation) == 0
    assert (np.asarray(result.trace.stagnation) < 20).all()
    np.testing.assert_array_equal(
        np.where(back, result.trace.energy, 0),
        np.where(back, result.trace.best_energy, 0),
    )
    # It waits anew after each: none has gone, and none is counted twice.
    best = np.asarray(result.trace.best_energy)
    same = np.diff(best, axis=1, prepend=np.inf) == 0
    assert (back & same).any()
    assert float(run(schedule=hot, steps=300).energy.min()) > float(result.energy.max())


def test_energies_that_are_not_finite_are_refused_with_a_status():
    def walled(x):
        return jnp.where(x[0] > 0, bowl(x), jnp.nan)

    result = run(walled)
    assert (result.status == anneal.Status.REFUSED_NON_FINITE).any()
    assert jnp.isfinite(result.trace.energy).all()
    assert jnp.isfinite(result.best_energy).all()
    minus = run(lambda x: jnp.where(x[0] > 0, bowl(x), -jnp.inf))
    assert jnp.isfinite(minus.best_energy).all()


def test_temperatures_of_zero_are_a_status():
    dead = anneal.FixedSchedule({"a": jnp.float32(0)}, lambda step, a: 0 * a * step)
    result = run(schedule=dead)
    assert (result.status == anneal.Status.BAD_TEMPERATURE).all()
    assert not result.trace.accepted.any()


def test_bad_starts_raise_or_are_a_status_under_jit():
    with pytest.raises(ValueError, match="init of chain 0 has an energy"):
        run(lambda x: jnp.sum(x) * jnp.nan)
    status = jax.jit(lambda: run(lambda x: jnp.sum(x) * jnp.nan).status)()
    assert (status == anneal.Status.NON_FINITE_START).all()
    problem = anneal.Problem(bowl, walk, START, feasible=lambda x: x[0] > 5)
    with pytest.raises(ValueError, match="init of chain 0 is not feasible"):
        anneal.anneal_problem(problem, COLD, key=jax.random.key(0), steps=3)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"propose": lambda key, x, t: (x, x)}, "propose returned a tree"),
        ({"propose": lambda key, x, t: x[:2]}, r"propose returned float32\[2\]"),
        ({"energy": lambda x: x}, r"energy returned float32\[3\]"),
        ({"energy": lambda x: jnp.int32(1)}, "energy returned int32"),
        ({"steps": 0}, "steps is 0"),
        ({"chains": 0}, "chains is 0"),
        ({"restart_after": 0}, "restart_after is 0"),
    ],
)
def test_bad_arguments_are_refused_by_name(change, named):
    with pytest.raises(ValueError, match=named):
        run(**change)


def test_problems_that_contradict_themselves_are_refused():
    with pytest.raises(ValueError, match="apply is None"):
        anneal.Problem(bowl, walk, START, delta_energy=lambda x, m: 0.0)
    with pytest.raises(ValueError, match="project is given with delta_energy"):
        anneal.Problem(
            bowl,
            walk,
            START,
            apply=lambda x, m: m,
            delta_energy=lambda x, m: 0.0,
            project=lambda x: x,
        )
    with pytest.raises(ValueError, match=r"draw returned float32\[3\] for 200 prop"):
        anneal.anneal_problem(
            anneal.Problem(
                bowl, walk, START, draw=lambda key, n: jax.random.normal(key, (3,))
            ),
            COLD,
            key=jax.random.key(0),
            steps=200,
        )


def test_one_energy_compiles_once():
    traced = 0

    def counted(x):
        nonlocal traced
        traced += 1
        return bowl(x)

    run(counted)
    before = traced
    run(counted, key=jax.random.key(7), schedule=anneal.exponential(2.0, 0.1))
    assert traced == before
