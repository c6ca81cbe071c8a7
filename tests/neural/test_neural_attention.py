"""Attention with temperatures: plain at 1, argmax when hard, learned to an optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from draws import draws
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from simplex_jax import dual, neural
from simplex_jax.neural import Mode

KEYS = jax.random.split(jax.random.key(3), 4)
B, T, S, N, K, H = 2, 5, 7, 4, 2, 8
HEADS = (1, 2)
TEMPERATURES = jnp.array([0.3, 0.7, 1.5, 4.0])
attend = jax.jit(neural.temperature_attention, static_argnames=("causal", "mode"))
MASK = jax.random.bernoulli(KEYS[3], 0.6, (B, N, T, S)).at[0, :, 2].set(False)


def qkv(heads=K, dtype=jnp.float32, keys=S):
    q = jax.random.normal(KEYS[0], (B, T, N, H), dtype)
    k, v = (jax.random.normal(key, (B, keys, heads, H), dtype) for key in KEYS[1:3])
    return q, k, v


def reference(q, k, v, temperature: jax.typing.ArrayLike = 1.0, mask=None, bias=None):
    """Attention by its definition, in NumPy's float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    group = q.shape[2] // k.shape[2]
    k, v = (np.repeat(x, group, axis=2) for x in (k, v))
    scores = np.einsum("btnh,bsnh->bnts", q, k) / np.sqrt(q.shape[-1])
    if bias is not None:
        scores = scores + np.asarray(bias)
    scores = scores / np.broadcast_to(temperature, q.shape[2])[:, None, None]
    allowed = np.broadcast_to(True if mask is None else mask, scores.shape)
    weights = np.where(allowed, np.exp(scores - scores.max(-1, keepdims=True)), 0)
    total = weights.sum(-1, keepdims=True)
    weights = weights / np.where(total == 0, 1, total)
    return np.einsum("bnts,bsnh->btnh", weights, v)


def best_values(q, k, v, mask=None):
    """The value of the first best key, by a loop."""
    out = np.zeros(q.shape)
    group = q.shape[2] // k.shape[2]
    for b, t, n in np.ndindex(q.shape[:3]):
        scores = [float(np.dot(q[b, t, n], row)) for row in k[b, :, n // group]]
        seen = range(len(scores)) if mask is None else np.flatnonzero(mask[b, n, t])
        if len(seen):
            out[b, t, n] = v[b, max(seen, key=lambda s: scores[s]), n // group]
    return out


@pytest.mark.parametrize("heads", HEADS)
def test_at_temperature_one_it_is_plain_attention(heads):
    q, k, v = qkv(heads)
    for causal in (False, True):
        found = attend(q, k, v, 1.0, causal=causal)
        plain = jax.nn.dot_product_attention(q, k, v, is_causal=causal)
        np.testing.assert_allclose(found, plain, atol=1e-6)
    np.testing.assert_allclose(attend(q, k, v), reference(q, k, v), atol=1e-6)


def test_temperatures_masks_and_biases_are_those_of_the_definition():
    q, k, v = qkv()
    bias = neural.alibi_bias(N, T, S)
    lower = np.tril(np.ones((T, S), bool))
    for mask in (None, MASK, MASK[:, 0], MASK[1, 1]):
        wide = mask if mask is None or mask.ndim != 3 else mask[:, None]
        for causal in (False, True):
            both = lower if mask is None else np.asarray(wide) & lower
            found = attend(q, k, v, TEMPERATURES, mask=mask, causal=causal, bias=bias)
            expected = reference(q, k, v, TEMPERATURES, both if causal else wide, bias)
            np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("heads", HEADS)
def test_hard_mode_is_the_value_of_the_best_key_exactly(heads):
    q, k, v = qkv(heads)
    rows = [np.asarray(x) for x in (q, k, v)]
    for mask in (None, MASK):
        for mode in (Mode.HARD, Mode.STRAIGHT_THROUGH):
            found = attend(q, k, v, TEMPERATURES, mask=mask, mode=mode)
            np.testing.assert_array_equal(
                found, best_values(rows[0], rows[1], rows[2], mask)
            )
    # The limit of the soft one, where the best two keys are not near each other.
    soft = attend(q, k, v, 1e-4)
    near = np.isclose(soft, best_values(rows[0], rows[1], rows[2]), atol=1e-5)
    assert near.mean() > 0.95


@pytest.mark.parametrize("mode", Mode)
def test_a_query_that_may_look_nowhere_gives_zeros_and_no_slope(mode):
    q, k, v = qkv()

    def total(q, k, v, t):
        out = attend(q, k, v, t, mask=MASK, mode=mode)
        return jnp.sum(out**2), out

    slopes, out = jax.grad(total, argnums=(0, 1, 2, 3), has_aux=True)(
        q, k, v, TEMPERATURES
    )
    assert not np.asarray(out[0, 2]).any()
    assert not np.asarray(slopes[0][0, 2]).any()
    assert all(bool(jnp.isfinite(slope).all()) for slope in slopes)
    if mode is Mode.HARD:
        assert not any(np.asarray(slopes[i]).any() for i in (0, 1, 3))
    assert np.asarray(slopes[2]).any()


def test_forward_reverse_and_differences_agree():
    with jax.enable_x64(True):
        shapes = {"q": (1, 3, 2, 2), "k": (1, 4, 1, 2), "v": (1, 4, 1, 2)}
        start = {
            name: jax.random.normal(key, shape, jnp.float64)
            for key, (name, shape) in zip(KEYS, shapes.items(), strict=False)
        }
        start["t"] = jnp.array([0.4, 2.0], jnp.float64)
        start["b"] = jnp.asarray(neural.alibi_bias(2, 3, 4), jnp.float64)
        # One query may look nowhere.
        mask = jnp.ones((3, 4), bool).at[0, 0].set(False).at[2, 1].set(False)

        def f(p):
            out = attend(
                p["q"], p["k"], p["v"], p["t"], mask=mask, causal=True, bias=p["b"]
            )
            return jnp.sum(jnp.sin(out))

        report = dual.check(f, start)
        assert report.passed, report


def test_straight_through_has_the_derivative_of_the_soft_mode():
    arguments = (*qkv(), TEMPERATURES)
    tangents = tuple(jnp.cos(x) for x in arguments)
    slopes = [
        jax.jvp(
            lambda *a, mode=mode: attend(*a, mode=mode),
            arguments,
            tangents,
        )[1]
        for mode in (Mode.SOFT, Mode.STRAIGHT_THROUGH)
    ]
    np.testing.assert_allclose(*slopes, rtol=1e-5, atol=1e-5)
    assert np.asarray(slopes[0]).any()


def test_it_maps_over_temperatures_and_takes_them_traced():
    q, k, v = qkv()
    sweep = jnp.array([0.2, 1.0, 5.0])
    found = jax.jit(jax.vmap(lambda t: attend(q, k, v, t)))(sweep)
    for t, out in zip(sweep, found, strict=True):
        np.testing.assert_allclose(out, reference(q, k, v, t), atol=2e-6)
    for mode in Mode:
        wrong = jax.jit(lambda t, mode=mode: attend(q, k, v, t, mode=mode))(0.0)
        assert bool(jnp.isnan(wrong).all())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": jnp.ones((B, S, 3, H)), "v": jnp.ones((B, S, 3, H))}, "4 heads and k 3"),
        ({"mask": jnp.ones((B, T, S))}, "mask is float32"),
        ({"mask": jnp.ones((B, S, T), bool)}, r"of shape \(2, 7, 5\)"),
        ({"mask": jnp.ones((T,), bool)}, r"give bool, .* of shape \(5, 7\)"),
        ({"temperature": 0.0}, "temperature is 0.0; give"),
        ({"temperature": jnp.array([1.0, 1.0, -2.0, 1.0])}, r"temperature\[2\] is -2"),
        ({"temperature": jnp.ones(3)}, r"temperature has shape \(3,\)"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(change, message):
    q, k, v = qkv()
    with pytest.raises(ValueError, match=message):
        neural.temperature_attention(**{"q": q, "k": k, "v": v, **change})


# The layer.


def layer(**changes):
    sizes = {"hidden_size": 32, "num_attention_heads": N, "num_key_value_heads": K}
    config = neural.AttentionConfig(**{**sizes, **changes})
    return neural.TemperatureAttention(config, rngs=nnx.Rngs(0))


X = jax.random.normal(KEYS[0], (B, T, 32))


def test_at_temperature_one_the_layer_is_flax_own():
    ours = layer()
    plain = nnx.MultiHeadAttention(
        N,
        32,
        num_kv_heads=K,
        use_bias=False,
        decode=False,
        rngs=nnx.Rngs(1),
    )
    for mine, theirs in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value")):
        kernel = getattr(ours, mine).kernel[...]
        getattr(plain, theirs).kernel[...] = kernel.reshape(32, -1, H)
    plain.out.kernel[...] = ours.o_proj.kernel[...].reshape(N, H, 32)
    np.testing.assert_allclose(ours(X), plain(X), atol=1e-6)


def test_the_temperature_is_learned_to_a_known_optimum():
    teacher = layer(learn_temperature=False)
    wanted = teacher(X * 3, temperature=TEMPERATURES)
    graphdef, learned, rest = nnx.split(
        layer(), lambda path, _: "raw_temperature" in path, ...
    )
    assert len(jax.tree.leaves(learned)) == 1
    optimizer = optax.adam(0.05)

    def loss(learned):
        found = nnx.merge(graphdef, learned, rest)(X * 3)
        return jnp.mean((found - wanted) ** 2)

    @jax.jit
    def fit(learned):
        def step(carry, _):
            learned, state = carry
            updates, state = optimizer.update(jax.grad(loss)(learned), state)
            return (optax.apply_updates(learned, updates), state), None

        return jax.lax.scan(step, (learned, optimizer.init(learned)), None, 800)[0][0]

    found = nnx.merge(graphdef, fit(learned), rest).temperature
    np.testing.assert_allclose(found, TEMPERATURES, rtol=0.02)


def test_every_parameter_gets_a_gradient_or_is_not_there():
    graphdef, state = nnx.split(layer(rope_theta=100.0))

    @jax.jit
    @jax.grad
    def slope(state):
        return jnp.sum(nnx.merge(graphdef, state)(X, causal=True) ** 2)

    slopes = slope(state)
    assert len(jax.tree.leaves(slopes)) == 5
    assert all(bool(jnp.any(slope != 0)) for slope in jax.tree.leaves(slopes))
    fixed = layer(learn_temperature=False, temperature=0.5)
    assert len(jax.tree.leaves(nnx.state(fixed))) == 4
    np.testing.assert_array_equal(fixed(X), layer()(X, temperature=0.5))


@draws(20)
@given(st.floats(-50, 50, width=32))
def test_learned_temperatures_stay_in_their_bounds(raw):
    made = layer(temperature_bounds=(0.5, 3.0), temperature=2.0)
    np.testing.assert_allclose(made.temperature, 2.0, rtol=1e-6)
    graphdef, state = nnx.split(made)
    state = jax.tree.map(lambda leaf: leaf * 0 + raw if leaf.ndim == 1 else leaf, state)
    found = np.asarray(nnx.merge(graphdef, state).temperature)
    assert (found >= 0.5 * (1 - 1e-6)).all() and (found <= 3 * (1 + 1e-6)).all()


def test_with_rotary_positions_only_distances_count():
    made = layer(rope_theta=100.0)
    positions = jnp.broadcast_to(jnp.arange(T), (B, T))
    here, there = (made(X, positions=positions + p) for p in (0, 40))
    np.testing.assert_allclose(here, made(X), atol=1e-6)
    np.testing.assert_allclose(here, there, atol=1e-5)
    # Without them the order of the others is nothing to a position.
    turned = jnp.flip(X, 1)
    np.testing.assert_allclose(jnp.flip(layer()(turned), 1), layer()(X), atol=1e-5)
    assert np.abs(jnp.flip(made(turned), 1) - made(X)).max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 30}, "hidden_size is 30; give a multiple"),
        ({"num_key_value_heads": 3}, "num_attention_heads is 4; give a multiple"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"head_dim": 0}, "head_dim is 0"),
        ({"temperature": 0.0}, "temperature is 0.0; give a number between 0.01"),
        ({"temperature_bounds": (2.0, 1.0)}, "temperature_bounds"),
        ({"rope_theta": -1.0}, "theta is -1.0"),
        ({"rope_theta": 9.0, "head_dim": 3}, "head width is 3"),
    ],
)
def test_layers_that_cannot_be_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        layer(**change)(X)


# Positions.


def test_sinusoidal_positions_are_the_formula():
    positions = jnp.array([[0, 3, 1000]])
    found = neural.sinusoidal_positions(positions, 6, theta=100.0)
    angles = np.asarray(positions)[..., None] * 100.0 ** (-np.arange(3) / 3)
    expected = np.concatenate([np.sin(angles), np.cos(angles)], -1)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    with pytest.raises(ValueError, match="features is 5"):
        neural.sinusoidal_positions(positions, 5)


def test_rotary_turns_by_the_position_and_keeps_lengths():
    x = jax.random.normal(KEYS[0], (B, T, N, H))
    positions = jnp.arange(B * T).reshape(B, T)
    found = np.asarray(neural.rotary(x, positions))
    pairs = np.asarray(x[..., : H // 2]) + 1j * np.asarray(x[..., H // 2 :])
    angles = np.asarray(positions)[..., None, None] * 1e4 ** (-2 * np.arange(4) / H)
    turned = pairs * np.exp(1j * angles)
    expected = np.concatenate([turned.real, turned.imag], -1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("heads", "slopes"),
    [
        (1, [2**-8]),
        (4, [2**-2, 2**-4, 2**-6, 2**-8]),
        (6, [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]),
    ],
)
def test_alibi_has_the_published_slopes(heads, slopes):
    found = np.asarray(neural.alibi_bias(heads, 3, 4))
    np.testing.assert_allclose(-found[:, 0, 1], slopes, rtol=1e-6)
    np.testing.assert_allclose(found[:, 2], found[:, 0, 1:2] * [2, 1, 0, 1], rtol=1e-6)
    with pytest.raises(ValueError, match="heads is 0"):
        neural.alibi_bias(0, 3, 3)
