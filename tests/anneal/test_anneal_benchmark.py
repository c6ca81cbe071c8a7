"""The benchmark's problems are what they say, and its statistics are right."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simplex_jax import anneal

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
benchmark: Any = importlib.import_module("anneal")
problems: Any = importlib.import_module("anneal_problems")

# The published shortest tour of berlin52, by TSPLIB's numbers.
SHORTEST = """
1 49 32 45 19 41 8 9 10 43 33 51 11 52 14 13 47 26 27 28 12 25 4 6 15 5 24 48 38 37 40
39 36 35 34 44 46 16 29 50 20 23 30 2 7 42 21 17 3 18 31 22
"""


def test_the_published_tour_has_the_published_length():
    family = problems.tsp_berlin(0)
    tour = jnp.array([int(x) - 1 for x in SHORTEST.split()])
    assert sorted(tour.tolist()) == list(range(52))
    state: Any = {"tour": tour, "at": jnp.int32(40)}
    assert family.problem.energy(state) == family.optimum == 7542


# Where each function's optimum lies.
OPTIMA = {
    "rastrigin": 0.0,
    "ackley": 0.0,
    "griewank": 0.0,
    "rosenbrock": 1.0,
    "styblinski_tang": -2.903534,
    "levy": 1.0,
    "schwefel": 420.968746,
}


@pytest.mark.parametrize("name", sorted(problems.FUNCTIONS))
def test_functions_are_0_at_their_optimum_and_above_elsewhere(name):
    f = problems.FUNCTIONS[name][0]
    assert f(np, np.full(10, OPTIMA[name])) == pytest.approx(0, abs=2e-4)
    low, high = problems.FUNCTIONS[name][1:3]
    points = np.random.default_rng(0).uniform(low, high, (1000, 10))
    assert f(np, points).min() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(problems.FAMILIES))
def test_changes_of_energy_add_up_and_instances_differ(name):
    family = problems.FAMILIES[name](3)
    energy = jax.vmap(family.problem.energy)
    at, key = 40, jax.random.key(0)
    problem = replace(family.problem, init=lambda key: family.start(key, at))
    run = anneal.anneal_problem(
        problem, anneal.exponential(1.0, 0.05), key=key, steps=100, chains=8
    )
    assert (run.status == anneal.Status.OK).all()
    size = float(jnp.abs(run.trace.energy).max())
    np.testing.assert_allclose(
        energy(run.state), run.trace.energy[:, -1], rtol=1e-4, atol=1e-5 * size
    )
    assert (run.best_state["at"] == at).all()
    assert (run.best_energy < run.trace.energy[:, 0]).any()
    if family.plain is not None:
        plain, box = family.plain(at)
        low, high = box[0]
        x = low + (high - low) * np.asarray(run.state["unit"], float)
        np.testing.assert_allclose(
            [plain(p) for p in x], energy(run.state), rtol=1e-3, atol=1e-5 * size
        )
    if name != "tsp_berlin52":
        other = run.state | {"at": jnp.full(8, 3)}
        assert (energy(other) != energy(run.state)).any()


def test_the_tests_of_pairs_see_what_is_there_and_not_what_is_not():
    rng = np.random.default_rng(1)
    noise = rng.normal(size=32)
    moved = benchmark.paired(noise - 2, np.random.default_rng(0))
    assert moved["low"] < noise.mean() - 2 < moved["high"] < 0
    assert moved["p"] < 1e-3
    still = benchmark.paired(noise - noise.mean() + 0.01, np.random.default_rng(0))
    assert still["low"] < 0 < still["high"]
    assert still["p"] > 0.5
    assert benchmark.paired(np.zeros(32), np.random.default_rng(0))["p"] == 1


def test_verdicts_are_corrected_for_their_number():
    rng = np.random.default_rng(2)
    same = {name: list(rng.normal(size=32)) for name in benchmark.METHODS}
    better = same | {"learned": [min(x) - 3 for x in zip(*same.values(), strict=True)]}
    worse = same | {"learned": [max(x) + 3 for x in zip(*same.values(), strict=True)]}
    judged = benchmark.judge(
        {k: {"best_energy": v} for k, v in {"a": better, "b": worse}.items()}
    )
    for name in benchmark.BASELINES:
        assert benchmark.verdict(judged["a"], name) == "better"
        assert benchmark.verdict(judged["b"], name) == "worse"
        for row in judged.values():
            assert row[name]["p"] < row[name]["p_holm"] <= 1
