"""Sampling against a plain NumPy reference, and the laws of its draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import draws
from hypothesis import given
from hypothesis import strategies as st

from simplex_jax.models import Sampling
from simplex_jax.models._sample import choose, keep

VOCAB = 12


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def reference_kept(row, sampling: Sampling) -> np.ndarray:
    """Return which tokens stay, one filter after the other."""
    kept = np.ones(len(row), bool)
    order = np.argsort(-row, kind="stable")
    if sampling.top_k:
        kept[order[sampling.top_k :]] = False
    if sampling.top_p < 1:
        probabilities = softmax(np.where(kept, row, -np.inf))
        total = 0.0
        for token in order:
            if total >= sampling.top_p:
                kept[token] = False
            total += probabilities[token]
    if sampling.min_p:
        kept &= row >= row.max() + np.log(sampling.min_p)
    return kept


# Steps of 1/8 without ties; cumulative sums then stay clear of the thresholds.
rows = st.permutations(range(VOCAB)).map(lambda p: np.array(p, np.float32) / 8 - 0.5)
samplings = st.builds(
    Sampling,
    top_k=st.integers(0, VOCAB + 2),
    top_p=st.sampled_from([0.013, 0.31, 0.777, 0.95, 1.0]),
    min_p=st.sampled_from([0.0, 0.03, 0.31, 0.93, 1.0]),
)


@given(st.lists(rows, min_size=2, max_size=2), samplings)
@draws(60)
def test_filters_keep_what_the_reference_keeps(two, sampling):
    found = np.asarray(keep(jnp.asarray(np.stack(two)), sampling))
    for row, kept in zip(two, found, strict=True):
        np.testing.assert_array_equal(np.isfinite(kept), reference_kept(row, sampling))
        finite = np.isfinite(kept)
        np.testing.assert_array_equal(kept[finite], row[finite])
        assert finite[row.argmax()]


def test_ties_at_the_edge_of_top_k_all_stay():
    row = jnp.asarray([[2.0, 1.0, 1.0, 0.0]])
    kept = jnp.isfinite(keep(row, Sampling(top_k=2)))
    assert kept.tolist() == [[True, True, True, False]]


@given(
    rows,
    st.sets(st.integers(0, VOCAB - 1)),
    st.sampled_from([0.5, 1.0, 1.25, 3.0]),
)
@draws(40)
def test_greedy_choice_follows_the_repetition_penalty(row, seen, penalty):
    expected = row.copy()
    for token in seen:
        shrink = expected[token] > 0
        expected[token] *= 1 / penalty if shrink else penalty
    mask = np.zeros((1, VOCAB), bool)
    mask[0, list(seen)] = True
    token = choose(
        jnp.asarray(row)[None],
        jnp.asarray(mask),
        jax.random.key(0),
        jnp.int32(0),
        Sampling(repetition_penalty=penalty),
    )
    # Two penalised logits may end up equal to the last bit.
    assert expected[int(token[0])] >= expected.max() - 1e-6


def sampled(logits, count: int, sampling: Sampling, seed: int = 0):
    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(_draw(logits, keys, sampling))


@functools.partial(jax.jit, static_argnames="sampling")
def _draw(logits, keys, sampling):
    seen = jnp.zeros((logits.shape[0], 0), bool)
    return jax.vmap(lambda key: choose(logits, seen, key, jnp.int32(3), sampling))(keys)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0),
        Sampling(temperature=0.6),
        Sampling(temperature=1.8, top_k=5),
        Sampling(temperature=1.0, top_p=0.8),
        Sampling(temperature=1.0, min_p=0.4),
    ],
    ids=str,
)
def test_frequencies_match_the_probabilities(sampling):
    logits = np.random.default_rng(1).normal(size=(2, 8)).astype(np.float32)
    count = 20_000
    found = sampled(jnp.asarray(logits), count, sampling)
    for row in range(2):
        warm = logits[row] / sampling.temperature
        kept = reference_kept(warm, sampling)
        expected = count * softmax(np.where(kept, warm, -np.inf))
        seen = np.bincount(found[:, row], minlength=8)
        assert not seen[~kept].any()
        statistic = ((seen - expected)[kept] ** 2 / expected[kept]).sum()
        # The 0.9999 quantile of chi-square is below 31 for 8 - 1 degrees of freedom.
        assert statistic < 31


def test_draws_of_one_row_do_not_depend_on_its_neighbours():
    logits = jnp.asarray(np.random.default_rng(2).normal(size=(3, 8)), jnp.float32)
    sampling = Sampling(temperature=1.0)
    together = sampled(logits, 50, sampling)
    other = sampled(logits.at[1:].set(0.0), 50, sampling)
    np.testing.assert_array_equal(together[:, 0], other[:, 0])
    np.testing.assert_array_equal(together[:, :1], sampled(logits[:1], 50, sampling))


def test_rows_and_steps_draw_independently():
    logits = jnp.zeros((2, 2))
    found = sampled(logits, 4000, Sampling(temperature=1.0))
    agreement = np.mean(found[:, 0] == found[:, 1])
    # Four standard deviations of a fair coin's mean over 4000 throws.
    assert abs(agreement - 0.5) < 4 * 0.5 / 4000**0.5
    seen = jnp.zeros((2, 0), bool)
    steps = [
        choose(logits, seen, jax.random.key(0), jnp.int32(t), Sampling(temperature=1.0))
        for t in range(64)
    ]
    assert len({tuple(s.tolist()) for s in steps}) == 4


def test_small_temperature_is_the_greedy_choice():
    logits = jnp.asarray(np.random.default_rng(3).normal(size=(4, 9)), jnp.float32)
    cold = sampled(logits, 100, Sampling(temperature=1e-4))
    np.testing.assert_array_equal(cold, np.broadcast_to(logits.argmax(1), (100, 4)))


def test_top_one_is_the_greedy_choice_at_every_temperature():
    logits = jnp.asarray(np.random.default_rng(4).normal(size=(4, 9)), jnp.float32)
    for sampling in (
        Sampling(temperature=5.0, top_k=1),
        Sampling(temperature=5.0, top_p=1e-6),
        Sampling(temperature=5.0, min_p=1.0),
    ):
        found = sampled(logits, 50, sampling)
        np.testing.assert_array_equal(found, np.broadcast_to(logits.argmax(1), (50, 4)))
