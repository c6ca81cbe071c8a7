"""Gates: golden values, gradients in every mode, samples of the right frequencies."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

from simplex_jax import dual, neural
from simplex_jax.neural import Mode

X = jnp.array([-0.8, 0.3, 0.49, 0.7, 2.0])
LOGITS = jnp.array([1.0, 0.0, -1.0, 0.3])
KEY = jax.random.key(7)


def slopes_by(module, f):
    """Return the gradient of f by the module's state, in either mode of NNX."""
    graph, state = nnx.split(module)
    return jax.grad(lambda state: f(nnx.merge(graph, state)))(state)


def routed(x, mode, temperature=1.0):
    router = neural.Router(in_features=3, experts=4, top_k=2, rngs=nnx.Rngs(0))
    return router(x["x"].reshape(2, 3), mode=mode, temperature=temperature)


# A function of a pytree and a mode for each gate, its argument, and what in it learns.
GATES = {
    "threshold_gate": (
        lambda v, mode: neural.threshold_gate(v["x"], v["theta"], v["t"], mode),
        {"x": X, "theta": 0.5, "t": 0.5},
    ),
    "DualGate": (
        lambda v, mode: neural.DualGate(v["theta"], v["t"])(v["x"], mode=mode),
        {"x": X, "theta": jnp.linspace(0.0, 1.0, 5), "t": jnp.linspace(0.3, 1.0, 5)},
    ),
    "gumbel_softmax": (
        lambda v, mode: neural.gumbel_softmax(
            v["x"], key=KEY, temperature=v["t"], hard=mode is not Mode.SOFT
        ),
        {"x": LOGITS, "t": 0.7},
    ),
    "gumbel_sigmoid": (
        lambda v, mode: neural.gumbel_sigmoid(
            v["x"], key=KEY, temperature=v["t"], hard=mode is not Mode.SOFT
        ),
        {"x": LOGITS, "t": 0.7},
    ),
    "straight_through": (
        lambda v, mode: (
            v["x"] if mode is Mode.SOFT else neural.straight_through(0 * v["x"], v["x"])
        ),
        {"x": X},
    ),
    "straight_through_step": (
        lambda v, mode: (
            v["x"] if mode is Mode.SOFT else neural.straight_through_step(v["x"])
        ),
        {"x": X},
    ),
    "Router": (
        lambda v, mode: routed(v, mode, v["t"]).weights,
        {"x": jnp.linspace(-1.0, 2.0, 6), "t": 0.7},
    ),
}
NOT_GATES = {
    # In test_neural_attention.py.
    "AttentionConfig",
    "TemperatureAttention",
    "alibi_bias",
    "rotary",
    "sinusoidal_positions",
    "temperature_attention",
    "Mode",
    "Routing",
    "ControllerState",
    "TemperatureController",
    "logic",
}
gates = pytest.mark.parametrize("name", GATES)


def test_every_public_name_is_in_a_list():
    public = {n for n in vars(neural) if not n.startswith("_")} - {"jaxtyping"}
    assert public == GATES.keys() | NOT_GATES


@gates
def test_soft_derivatives_agree_with_differences(name):
    f, at = GATES[name]
    report = dual.check(lambda v: f(v, Mode.SOFT), at)
    assert report.passed, report
    assert not report.missing


@gates
def test_straight_through_has_the_soft_derivative_in_both_modes(name):
    f, at = GATES[name]
    at = jax.tree.map(jnp.asarray, at)
    soft = jax.jacrev(lambda v: f(v, Mode.SOFT))(at)
    for transform in (jax.jacfwd, jax.jacrev):
        hard = transform(lambda v: f(v, Mode.STRAIGHT_THROUGH))(at)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            hard,
            soft,
        )


@gates
def test_jit_and_vmap_change_nothing(name):
    f, at = GATES[name]
    at = jax.tree.map(jnp.asarray, at)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf * 0.9]), at)
    for mode in (Mode.SOFT, Mode.STRAIGHT_THROUGH):
        plain = jnp.stack(
            [f(jax.tree.map(lambda v, i=i: v[i], many), mode) for i in (0, 1)]
        )
        mapped = jax.jit(jax.vmap(lambda v, mode=mode: f(v, mode)))(many)
        np.testing.assert_allclose(mapped, plain, rtol=1e-5, atol=1e-6)


def test_the_golden_gate():
    gate = neural.DualGate(threshold=0.5, temperature=0.5)
    assert gate(0.7) == pytest.approx(0.59869, abs=5e-6)
    assert jax.grad(gate)(0.7) == pytest.approx(0.48052, abs=5e-6)
    by_gate = slopes_by(gate, lambda g: g(0.7))
    assert by_gate["threshold"][...] == pytest.approx(-0.48052, abs=5e-6)
    assert by_gate["log_temperature"][...] == pytest.approx(-0.48052 * 0.2, abs=5e-6)


def test_hard_gates_decide_and_have_no_derivative():
    gate = neural.DualGate(0.5, 0.5)
    hard = gate(X, mode=Mode.HARD)
    np.testing.assert_array_equal(hard, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(gate(X, mode=Mode.STRAIGHT_THROUGH), hard)
    assert gate(0.5, mode=Mode.HARD) == 1
    assert jax.grad(lambda x: gate(x, mode=Mode.HARD))(0.6) == 0
    steps = neural.straight_through_step(X, 0.4, low=-1.0, high=3.0)
    np.testing.assert_array_equal(steps, [-1, -1, 3, 3, 3])


def test_a_schedule_drives_the_temperature_without_retracing():
    gate, traces = neural.DualGate(), []

    @jax.jit
    def run(x, temperature):
        traces.append(1)
        return gate(x, temperature=temperature)

    for temperature in (1.0, 0.1, 0.01):
        found = run(jnp.float32(0.7), jnp.float32(temperature))
        assert found == pytest.approx(1 / (1 + math.exp(-0.2 / temperature)), rel=1e-5)
    assert len(traces) == 1


def test_one_gate_a_feature():
    gate = neural.DualGate(jnp.array([0.1, 0.9]), temperature=1.0)
    hard = gate(jnp.full((3, 2), 0.5), mode=Mode.HARD)
    np.testing.assert_array_equal(hard, [[1, 0]] * 3)


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_samples_fall_as_often_as_their_probabilities(temperature):
    keys = jax.random.split(jax.random.key(1), 100_000)
    hard = jax.vmap(
        lambda k: neural.gumbel_softmax(
            LOGITS, key=k, temperature=temperature, hard=True
        )
    )(keys)
    assert (hard.sum(-1) == 1).all()
    expected = np.asarray(jax.nn.softmax(LOGITS), float)
    found = np.asarray(hard.sum(0), float)
    assert stats.chisquare(found, expected / expected.sum() * 1e5).pvalue > 1e-3
    bits = neural.gumbel_sigmoid(
        jnp.full(100_000, 0.7), key=KEY, temperature=temperature, hard=True
    )
    ones = int(bits.sum())
    assert stats.binomtest(ones, 100_000, float(jax.nn.sigmoid(0.7))).pvalue > 1e-3


@pytest.mark.parametrize(
    ("temperature", "bias"), [(2.0, 0.53), (1.0, 0.27), (0.5, 0.09)]
)
def test_the_bias_of_straight_through_samples_is_the_documented_one(temperature, bias):
    logits, payoff = jnp.array([1.0, 0.0, -1.0]), jnp.array([1.0, 0.0, 0.0])

    def slope(key):
        def draw(z):
            sample = neural.gumbel_softmax(
                z, key=key, temperature=temperature, hard=True
            )
            return sample @ payoff

        return jax.grad(draw)(logits)

    slopes = jax.vmap(slope)(jax.random.split(KEY, 100_000))
    true = jax.grad(lambda z: jax.nn.softmax(z) @ payoff)(logits)
    norm = jnp.linalg.norm
    found = norm(slopes.mean(0) - true) / norm(true)
    error = norm(slopes.std(0)) / norm(true) / 100_000**0.5
    assert abs(found - bias) < 3 * error + 0.005
    assert found > 10 * error


def test_routers_start_different_and_renormalise():
    router = neural.Router(in_features=16, experts=8, top_k=2, rngs=nnx.Rngs(0))
    kernel = router.kernel[...]
    apart = jnp.abs(kernel[:, :, None] - kernel[:, None, :]).max(0)
    assert (apart + jnp.eye(8) > 0.1).all()
    x = jax.random.normal(KEY, (5, 3, 16))
    out = router(x, mode=Mode.HARD)
    assert ((out.weights > 0).sum(-1) == 2).all()
    np.testing.assert_allclose(out.weights.sum(-1), 1, rtol=1e-6)
    best = jnp.take_along_axis(out.weights, out.experts, -1)
    assert (best[..., 0] >= best[..., 1]).all()
    ties = router(x, mode=Mode.STRAIGHT_THROUGH)
    np.testing.assert_array_equal(ties.weights, out.weights)


def test_losers_learn_in_straight_through_only():
    router = neural.Router(in_features=3, experts=4, top_k=1, rngs=nnx.Rngs(0))
    x, payoff = jnp.array([[1.0, -0.5, 0.3]]), jnp.arange(4.0)

    def slope(mode):
        grads = slopes_by(router, lambda r: (r(x, mode=mode).weights @ payoff).sum())
        return jnp.abs(grads["kernel"][...]).max(0)

    assert (slope(Mode.STRAIGHT_THROUGH) > 1e-3).all()
    assert (slope(Mode.HARD) == 0).all()


def test_auxiliary_losses():
    router = neural.Router(in_features=2, experts=2, top_k=1, rngs=nnx.Rngs(0))
    router.kernel[...] = 20 * jnp.eye(2)
    even, one = jnp.eye(2), jnp.array([[1.0, 0.0]] * 2)
    assert router(even).load_balance_loss == pytest.approx(1)
    assert router(one).load_balance_loss == pytest.approx(2)
    assert router(even).z_loss == pytest.approx(400)
    slopes = slopes_by(router, lambda r: r(one).load_balance_loss + r(even).z_loss)
    assert jnp.abs(slopes["kernel"][...]).max() > 0


def test_the_controller_descends_reheats_and_freezes():
    controller = neural.TemperatureController(learning_rate=0.1, still_steps=3)
    state = controller.init(jnp.array([1.0, 0.04, 0.06]))
    np.testing.assert_array_equal(controller.frozen(state), [False, True, False])
    slope = jnp.array([2.0, 1.0, 9.0])
    state = jax.jit(controller.update)(slope, state, jnp.float32(1.0))
    np.testing.assert_allclose(state.temperature, [0.8, 0.04, 0.01], rtol=1e-6)
    flat = jnp.zeros(3)
    for _ in range(3):
        state = controller.update(flat, state, jnp.float32(1.0))
    np.testing.assert_allclose(state.temperature[0], 0.8, rtol=1e-6)
    state = controller.update(flat, state, jnp.float32(1.0))
    np.testing.assert_allclose(state.temperature, [1.2, 0.04, 0.01], rtol=1e-6)
    assert state.still == 0
    state = controller.update(flat, state, jnp.float32(2.0))
    assert state.still == 0


@pytest.mark.parametrize("temperature", [0.0, -1.0])
@pytest.mark.parametrize(
    "run",
    [
        lambda t: neural.threshold_gate(0.3, 0.5, t),
        lambda t: neural.DualGate(0.5, t)(0.3),
        lambda t: neural.DualGate()(0.3, temperature=t),
        lambda t: neural.gumbel_softmax(LOGITS, key=KEY, temperature=t),
        lambda t: neural.gumbel_softmax(LOGITS, key=KEY, temperature=t, hard=True),
        lambda t: neural.gumbel_sigmoid(LOGITS, key=KEY, temperature=t, hard=True),
        lambda t: routed({"x": jnp.ones(6)}, Mode.SOFT, t).weights,
        lambda t: neural.TemperatureController().init(t).temperature,
    ],
)
def test_temperatures_that_are_not_positive(run, temperature):
    with pytest.raises(ValueError, match=f"temperature is {temperature}; give"):
        run(temperature)
    assert jnp.isnan(jax.jit(run)(temperature)).all()


@pytest.mark.parametrize("top_k", [0, 5])
def test_more_winners_than_experts(top_k):
    with pytest.raises(ValueError, match=f"top_k is {top_k}; give 1 to experts"):
        neural.Router(in_features=3, experts=4, top_k=top_k, rngs=nnx.Rngs(0))
