"""Heat from doubt: each part by its formula, slopes, health, regular dissent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import draws
from hypothesis import given
from hypothesis import strategies as st

from simplex_jax import anneal, dual

SOUND = anneal.Monitors(source_agreement=1.0, predictive_accuracy=1.0)


def heat(schedule, step=0, stagnation=0, **doubts):
    """Return what doubts add, for temperatures far from cap and floor."""
    plain = schedule.temperature(step, stagnation, SOUND)
    doubted = schedule.temperature(step, stagnation, SOUND._replace(**doubts))
    return float(doubted - plain)


@pytest.mark.parametrize(
    ("doubts", "wanted"),
    [
        ({"source_agreement": 0.6}, 0.4 * 0.5),
        ({"confidence_velocity": 0.1}, 0.0),
        ({"confidence_velocity": 0.4}, 0.6),
        ({"predictive_accuracy": 0.8}, 0.0),
        ({"predictive_accuracy": 0.5}, 3 * 0.5 * 0.3),
        ({"evidence_staleness": 100.0}, 0.0),
        ({"evidence_staleness": 150.0}, 50 * 0.005),
    ],
)
def test_each_doubt_has_its_heat(doubts, wanted):
    schedule = anneal.EpistemicSchedule.default()
    assert heat(schedule, **doubts) == pytest.approx(wanted, abs=2e-4)


def test_without_doubt_it_cools_and_stagnation_heats():
    schedule = anneal.EpistemicSchedule.from_params(1.0, 0.98, min_temp=1e-6)
    for step in (0, 10, 100):
        assert schedule.temperature(step, 0) == pytest.approx(0.98**step, rel=1e-4)
    assert schedule.temperature(100, 40) == pytest.approx(0.98**100 + 0.2, rel=1e-4)


def test_no_sum_of_heats_passes_the_cap():
    schedule = anneal.EpistemicSchedule.default()
    hottest = anneal.Monitors(0.0, 0.0, 100.0, 0.3, 1e6)
    assert schedule.temperature(0, 10**6, hottest) <= 10
    assert schedule.temperature(0, 10**6, hottest) > 9.9


@draws(30)
@given(
    step=st.integers(0, 10**5),
    stagnation=st.integers(0, 10**5),
    agreement=st.floats(0, 1),
    accuracy=st.floats(0, 1),
    velocity=st.floats(0, 10),
    staleness=st.floats(0, 1e5),
)
def test_more_doubt_is_never_colder(
    step, stagnation, agreement, accuracy, velocity, staleness
):
    schedule = anneal.EpistemicSchedule.default(dissent=anneal.Dissent())
    doubt = anneal.Monitors(
        source_agreement=agreement,
        predictive_accuracy=accuracy,
        confidence_velocity=velocity,
        evidence_staleness=staleness,
    )
    cold = float(schedule.temperature(step, stagnation, SOUND))
    hot = float(schedule.temperature(step, stagnation, doubt))
    assert 1e-3 <= cold <= hot * (1 + 1e-6)
    assert hot <= 10.01


def test_slopes_in_numbers_and_monitors():
    with jax.enable_x64(True):
        schedule = anneal.EpistemicSchedule.default(dissent=anneal.Dissent())
        doubt = jax.tree.map(
            jnp.float64, anneal.Monitors(0.5, 0.6, 0.3, 0.2, 130.0, 0.7, 0.2, 0.04)
        )

        def f(inputs):
            schedule, monitors = inputs
            step, stuck = jnp.array([3, 400]), jnp.array([20, 75])
            return {
                "T": schedule.temperature(step, stuck, monitors),
                "health": monitors.health(),
                "rate": monitors.learning_rate(0.1),
                "seen": monitors.observe(0.2, source_agreement=0.9).source_agreement,
            }

        report = dual.check(f, (schedule, doubt))
    assert report.passed, str(report)


def test_dissent_comes_and_goes_along_lines():
    dissent = anneal.Dissent(period=100, window=20, ramp_up=4, ramp_down=5)
    found = dissent.strength(jnp.array([0, 1, 3, 10, 15, 16, 19, 20, 99, 103, 110]))
    wanted = [0.25, 0.5, 1, 1, 1, 0.8, 0.2, 0, 0, 1, 1]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert anneal.Dissent(period=0).strength(5) == 0


def test_dissent_heats_in_its_window():
    dissent = anneal.Dissent(period=1000, window=100, heat=0.5)
    schedule = anneal.EpistemicSchedule.default(dissent=dissent)
    quiet = anneal.EpistemicSchedule.default()
    more = schedule.temperature(2050, 0) - quiet.temperature(2050, 0)
    assert more == pytest.approx(0.5, abs=2e-3)
    assert schedule.temperature(2500, 0) == quiet.temperature(2500, 0)


def test_health_is_its_weighted_mean():
    start = anneal.Monitors()
    wanted = (2 * 0.8 + 3 * 0.8 + 1 + 1 + 1 + 2 * 0.8 + 2 * 0.5) / 12
    assert start.health() == pytest.approx(wanted)
    assert start.healthy()
    for critical in (
        {"source_agreement": 0.3},
        {"predictive_accuracy": 0.4},
        {"confidence_velocity": 0.3},
        {"calibration_error": 0.3},
    ):
        perfect = anneal.Monitors(1.0, 1.0, 0.0, 0.3, 0.0, 1.0, 0.0, 0.0)
        assert perfect.healthy()
        assert not perfect._replace(**critical).healthy()


def test_observing_moves_the_named_means_alone():
    seen = anneal.Monitors().observe(source_agreement=0.3)
    assert seen.source_agreement == pytest.approx(0.75)
    assert seen._replace(source_agreement=0.8) == anneal.Monitors()


def test_doubt_slows_learning_but_never_stops_it():
    well = anneal.Monitors(source_agreement=0.7, predictive_accuracy=0.8)
    assert well.learning_rate(0.1) == pytest.approx(0.1)
    doubted = well._replace(
        source_agreement=0.5, predictive_accuracy=0.6, confidence_velocity=0.2
    )
    assert doubted.learning_rate(0.1) == pytest.approx(0.1 * 0.5 * 0.6 * 0.5)
    lost = well._replace(source_agreement=0.0)
    assert lost.learning_rate(0.1) == pytest.approx(0.001)


def test_a_chain_takes_it_and_learns_it():
    problem = anneal.Problem(
        lambda x: jnp.sum((x - 1) ** 2),
        lambda key, x, temperature: x + 0.3 * jax.random.normal(key, x.shape),
        jnp.zeros(2),
    )
    schedule = anneal.EpistemicSchedule.default()
    run = anneal.anneal_problem(problem, schedule, key=jax.random.key(0), steps=500)
    assert run.best_energy[0] < 0.05
    learned = anneal.learn_schedule(
        problem, schedule, key=jax.random.key(1), steps=50, chains=8, meta_steps=3
    )
    norms = learned.history.gradient_norm
    assert np.isfinite(norms).all() and (norms > 0).all()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: anneal.EpistemicSchedule.from_params(cooling=0.5), "cooling is 0.5"),
        (lambda: anneal.EpistemicSchedule.from_params(reheat=2.5), "reheat is 2.5"),
        (lambda: anneal.EpistemicSchedule.from_params(0.0), "initial_temp is 0.0"),
        (
            lambda: anneal.EpistemicSchedule.from_params(max_temp=-1.0),
            "max_temp is -1.0",
        ),
        (
            lambda: anneal.EpistemicSchedule.default(dissent=anneal.Dissent(-5)),
            "dissent.period is -5",
        ),
        (lambda: anneal.Monitors().observe(agreement=1.0), "no monitor 'agreement'"),
        (lambda: anneal.Monitors().observe(1.5), "rate is 1.5"),
        (lambda: anneal.Monitors().learning_rate(0.0), "base is 0.0"),
    ],
)
def test_bad_numbers_are_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
