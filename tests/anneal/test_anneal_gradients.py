"""Meta-gradients: both modes, differences, closed forms, expectations, memory."""

import anneal_processes as processes
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from simplex_jax import anneal

KEY = jax.random.key(0)


def differences(f, theta, step=1e-4):
    """Return the gradient of f by extrapolated central differences."""
    point, rebuild = ravel_pytree(theta)
    many = jax.jit(jax.vmap(lambda x: f(rebuild(x))))

    def central(h):
        offsets = h * jnp.eye(point.size)
        return (many(point[None] + offsets) - many(point[None] - offsets)) / (2 * h)

    return (4 * central(step / 2) - central(step)) / 3


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0])


def within(found, wanted, errors=3.0):
    """Assert that samples (draws, n) have the mean wanted, within standard errors."""
    found = np.asarray(found, np.float64)
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - wanted) <= errors * error + 1e-12).all(), (
        found.mean(axis=0),
        wanted,
        error,
    )


def relaxed_bowl():
    def energy(x):
        return jnp.sum(x**2 + 0.5 * (1 - jnp.cos(3 * x)))

    def propose(key, x, temperature):
        return x + (0.3 + 0.1 * temperature) * jax.random.normal(key, x.shape)

    problem = anneal.Problem(energy, propose, jnp.array([1.5, -2.0]))
    return anneal.relaxed_process(problem, anneal.MetaLoss(), steps=12, scale=2.0)


SMOOTH = {
    "noisy_bowl": (processes.noisy_bowl, lambda: {"log_rate": jnp.array(-1.0)}),
    "influence": (processes.influence_balancing, lambda: jnp.array(0.5)),
    "relaxed": (
        relaxed_bowl,
        lambda: anneal.LearnableSchedule.from_params(
            reheat_threshold=2.7, oscillation_amp=0.2, accept_threshold=0.1
        ),
    ),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_forward_reverse_and_differences_agree(name):
    with jax.enable_x64(True):
        make, start = SMOOTH[name]
        process, theta, sizes = make(), start(), {"key": KEY, "steps": 12, "chains": 2}
        modes = [
            anneal.pathwise(process, theta, mode=mode, **sizes)
            for mode in ("forward", "reverse")
        ]
        wanted = differences(lambda x: anneal.mean_loss(process, x, **sizes), theta)
        assert modes[0].loss == pytest.approx(
            float(anneal.mean_loss(process, theta, **sizes)), rel=1e-12
        )
        norm = np.linalg.norm(wanted)
        for found in modes:
            assert np.linalg.norm(flat(found.gradient) - wanted) <= 1e-6 * norm
        gap = np.linalg.norm(flat(modes[0].gradient) - flat(modes[1].gradient))
        assert gap <= 1e-12 * norm


def truncated(theta, steps, window):
    """Return the truncated gradient of influence balancing by its definition."""
    x, total = np.ones(processes.SIZE), 0.0
    for t in range(steps):
        if t % window == 0:
            slope = np.zeros(processes.SIZE)
        x = processes.DRIFT @ x + theta * processes.PUSH
        slope = processes.DRIFT @ slope + processes.PUSH
        total += (x[0] - 1) * slope[0]
    return total


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_windows_cut_the_gradient_where_they_say(mode):
    with jax.enable_x64(True):
        for window in (1, 4, 20):
            found = anneal.pathwise(
                processes.influence_balancing(),
                jnp.array(0.5),
                key=KEY,
                steps=20,
                window=window,
                mode=mode,
            )
            assert found.gradient == pytest.approx(truncated(0.5, 20, window), 1e-12)


def test_truncation_fails_on_influence_balancing_and_pes_does_not():
    process, theta, steps = processes.influence_balancing(), jnp.array(0.5), 200
    true = anneal.pathwise(process, theta, key=KEY, steps=steps).gradient
    cut = anneal.pathwise(process, theta, key=KEY, steps=steps, window=5).gradient
    assert float(true) * float(cut) < 0
    keys = jax.random.split(KEY, 100)
    sizes = {"steps": steps, "window": 5, "sigma": 0.1}
    found = jax.jit(
        jax.vmap(lambda key: anneal.pes(process, theta, key=key, chains=100, **sizes))
    )(keys)
    # 10,000 pairs; the loss is quadratic, so smoothing leaves its gradient as it is.
    within(found.gradient, float(true))


def quartic():
    """A loss of theta alone, and of a draw: its smoothed gradient is a polynomial."""

    def step(theta, x, key):
        noise = jax.random.normal(key)
        return x, anneal.Emission(jnp.sum(theta**4) / 2 + noise * theta[0])

    return anneal.Process(lambda key: jnp.float32(0), step)


@pytest.mark.parametrize("name", ["es", "pes"])
def test_es_and_pes_have_the_gradient_of_the_smoothed_loss(name):
    theta, sigma, steps = jnp.array([0.6, -0.4]), 0.3, 4
    estimator, options = {
        "es": (anneal.es, {}),
        "pes": (anneal.pes, {"window": 4}),
    }[name]
    found = jax.jit(
        jax.vmap(
            lambda key: (
                estimator(
                    quartic(),
                    theta,
                    key=key,
                    steps=steps,
                    chains=1,
                    sigma=sigma,
                    **options,
                ).gradient
            )
        )
    )(jax.random.split(KEY, 20_000))
    # E[(x + e)^4] = x^4 + 6 x^2 s^2 + 3 s^4, four times half of it.
    wanted = steps / 2 * (4 * theta**3 + 12 * theta * sigma**2)
    within(found, np.asarray(wanted))
    # At 20,000 draws the plain gradient is told from the smoothed one.
    with pytest.raises(AssertionError):
        within(found, np.asarray(steps * 2 * theta**3))


@pytest.mark.parametrize(
    "rule",
    [anneal.barker, pytest.param(anneal.metropolis, marks=pytest.mark.nightly)],
)
def test_the_score_function_has_the_gradient_of_the_expected_loss(rule):
    meta, steps, scale = anneal.MetaLoss(1.0, 0.3, 0.2), 3, 0.8
    schedule = anneal.LearnableSchedule.from_params(
        0.8, 0.3, 0.1, 1.7, 0.5, 0.2, 0.3, 0.9, 0.05, 0.8, rule=rule
    )
    process = anneal.decided_process(
        processes.ring_problem(), meta, steps=steps, scale=scale
    )

    def expected(schedule):
        return processes.expected_ring_loss(schedule, meta, steps, scale)

    with jax.enable_x64(True):
        precise = jax.tree.map(lambda x: x.astype(jnp.float64), schedule)
        loss, gradient = jax.jit(jax.value_and_grad(expected))(precise)
        loss, wanted = float(loss), flat(gradient)
        by_differences = differences(expected, precise)
        np.testing.assert_allclose(wanted, by_differences, rtol=1e-6, atol=1e-9)
    found = jax.jit(
        jax.vmap(
            lambda key: anneal.score_function(
                process, schedule, key=key, steps=steps, chains=2
            )
        )
    )(jax.random.split(KEY, 20_000))
    gradients = jax.vmap(lambda x: ravel_pytree(x)[0])(found.gradient)
    within(found.loss, loss)
    within(gradients, wanted)


@pytest.mark.nightly
def test_both_modes_of_the_score_function_agree():
    with jax.enable_x64(True):
        process = anneal.decided_process(
            processes.ring_problem(), anneal.MetaLoss(), steps=12, scale=1.0
        )
        schedule = anneal.LearnableSchedule.default()
        forward, reverse = (
            anneal.score_function(
                process, schedule, key=KEY, steps=12, chains=8, window=6, mode=mode
            )
            for mode in ("forward", "reverse")
        )
        np.testing.assert_allclose(
            flat(forward.gradient), flat(reverse.gradient), rtol=1e-10, atol=1e-14
        )
        assert np.abs(flat(forward.gradient)).max() > 1e-3


def temporary_bytes(steps, mode):
    process = anneal.decided_process(
        processes.ring_problem(), anneal.MetaLoss(), steps=steps, scale=1.0
    )

    def gradient(theta, key):
        return anneal.score_function(
            process, theta, key=key, steps=steps, chains=4, mode=mode
        )

    schedule = anneal.LearnableSchedule.default()
    compiled = jax.jit(gradient).lower(schedule, KEY).compile()
    analysis = compiled.memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


def test_forward_mode_needs_no_more_memory_for_more_steps():
    assert temporary_bytes(10_000, "forward") <= 1.1 * temporary_bytes(100, "forward")


@pytest.mark.slow
def test_reverse_mode_needs_the_root_of_the_steps():
    few, many = (temporary_bytes(steps, "reverse") for steps in (100, 10_000))
    assert few < many < 20 * few


@pytest.mark.nightly
def test_a_process_gains_what_the_chain_does():
    problem = processes.ring_problem()
    schedule = anneal.exponential(1.0, 0.1)
    n = 4000
    run = anneal.anneal_problem(problem, schedule, key=KEY, steps=9, chains=n)
    process = anneal.decided_process(
        problem, anneal.MetaLoss(1.0, 0.0, 0.0), steps=9, scale=1.0
    )
    loss = anneal.mean_loss(process, schedule, key=KEY, steps=9, chains=n)
    gains = run.best_energy - processes.ENERGIES[0]
    # Each draws for itself, the chain for all its steps at once.
    error = float(gains.std()) * (2 / n) ** 0.5
    assert 0 < error < 0.01
    assert float(loss) == pytest.approx(float(gains.mean()), abs=4 * error)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"chains": 1}, "chains is 1"),
        ({"window": 3}, "window is 3, which does not divide steps = 10"),
        ({"window": 0}, "window is 0"),
    ],
)
def test_bad_arguments_are_refused_by_name(change, named):
    process, theta = processes.noisy_bowl(), {"log_rate": jnp.float32(-1)}
    sizes = {"key": KEY, "steps": 10, "chains": 2} | change
    with pytest.raises(ValueError, match=named):
        anneal.score_function(process, theta, **sizes)


def test_sigma_must_be_above_zero():
    with pytest.raises(ValueError, match="sigma is 0"):
        anneal.es(processes.noisy_bowl(), jnp.zeros(2), key=KEY, steps=4, sigma=0.0)


def test_relaxation_refuses_what_has_no_part():
    options = {"steps": 4, "scale": 1.0}
    integers = processes.ring_problem()
    with pytest.raises(ValueError, match="init has dtype int32"):
        anneal.pathwise(
            anneal.relaxed_process(integers, anneal.MetaLoss(), **options),
            anneal.LearnableSchedule.default(),
            key=KEY,
            steps=4,
        )
    moves = anneal.Problem(
        integers.energy, integers.propose, integers.init, apply=lambda i, move: move
    )
    with pytest.raises(ValueError, match="problem.apply is given"):
        anneal.relaxed_process(moves, anneal.MetaLoss(), **options)
    with pytest.raises(ValueError, match="softness is 0"):
        anneal.relaxed_process(integers, anneal.MetaLoss(), softness=0.0, **options)
