"""Schedules and acceptance: values, slopes, properties, files."""

import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import draws
from hypothesis import assume, given
from hypothesis import strategies as st

from simplex_jax import anneal, dual

# Every schedule is a row.
SCHEDULES = {
    "exponential": lambda: anneal.exponential(2.0, 0.01),
    "linear": lambda: anneal.linear(2.0, 0.1, 100),
    "logarithmic": lambda: anneal.logarithmic(2.0),
    "cosine": lambda: anneal.cosine(2.0, 0.1, 100, rule=anneal.barker),
    "learnable": lambda: anneal.LearnableSchedule.from_params(
        oscillation_amp=0.3, accept_threshold=0.2, accept_sharpness=0.7
    ),
    "learnable_metropolis": lambda: anneal.LearnableSchedule.default(
        rule=anneal.metropolis
    ),
    "legacy": lambda: anneal.LearnableSchedule.default(legacy=True),
    "epistemic": lambda: anneal.EpistemicSchedule.default(
        dissent=anneal.Dissent(period=60, window=30)
    ),
}
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


@every_schedule
def test_schedules_commute_with_jit_and_vmap(name):
    schedule = SCHEDULES[name]()
    steps, stuck = jnp.arange(0, 400, 7), jnp.arange(0, 400, 7)[::-1] // 2
    one_by_one = [schedule.temperature(t, s) for t, s in zip(steps, stuck, strict=True)]
    for f in (schedule.temperature, jax.vmap(schedule.temperature)):
        np.testing.assert_allclose(
            jax.jit(f)(steps, stuck), jnp.stack(one_by_one), rtol=1e-6
        )
    deltas = jnp.linspace(-3, 3, 41)
    accept = jax.vmap(schedule.acceptance, in_axes=(0, None))
    np.testing.assert_allclose(
        jax.jit(accept)(deltas, 0.8), schedule.acceptance(deltas, 0.8), rtol=1e-6
    )


@every_schedule
def test_a_batch_of_schedules_is_a_schedule_of_batches(name):
    schedule = SCHEDULES[name]()
    many = jax.tree.map(lambda x: jnp.stack([x, 0.9 * x]), schedule)
    found = jax.vmap(lambda schedule: schedule.temperature(30, 60))(many)
    other = jax.tree.map(lambda x: 0.9 * x, schedule)
    wanted = [schedule.temperature(30, 60), other.temperature(30, 60)]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@every_schedule
def test_schedules_have_no_slope_but_the_right_one(name):
    with jax.enable_x64(True):
        schedule = SCHEDULES[name]()

        def f(schedule):
            temperature = schedule.temperature(jnp.array([3, 40]), jnp.array([20, 75]))
            return {"T": temperature, "A": schedule.acceptance(0.6, temperature)}

        report = dual.check(f, schedule)
    assert report.passed, str(report)


@every_schedule
@draws(10)
@given(a=st.floats(-50, 50), b=st.floats(-50, 50), temperature=st.floats(1e-3, 100))
def test_acceptance_is_a_probability_that_falls_with_delta(name, a, b, temperature):
    schedule = SCHEDULES[name]()
    low, high = (float(schedule.acceptance(x, temperature)) for x in sorted((a, b)))
    assert 0 <= high <= low <= 1


@every_schedule
@draws(10)
@given(step=st.integers(0, 10**6), stagnation=st.integers(0, 10**6))
def test_temperatures_are_finite_and_not_negative(name, step, stagnation):
    assume(stagnation <= step)
    temperature = float(SCHEDULES[name]().temperature(step, stagnation))
    assert math.isfinite(temperature)
    # A fixed exponential underflows at last; the chain's status says so.
    assert temperature >= 0 if name == "exponential" else temperature > 0


def test_curves_are_their_formulas():
    assert anneal.exponential(2.0, 0.1).temperature(10) == pytest.approx(2 / math.e)
    line = anneal.linear(2.0, 1.0, 10)
    np.testing.assert_allclose(
        line.temperature(jnp.array([0, 5, 10, 99])), [2, 1.5, 1, 1]
    )
    assert anneal.logarithmic(3.0).temperature(8) == pytest.approx(3 / math.log(10))
    wave = anneal.cosine(3.0, 1.0, 10)
    np.testing.assert_allclose(
        wave.temperature(jnp.array([0, 5, 10, 20])), [3, 2, 1, 1]
    )


def test_legacy_has_simplex_values():
    legacy = anneal.LearnableSchedule.default(legacy=True)
    points = {
        (0, 0): 1.4967,
        (100, 0): 0.8645,
        (1000, 0): 0.4967,
        (0, 100): 1.0033,
        (500, 100): 0.0101,
    }
    for (t, s), wanted in points.items():
        assert legacy.temperature(t, s) == pytest.approx(wanted, abs=5e-5)
    deltas = jnp.array([0.0, 1.0, -1.0])
    np.testing.assert_allclose(
        legacy.acceptance(deltas, 1.0), [0.5, 0.2689, 0.7311], atol=5e-5
    )


def test_reheat_heats_what_is_stuck_and_does_not_block_the_cooling():
    schedule = anneal.LearnableSchedule.default()
    improving = float(schedule.temperature(2000, 0))
    stuck, long_stuck = (float(schedule.temperature(2000, s)) for s in (55, 150))
    assert improving < 2e-3 < 0.2 < stuck
    assert long_stuck < 0.01
    legacy = anneal.LearnableSchedule.default(legacy=True)
    assert legacy.temperature(2000, 0) > 0.49 > 0.3 > legacy.temperature(2000, 55)


def test_cooling_keeps_its_slope_under_the_floor():
    def late(legacy):
        def f(schedule):
            return schedule.temperature(700, 0)

        schedule = anneal.LearnableSchedule.default(legacy=legacy)
        return jax.grad(f)(
            anneal.LearnableSchedule(
                {**schedule.free, "reheat_intensity": jnp.log(1e-9)},
                schedule.rule,
                legacy,
            )
        ).free["initial_temp"]

    assert late(legacy=True) == 0
    assert late(legacy=False) > 0.14 * math.exp(-7)


def test_acceptance_has_the_closed_form_slopes():
    with jax.enable_x64(True):
        tau, kappa, delta, temperature = 0.3, 0.7, 0.9, 1.3

        def accept(tau, kappa, delta, temperature):
            return anneal.LearnableSchedule.from_params(
                accept_threshold=tau, accept_sharpness=kappa
            ).acceptance(delta, temperature)

        a = accept(tau, kappa, delta, temperature)
        slopes = jax.grad(accept, argnums=(0, 1, 2, 3))(tau, kappa, delta, temperature)
        u = (tau - delta) / (temperature * kappa)
        b = a * (1 - a)
        wanted = [
            b / (temperature * kappa),
            -b * u / kappa,
            -b / (temperature * kappa),
            -b * u / temperature,
        ]
        np.testing.assert_allclose(slopes, wanted, rtol=1e-12)


def test_temperature_has_the_closed_form_slopes():
    # simplex.md 17 A1: the parts that one tangent for all would have summed.
    t, s = 100.0, 20.0
    with jax.enable_x64(True):

        def legacy(initial_temp, cool_rate, intensity, decay, amplitude):
            return anneal.LearnableSchedule.from_params(
                initial_temp=initial_temp,
                cool_rate=cool_rate,
                reheat_intensity=intensity,
                reheat_decay=decay,
                oscillation_amp=amplitude,
                legacy=True,
            ).temperature(t, s)

        slopes = jax.grad(legacy, argnums=tuple(range(5)))(1.0, 0.01, 0.5, 0.1, 0.0)
    heat = math.exp(3) / (1 + math.exp(3))
    wanted = [
        math.exp(-1),
        -100 * math.exp(-1),
        heat,
        0.5 * heat * 30,
        math.exp(-1) * math.sin(10),
    ]
    np.testing.assert_allclose(slopes, wanted, rtol=1e-12)
    np.testing.assert_allclose(slopes, [0.37, -36.8, 0.95, 14.3, -0.20], rtol=2e-2)


def test_metropolis_and_barker():
    deltas = jnp.array([-1.0, 0.0, 1.0])
    np.testing.assert_allclose(
        anneal.metropolis(deltas, 1.0), [1, 1, math.exp(-1)], rtol=1e-6
    )
    np.testing.assert_allclose(
        anneal.barker(deltas, 1.0), [0.7311, 0.5, 0.2689], atol=5e-5
    )
    # Both keep detailed balance: A(d) / A(-d) = exp(-d / T).
    for rule in (anneal.metropolis, anneal.barker):
        assert rule(0.7, 0.5) / rule(-0.7, 0.5) == pytest.approx(math.exp(-1.4), 1e-5)


def test_params_come_back():
    given_params: dict[str, Any] = {
        "initial_temp": 3.0,
        "cool_rate": 0.02,
        "min_temp": 0.01,
        "reheat_threshold": 20.0,
        "reheat_intensity": 0.1,
        "reheat_decay": 0.3,
        "oscillation_amp": -0.4,
        "oscillation_freq": 0.7,
        "accept_threshold": -0.5,
        "accept_sharpness": 2.0,
    }
    found = anneal.LearnableSchedule.from_params(**given_params).params
    assert {k: float(v) for k, v in found.items()} == pytest.approx(given_params)


@every_schedule
def test_files_hold_every_bit(name, tmp_path):
    schedule = SCHEDULES[name]()
    anneal.save(schedule, tmp_path / "schedule.json")
    back = anneal.load(tmp_path / "schedule.json")
    assert jax.tree.structure(back) == jax.tree.structure(schedule)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(schedule), strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()


def test_files_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "schedule.json"
    anneal.save(anneal.logarithmic(1.0), path)
    good = json.loads(path.read_text())
    for change, message in (
        ({"version": 2}, "version 2, but this release reads version 1"),
        ({"format": "other"}, "holds no schedule"),
        ({"free": {}}, "damaged"),
        ({"rule": "coin"}, "damaged"),
    ):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(ValueError, match=message):
            anneal.load(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="no JSON"):
        anneal.load(path)


def test_a_schedule_of_ones_own_has_no_file(tmp_path):
    own = anneal.FixedSchedule({"a": jnp.float32(0)}, lambda step, a: a + 0 * step)
    assert own.temperature(3) == 1
    with pytest.raises(ValueError, match="curve"):
        anneal.save(own, tmp_path / "x.json")
    with pytest.raises(ValueError, match="schedule is a dict"):
        anneal.save({}, tmp_path / "x.json")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: anneal.exponential(0.0, 0.1), "initial is 0.0"),
        (lambda: anneal.exponential(1.0, float("nan")), "rate is nan"),
        (lambda: anneal.linear(1.0, 0.0, 10), "final is 0.0"),
        (lambda: anneal.cosine(1.0, 0.1, 0), "steps is 0"),
        (lambda: anneal.logarithmic(-1.0), "scale is -1.0"),
        (lambda: anneal.LearnableSchedule.from_params(0.0), "initial_temp is 0.0"),
        (
            lambda: anneal.LearnableSchedule.from_params(oscillation_amp=1.0),
            "oscillation_amp is 1.0",
        ),
        (lambda: anneal.metropolis(1.0, 0.0), "temperature is 0.0"),
        (lambda: anneal.barker(1.0, -1.0), "temperature is -1.0"),
    ],
)
def test_bad_numbers_are_refused_by_name(make, named):
    with pytest.raises(ValueError, match=named):
        make()
