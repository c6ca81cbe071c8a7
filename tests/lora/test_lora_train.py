"""Derivatives, dropout and optimizer steps through an attached model."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from lora_helpers import (
    ATTENTION,
    MLP,
    adapted,
    gap,
    layers_of,
    logits,
    make,
    numbers,
    tokens,
)

from simplex_jax import lora
from simplex_jax.lora._layer import dropout

RAGGED = lora.LoRAConfig(
    r=3,
    lora_dropout=0.3,
    target_modules=("q_proj", "k_proj", "up_proj"),
    exclude_modules=r".*\.1\..*k_proj",
    rank_pattern={r"0\.self_attn\.q_proj": 5, r"layers\.1\.mlp\..*": 1},
)


def padding(model) -> list[np.ndarray]:
    """Return every number of A and B beyond the real ranks."""
    beyond = []
    for layer in layers_of(model).values():
        a, b = np.asarray(layer.lora_a[...]), np.asarray(layer.lora_b[...])
        for i, rank in enumerate(layer.ranks):
            beyond += [a[i, :, rank:].ravel(), b[i, rank:].ravel()]
    return beyond


def test_derivatives_agree_with_finite_differences():
    with jax.enable_x64(True):
        base = make("qwen2", jnp.float64, layers=2)
        model = adapted(base, RAGGED, param_dtype=jnp.float64)
        graphdef, adapters, rest = nnx.split(model, nnx.LoRAParam, ...)
        batch, key = tokens(1, 6), jax.random.key(5)

        @jax.jit
        def loss(adapters):
            model = nnx.merge(graphdef, adapters, rest)
            return jnp.mean(jax.nn.log_softmax(model(batch, key=key))[..., 3])

        rng = np.random.default_rng(0)
        direction = jax.tree.map(
            lambda v: jnp.asarray(rng.standard_normal(v.shape)), adapters
        )
        _, forward = jax.jit(
            lambda p, t: jax.jvp(loss, (p,), (t,)),
        )(adapters, direction)
        gradient = jax.jit(jax.grad(loss))(adapters)
        reverse = sum(
            jnp.vdot(g, d)
            for g, d in zip(
                jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True
            )
        )
        step = 1e-6
        up, down = (
            loss(jax.tree.map(lambda p, d, s=s: p + s * step * d, adapters, direction))
            for s in (1, -1)
        )
        numeric = (up - down) / (2 * step)
        assert abs(float(forward)) > 1e-2
        assert float(forward) == pytest.approx(float(reverse), rel=1e-12)
        assert float(forward) == pytest.approx(float(numeric), rel=1e-7)


def test_padding_stays_zero_over_adamw_steps_with_decay():
    base = make("llama", layers=2)
    model = adapted(base, RAGGED)
    assert sum(map(np.size, padding(model))) > 100
    graphdef, adapters, rest = nnx.split(model, nnx.LoRAParam, ...)
    optimizer = optax.adamw(1e-2, weight_decay=0.1)
    traces = 0

    @jax.jit
    def step(adapters, state, key):
        nonlocal traces
        traces += 1

        def loss(adapters):
            model = nnx.merge(graphdef, adapters, rest)
            rows = tokens(2, 8)
            return optax.softmax_cross_entropy_with_integer_labels(
                model(rows[:, :-1], key=key), rows[:, 1:]
            ).mean()

        value, gradient = jax.value_and_grad(loss)(adapters)
        updates, state = optimizer.update(gradient, state, adapters)
        return optax.apply_updates(adapters, updates), state, value

    state = optimizer.init(adapters)
    trained, losses = adapters, []
    for i in range(50):
        trained, state, value = step(trained, state, jax.random.key(i))
        losses.append(float(value))
    assert traces == 1
    assert losses[-1] < 0.5 * losses[0]
    result = nnx.merge(graphdef, trained, rest)
    assert all(np.all(values == 0) for values in padding(result))
    moved = jax.tree.map(gap, adapters, trained)
    assert min(jax.tree.leaves(moved)) > 0.01
    # Frozen, and outside of the optimizer's state.
    before, after = numbers(base), numbers(lora.detach(result))
    assert all(np.array_equal(before[name], after[name]) for name in before)
    size = sum(leaf.size for leaf in jax.tree.leaves(adapters))
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 2 * size + 1


def test_dropout_zeroes_the_stated_share_and_keeps_the_mean():
    x = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (4, 50, 33)), jnp.float32)
    for rate in (0.05, 0.3, 0.9):
        y = np.asarray(dropout(x, rate, jax.random.key(1)))
        dropped = y == 0
        spread = (rate * (1 - rate) / y.size) ** 0.5
        assert abs(dropped.mean() - rate) < 4 * spread
        kept = np.where(dropped, np.asarray(x) / (1 - rate), y)
        np.testing.assert_allclose(kept, np.asarray(x) / (1 - rate), rtol=2e-4)
        # Neighbours share a 32-bit draw; their decisions are still independent.
        both = (dropped[..., 0:32:2] & dropped[..., 1:32:2]).mean()
        assert abs(both - rate**2) < 4 * (rate**2 / (y.size / 2)) ** 0.5
    np.testing.assert_array_equal(dropout(x, 1e-9, jax.random.key(1)), x)


def test_dropout_is_unbiased_and_none_without_a_key():
    layer = layers_of(adapted(make("llama"), RAGGED))["q_proj"]
    graphdef, state = nnx.split(layer)
    one = nnx.merge(graphdef, jax.tree.map(lambda v: v[0], state))
    x = jnp.asarray(np.random.default_rng(1).standard_normal((1, 4, 32)), jnp.float32)
    exact = one(x)
    np.testing.assert_array_equal(exact, one(x))
    draws = jax.vmap(lambda key: one(x, key=key))(
        jax.random.split(jax.random.key(0), 4000)
    )
    error = np.asarray(draws.mean(0) - exact)
    standard = np.asarray(draws.std(0)) / 4000**0.5
    assert standard.min() > 0
    assert np.abs(error / standard).max() < 4.5


def test_every_layer_and_module_gets_its_own_mask():
    base = make("llama", layers=2)
    config = lora.LoRAConfig(r=2, lora_dropout=0.5, target_modules="all-linear")
    model = adapted(base, config)
    seen: list[np.ndarray] = []

    class Spy(nnx.Module):
        def __init__(self, inner):
            self.inner = inner

        def __call__(self, x, *, key=None):
            assert key is not None
            mask = dropout(jnp.ones((1, 2, 64)), 0.5, key) == 0
            jax.debug.callback(lambda m: seen.append(np.asarray(m)), mask)
            return self.inner(x, key=key)

    layers = layers_of(model)
    for part, names in ((model.layers.self_attn, ATTENTION), (model.layers.mlp, MLP)):
        for name in names:
            setattr(part, name, Spy(layers[name]))
    logits(model, tokens(), jax.random.key(0))
    jax.effects_barrier()
    assert len(seen) == 14
    assert len({mask.tobytes() for mask in seen}) == 14


def test_dropout_needs_a_key_and_a_rate():
    base = make("llama", layers=2)
    model = adapted(base, RAGGED)
    plain = logits(model, tokens())
    np.testing.assert_array_equal(plain, logits(model, tokens()))
    dropped = logits(model, tokens(), jax.random.key(0))
    assert gap(plain, dropped) > 1e-3
    again, other = (logits(model, tokens(), jax.random.key(i)) for i in (0, 1))
    np.testing.assert_array_equal(dropped, again)
    assert gap(dropped, other) > 1e-3
    off = layers_of(adapted(base, lora.LoRAConfig(r=3, lora_dropout=0)))["q_proj"]
    graphdef, state = nnx.split(off)
    off = nnx.merge(graphdef, jax.tree.map(lambda v: v[0], state))
    x = jnp.ones((1, 2, 32))
    np.testing.assert_array_equal(off(x), off(x, key=jax.random.key(0)))
