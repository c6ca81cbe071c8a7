"""Plots: the lines that were asked for, with the numbers that they stand for."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simplex_jax import anneal

FIXED = anneal.exponential(1.0, 0.02)


def run(schedule=FIXED):
    return anneal.anneal(
        lambda x: x**2,
        lambda key, x, temperature: x + jax.random.normal(key),
        3.0,
        schedule,
        key=jax.random.key(0),
        steps=20,
        chains=3,
    )


def drawn(axis):
    return {line.get_label(): np.asarray(line.get_ydata()) for line in axis.lines}


def test_schedules_are_lines_of_temperatures():
    pytest.importorskip("matplotlib")
    learnable = anneal.LearnableSchedule.default()
    schedules = {"fixed": FIXED, "stuck": learnable}
    (axis,) = anneal.plot_schedule(schedules, steps=30, stagnation=80).axes
    lines = drawn(axis)
    assert lines.keys() == schedules.keys()
    np.testing.assert_allclose(lines["fixed"], np.exp(-0.02 * np.arange(30)), rtol=1e-5)
    assert lines["stuck"][0] == pytest.approx(float(learnable.temperature(0, 80)))


def test_a_run_has_four_traces_for_every_result():
    pytest.importorskip("matplotlib")
    results = {"slow": run(), "fast": run(anneal.exponential(1.0, 0.5))}
    axes = anneal.plot_run(results).axes
    assert len(axes) == 4
    for axis, field in zip(
        axes, ("temperature", "acceptance", "energy", "best_energy"), strict=True
    ):
        lines = drawn(axis)
        assert lines.keys() == results.keys()
        for name, result in results.items():
            wanted = np.asarray(getattr(result.trace, field)).mean(axis=0)
            np.testing.assert_allclose(lines[name], wanted, rtol=1e-6)
    assert len(axes[3].collections) == 2


@pytest.mark.parametrize(
    ("start", "names"),
    [
        (FIXED, {"Initial", "Rate"}),
        (anneal.Ladder.geometric(0.1, 1.0, 3), {"Lowest"}),
    ],
)
def test_learning_shows_the_losses_and_every_number(start, names):
    pytest.importorskip("matplotlib")
    found = anneal.learn(
        lambda theta, key: anneal.Estimate(jnp.float32(1), theta),
        lambda theta: jnp.float32(2),
        start,
        key=jax.random.key(0),
        meta_steps=4,
        optimizer=optax.sgd(0.1),
        validate_every=2,
    )
    losses, *numbers = anneal.plot_learning(found.history).axes
    lines = drawn(losses)
    np.testing.assert_array_equal(lines["training"], np.ones(4))
    np.testing.assert_array_equal(lines["validation"], np.full(3, 2.0))
    assert {axis.get_title() for axis in numbers} == names
    for axis in numbers:
        assert len(axis.lines[0].get_ydata()) == 4


@pytest.mark.parametrize(
    ("draw", "named"),
    [
        (lambda: anneal.plot_schedule({}, steps=3), "schedules is empty"),
        (lambda: anneal.plot_schedule({"a": FIXED}, steps=0), "steps is 0"),
        (lambda: anneal.plot_run({}), "results is empty"),
    ],
)
def test_bad_arguments_are_refused_by_name(draw, named):
    with pytest.raises(ValueError, match=named):
        draw()


def test_a_missing_matplotlib_is_said_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"simplex-jax\[plots\]"):
        anneal.plot_run({"a": run()})
