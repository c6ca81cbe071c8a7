"""Learning: it lowers the loss, keeps the best, stops, and refuses what cannot work."""

import anneal_processes as processes
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simplex_jax import anneal

pytestmark = pytest.mark.optimized

KEY = jax.random.key(0)


def double_well():
    def energy(x):
        return jnp.sum((x**2 - 1) ** 2 + 0.5 * x)

    def propose(key, x, temperature):
        return x + 0.4 * jax.random.normal(key, x.shape)

    return anneal.Problem(energy, propose, jnp.ones(2))


def learned(estimator="score_function", schedule=None, problem=None, **options):
    # Far too cold to leave the wrong well.
    cold = anneal.exponential(0.1, 0.01, rule=anneal.metropolis)
    options = {
        "key": KEY,
        "steps": 100,
        "chains": 64,
        "meta_steps": 40,
        "optimizer": optax.adam(0.15),
        "estimator": estimator,
    } | options
    return anneal.learn_schedule(
        double_well() if problem is None else problem,
        cold if schedule is None else schedule,
        **options,
    )


@pytest.mark.parametrize(
    "estimator",
    [
        "score_function",
        pytest.param("es", marks=pytest.mark.slow),
        pytest.param("pes", marks=pytest.mark.slow),
    ],
)
def test_a_schedule_that_is_too_cold_learns_to_be_warmer(estimator):
    sigma = {} if estimator == "score_function" else {"sigma": 0.5}
    found = learned(estimator, **sigma)
    history = found.history
    assert history.validation_loss.min() < history.validation_loss[0] - 0.4
    assert found.schedule.temperature(0) > 0.3
    assert not history.skipped.any()
    assert history.loss.shape == history.gradient_norm.shape == (40,)
    assert history.schedules.free["initial"].shape == (40,)
    # On runs that no step of learning saw.
    problem, sizes = double_well(), {"key": jax.random.key(99), "steps": 100}
    before, after = (
        anneal.anneal_problem(problem, s, chains=512, **sizes).best_energy.mean()
        for s in (anneal.exponential(0.1, 0.01), found.schedule)
    )
    assert after < before - 0.4


@pytest.mark.slow
def test_pathwise_lowers_the_relaxed_loss():
    schedule = anneal.LearnableSchedule.from_params(0.05)
    found = learned("pathwise", schedule, window=20, mode="reverse")
    assert found.history.loss[-10:].mean() < found.history.loss[:10].mean()


@pytest.mark.slow
def test_what_validates_best_is_kept_and_patience_ends():
    # A rate that jumps away at once.
    found = learned(optimizer=optax.sgd(-1e3), validate_every=1, patience=2)
    history = found.history
    assert found.stopped_early
    at = history.validation_loss.argmin()
    assert len(history.validation_loss) == at + 3
    assert history.validation_steps.tolist() == list(range(at + 3))
    if at == 0:
        assert found.schedule.temperature(0) == pytest.approx(0.1)


def test_a_gradient_that_is_not_finite_changes_nothing():
    def estimate(theta, key):
        return anneal.Estimate(theta**2, jnp.where(theta < 0.5, jnp.nan, 2 * theta))

    found = anneal.learn(
        estimate,
        lambda theta: theta**2,
        jnp.float32(1),
        key=KEY,
        meta_steps=8,
        optimizer=optax.sgd(0.1),
        validate_every=1,
    )
    assert found.history.skipped.tolist() == [False] * 4 + [True] * 4
    assert found.schedule == pytest.approx(0.8**4)


@pytest.mark.slow
def test_the_regularizer_holds_a_schedule_near_its_start():
    strong = anneal.MetaLoss(regularization=10.0)
    near = learned(meta_loss=strong, meta_steps=15)
    far = learned(meta_steps=15)
    last = [float(np.exp(x.history.schedules.free["initial"][-1])) for x in (near, far)]
    assert abs(np.log(last[0] / 0.1)) < 0.5 * abs(np.log(last[1] / 0.1)), last


@pytest.mark.slow
def test_self_learning_returns_the_best_of_a_hard_run():
    problem = double_well()
    config = anneal.AnnealConfig(3, 60, 1e-2, 1e-3, 50, chains=16)
    best = anneal.self_learn_anneal(problem, config, key=KEY)
    assert best.best_energy == best.result.best_energy.min()
    assert problem.energy(best.best_state) == pytest.approx(float(best.best_energy))
    assert (best.result.trace.stagnation < 50).all()
    assert best.history.loss.shape == (3,)
    same = anneal.self_learn_anneal(problem, config, key=KEY)
    np.testing.assert_array_equal(best.best_state, same.best_state)


def test_configurations_are_simplex_s():
    def numbers(config):
        return (
            config.meta_epochs,
            config.steps_per_epoch,
            config.meta_lr,
            config.regularization,
            config.convergence_threshold,
        )

    assert numbers(anneal.AnnealConfig()) == (100, 1000, 1e-3, 1e-4, 200)
    assert numbers(anneal.AnnealConfig.quick()) == (20, 200, 1e-2, 1e-3, 50)
    assert numbers(anneal.AnnealConfig.thorough()) == (500, 5000, 1e-4, 1e-5, 500)


def nan_start():
    return anneal.Problem(lambda x: x * jnp.nan, lambda key, x, t: x, 1.0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"estimator": "guess"}, "estimator is 'guess'"),
        ({"mode": "sideways"}, "mode is 'sideways'"),
        ({"steps": 0}, "steps is 0"),
        ({"meta_steps": 0}, "meta_steps is 0"),
        ({"patience": 0}, "patience is 0"),
        ({"window": 7}, "window is 7, which does not divide steps = 100"),
        ({"estimator": "es", "window": 10}, "window is 10, but es has none"),
        (
            {"estimator": "pathwise", "restart_after": 9},
            "restart_after is 9, but pathwise has none",
        ),
        ({"problem": nan_start()}, "init of chain 0 has an energy"),
        ({"problem": processes.ring_problem(), "estimator": "pathwise"}, "int32"),
    ],
)
def test_bad_arguments_are_refused_by_name(change, named):
    with pytest.raises(ValueError, match=named):
        learned(**change)
