"""Masks, packing, positions and derivatives of the decoder."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx
from models_helpers import TINY, gap, logits, make, prompts

from simplex_jax import models
from simplex_jax.models import _generate
from simplex_jax.models._decoder import segment_mask, segment_positions
from simplex_jax.models._layers import attend, attend_causally


@pytest.mark.parametrize("kind", TINY)
def test_packed_documents_equal_rows_of_their_own(kind):
    model = make(TINY[kind])
    tokens, lengths, segments = prompts(29, (9, 4, 6))
    alone = logits(model, tokens, segments)
    packed = np.concatenate([t[:n] for t, n in zip(tokens, lengths, strict=True)])
    ids = np.repeat([5, 2, 7], lengths)
    row = np.concatenate([[0], packed, [0, 0]]).astype(np.int32)[None]
    together = logits(model, row, np.concatenate([[0], ids, [0, 0]])[None])
    at = 1
    for one, length in zip(alone, lengths, strict=True):
        assert gap(together[0, at : at + length], one[:length]) <= 1e-5
        at += length


def test_mask_and_positions_of_a_packed_row():
    ids = jnp.asarray([[0, 3, 3, 1, 1, 1, 0]])
    assert segment_positions(ids).tolist() == [[0, 0, 1, 0, 1, 2, 0]]
    expected = np.zeros((7, 7), bool)
    for query, key in [(1, 1), (2, 1), (2, 2), (3, 3), (4, 3), (4, 4)]:
        expected[query, key] = True
    expected[5, 3:6] = True
    np.testing.assert_array_equal(segment_mask(ids)[0], expected)


def test_later_tokens_do_not_change_earlier_logits():
    model = make(TINY["qwen2"])
    tokens, _, segments = prompts(29, (9,))
    changed = tokens.copy()
    changed[0, 6:] = 3
    before, after = (logits(model, t, segments) for t in (tokens, changed))
    np.testing.assert_array_equal(before[0, :6], after[0, :6])
    assert gap(before[0, 6:], after[0, 6:]) > 0.1


def test_positions_count_from_each_documents_start_unless_given():
    model = make(TINY["llama"])
    tokens, _, _ = prompts(29, (9,))
    counted = jnp.arange(9)[None]
    run = jax.jit(lambda positions: model(jnp.asarray(tokens), positions))
    plain = logits(model, tokens, np.ones_like(tokens))
    assert gap(plain, run(counted)) <= 1e-6
    # Rotary positions are relative: a common shift changes rounding only.
    assert gap(plain, run(counted + 17)) <= 1e-4
    assert gap(plain, run(counted * 2)) > 0.1


def test_ids_outside_the_vocabulary_read_the_nearest_row():
    model = make(TINY["llama"])
    found = model.embed_tokens(
        jnp.asarray([[-5, 0, tiny.VOCAB - 1, tiny.VOCAB, 1000]])
    )[0]
    table = model.embed_tokens.embedding[...]
    np.testing.assert_array_equal(found, table[np.array([0, 0, -1, -1, -1])])


def test_queries_that_may_look_nowhere_give_zeros_and_no_gradient():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        q = jnp.asarray(rng.normal(size=(2, 5, 4, 3)))
        k, v = (jnp.asarray(rng.normal(size=(2, 2, 5, 3))) for _ in range(2))
        mask = jnp.asarray(rng.random((2, 5, 5)) < 0.5)
        mask = mask.at[:, 1].set(False).at[:, 3, 0].set(True)
        out = attend(q, k, v, mask)
        assert not out[:, 1].any()
        assert np.abs(out[:, 3]).min() > 0

        @jax.jit
        def masked(q, k, v):
            return jnp.sum(attend(q, k, v, mask)[:, 1] * 3)

        for gradient in jax.grad(masked, argnums=(0, 1, 2))(q, k, v):
            assert not gradient.any() and jnp.isfinite(gradient).all()
        _, change = jax.jvp(masked, (q, k, v), (q, k, v))
        assert change == 0

        @jax.jit
        def whole(q, k, v):
            return jnp.sum(jnp.sin(attend(q, k, v, mask)))

        _compare_derivatives(whole, (q, k, v), rng)


@pytest.mark.parametrize("length", [1, 64, 65, 150, 600])
def test_causal_attention_in_groups_equals_attention(length):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        q = jnp.asarray(rng.normal(size=(2, length, 4, 3)))
        k, v = (jnp.asarray(rng.normal(size=(2, 2, length, 3))) for _ in range(2))
        ids = np.sort(rng.integers(0, 4, (2, length)), axis=1)[:, ::-1]
        mask = segment_mask(jnp.asarray(ids))

        def both(f):
            def total(q, k, v):
                return jnp.sum(jnp.sin(f(q, k, v, mask)))

            gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(q, k, v)
            forward = jax.jit(lambda *x: jax.jvp(total, x, x))(q, k, v)
            return [f(q, k, v, mask), *gradient, *forward]

        for ours, plain in zip(both(attend_causally), both(attend), strict=True):
            np.testing.assert_allclose(ours, plain, rtol=1e-10, atol=1e-12)


def test_attention_equals_one_head_at_a_time():
    rng = np.random.default_rng(0)
    q = rng.normal(size=(2, 5, 6, 4)).astype(np.float32)
    k, v = (rng.normal(size=(2, 3, 7, 4)).astype(np.float32) for _ in range(2))
    mask = rng.random((2, 5, 7)) < 0.6
    mask[:, :, 0] = True
    found = attend(*map(jnp.asarray, (q, k, v, mask)))
    for head in range(6):
        scores = np.einsum("bth,bsh->bts", q[:, :, head], k[:, head // 2]) / 2
        weights = np.where(mask, np.exp(scores), 0)
        weights /= weights.sum(-1, keepdims=True)
        expected = np.einsum("bts,bsh->bth", weights, v[:, head // 2])
        assert gap(found[:, :, head], expected) <= 1e-5


def test_attention_survives_huge_scores():
    q = jnp.full((1, 2, 1, 2), 1e18)
    mask = jnp.ones((1, 2, 2), bool)
    values = jnp.asarray([[[[1.0, 2.0], [3.0, 4.0]]]])
    out = attend(q, jnp.full((1, 1, 2, 2), 1e18), values, mask)
    np.testing.assert_allclose(out[0, :, 0], [[2, 3], [2, 3]], rtol=1e-6)


def _compare_derivatives(function, point, rng):
    """Require jvp, vjp and central differences to agree in a random direction."""
    direction = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), point)
    _, forward = jax.jvp(function, point, direction)
    gradient = jax.grad(lambda p: function(*p))(point)
    products = jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, direction)
    reverse = sum(jax.tree.leaves(products))
    step = 1e-5

    def moved(sign):
        return function(
            *jax.tree.map(lambda x, d: x + sign * step * d, point, direction)
        )

    numeric = (moved(1) - moved(-1)) / (2 * step)
    assert abs(forward) > 1e-3
    assert abs(forward - reverse) <= 1e-12 * abs(forward)
    assert abs(forward - numeric) <= 1e-6 * abs(forward)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


_SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("kind", "remat"),
    [
        ("qwen3", "projections"),
        pytest.param("qwen3", "none", marks=_SLOW),
        pytest.param("qwen3", "full", marks=_SLOW),
        pytest.param("llama", "projections", marks=_SLOW),
        pytest.param("qwen2", "full", marks=_SLOW),
    ],
)
def test_jvp_vjp_and_finite_differences_of_the_loss_agree(kind, remat):
    with jax.enable_x64(True):
        model = make(TINY[kind], param_dtype=jnp.float64, remat=remat)
        tokens, _, segments = prompts(29, (7, 4))
        graphdef, state = nnx.split(model)
        targets = jnp.asarray(np.roll(tokens, -1, axis=1))
        counted = jnp.asarray(segments[:, 1:])

        @jax.jit
        def loss(state):
            rows = nnx.merge(graphdef, state)(
                jnp.asarray(tokens), segment_ids=jnp.asarray(segments)
            )
            logprobs = jax.nn.log_softmax(rows[:, :-1])
            chosen = jnp.take_along_axis(logprobs, targets[:, :-1, None], axis=-1)
            return -jnp.sum(chosen[..., 0] * counted) / jnp.sum(counted)

        _compare_derivatives(loss, (state,), np.random.default_rng(1))


def test_padding_sends_no_gradient_to_its_tokens():
    tokens = jnp.asarray([[4, 5, 6, 20, 21]])
    segments = jnp.asarray([[1, 1, 1, 0, 0]])
    head = make(dataclasses.replace(TINY["llama"], tie_word_embeddings=False))
    graphdef, state = nnx.split(head)

    @jax.jit
    def total(state):
        rows = nnx.merge(graphdef, state)(tokens, segment_ids=segments)
        return jnp.sum(rows[:, :3] ** 2)

    gradient = jax.grad(total)(state)["embed_tokens"]["embedding"][...]
    assert np.abs(gradient[4:7]).max(axis=1).min() > 0
    assert not gradient[20:22].any()


def test_unknown_remat_policy_is_named():
    with pytest.raises(
        ValueError, match="remat is 'some'; give one of none, projections, full"
    ):
        models.Decoder(TINY["llama"], remat="some", rngs=nnx.Rngs(0))


def test_models_of_one_configuration_share_compiled_code():
    traces = []

    @jax.jit
    def run(model, tokens):
        traces.append(tokens.shape)
        return model(tokens)

    tokens = jnp.asarray(prompts(29, (9,))[0])
    first = run(make(TINY["qwen3"], seed=0), tokens)
    second = run(make(TINY["qwen3"], seed=1), tokens)
    assert len(traces) == 1
    assert gap(first, second) > 0.1


def test_prompts_of_other_lengths_share_compiled_code():
    model = make(TINY["qwen3"])
    compiled = []
    for length in (9, 14, 3):
        tokens, _, _ = prompts(29, (length,))
        models.generate(model, tokens, max_new_tokens=5)
        functions: Any = (_generate._prefill, _generate._decode)
        compiled.append([f._cache_size() for f in functions])
    assert compiled[0] == compiled[1] == compiled[2]


def test_vmap_and_jit_equal_plain_calls():
    model = make(TINY["llama"])
    tokens = jnp.asarray(prompts(29, (6, 6, 6, 6))[0]).reshape(2, 2, 6)
    plain = jnp.stack([logits(model, rows, np.ones_like(rows)) for rows in tokens])
    assert gap(model(tokens[0]), plain[0]) <= 1e-5
    assert gap(jax.jit(jax.vmap(model))(tokens), plain) <= 1e-5
