"""Decoding with a cache computes what the whole row computes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models_helpers import TINY, gap, logits, make, prompts

from simplex_jax import models
from simplex_jax.models import Decoder
from simplex_jax.models._cache import extend

LENGTHS = (11, 5, 8)


def by_cache(
    model: Decoder, tokens, real, *, chunk: int, single: int, unstacked: bool, slots=16
):
    """Return logits (B, T, V): chunks first, then ``single`` tokens one by one."""
    layers = models.unstack_layers(model) if unstacked else None
    step = jax.jit(extend)
    cache = models.empty_cache(model, tokens.shape[0], slots)
    width = tokens.shape[1]
    cuts = [*range(0, width - single, chunk), *range(width - single, width), width]
    parts = []
    for start, end in zip(cuts[:-1], cuts[1:], strict=True):
        part = slice(start, end)
        hidden, cache = step(model, tokens[:, part], real[:, part], cache, layers)
        parts.append(model.logits(hidden))
    return jnp.concatenate(parts, axis=1), cache


WAYS = {
    "whole": (11, 0, False),
    "chunks-scan": (4, 0, False),
    "chunks-unstacked": (4, 0, True),
    "chunks-then-tokens-unstacked": (3, 5, True),
}


@pytest.mark.parametrize(
    ("kind", "way", "bits"),
    [("qwen3", way, bits) for way in WAYS for bits in (32, 64)]
    + [
        (kind, way, 64)
        for kind in ("llama", "qwen2")
        for way in ("chunks-scan", "chunks-then-tokens-unstacked")
    ],
)
def test_cached_logits_equal_those_of_whole_rows(kind, way, bits):
    chunk, single, unstacked = WAYS[way]
    with jax.enable_x64(bits == 64):
        dtype = jnp.float64 if bits == 64 else jnp.float32
        model = make(TINY[kind], param_dtype=dtype)
        tokens, lengths, segments = prompts(29, LENGTHS)
        real = segments == 1
        tokens, mask = jnp.asarray(tokens), jnp.asarray(real)
        whole = logits(model, tokens, jnp.asarray(segments))
        assert whole.dtype == dtype
        cached, cache = by_cache(
            model, tokens, mask, chunk=chunk, single=single, unstacked=unstacked
        )
        assert cached.dtype == dtype
        # The spread of the logits is 2: these are a few units in the last place.
        assert gap(cached, whole, real) <= (1e-11 if bits == 64 else 1e-5)
        assert cache.lengths.tolist() == list(lengths)
        assert int(cache.used) == max(lengths)
        np.testing.assert_array_equal(cache.filled[:, : real.shape[1]], real)


def test_rows_of_unequal_length_go_on_without_a_gap():
    model = make(TINY["qwen3"])
    tokens, lengths, segments = prompts(29, LENGTHS)
    more, _, _ = prompts(29, (6, 6, 6), seed=1)
    both = jnp.concatenate([tokens, more], axis=1)
    real = jnp.concatenate([segments == 1, np.ones_like(more) == 1], axis=1)
    cached, _ = by_cache(
        model, both, real, chunk=11, single=6, unstacked=True, slots=17
    )
    for row, length in enumerate(lengths):
        alone = np.concatenate([tokens[row, :length], more[row]])[None]
        whole = logits(model, alone, np.ones_like(alone))
        assert gap(cached[row, 11:], whole[0, length:]) <= 1e-5


def test_slots_beyond_the_tokens_change_nothing():
    model = make(TINY["llama"])
    tokens, _, segments = prompts(29, LENGTHS)
    results = [
        by_cache(
            model,
            tokens,
            segments == 1,
            chunk=11,
            single=0,
            unstacked=False,
            slots=slots,
        )[0]
        for slots in (11, 64)
    ]
    assert gap(results[0], results[1], segments == 1) <= 1e-5


def test_unstacked_layers_are_the_layers():
    model = make(TINY["qwen2"])
    layers = models.unstack_layers(model)
    assert len(layers) == TINY["qwen2"].num_hidden_layers
    stacked = jax.tree.leaves(models.unstack_layers(model)[0])
    assert len(stacked) == 12
    for index, layer in enumerate(layers):
        kernel = layer["self_attn"]["q_proj"]["kernel"][...]
        expected = model.layers.self_attn.q_proj.kernel[...][index]
        np.testing.assert_array_equal(kernel, expected)


def test_cache_holds_the_type_and_heads_of_the_model():
    config = dataclasses.replace(TINY["qwen3"], num_hidden_layers=3)
    cache = models.empty_cache(make(config, param_dtype=jnp.bfloat16), 2, 7)
    assert len(cache.layers) == 3
    for layer in cache.layers:
        for part in (layer.keys, layer.values):
            assert part is not None and part.size == 2 * 2 * 7 * 16
            assert part.dtype == jnp.bfloat16
    assert not cache.filled.any()


@pytest.mark.slow
@pytest.mark.parametrize(
    "unstacked",
    [
        pytest.param(False, marks=pytest.mark.nightly, id="scan"),
        pytest.param(True, id="unstacked"),
    ],
)
def test_smollm2_cached_logits_equal_those_of_whole_rows(smollm2, unstacked):
    model, tokenizer = smollm2
    texts = ["The cat sat on the mat, and then it", "Rain: 1, 2, 3", "A"]
    rows = [tokenizer.encode(text) for text in texts]
    tokens, _, segments = prompts(lengths=tuple(map(len, rows)))
    for row, ids in enumerate(rows):
        tokens[row, : len(ids)] = ids
    whole = logits(model, tokens, segments)
    cached, _ = by_cache(
        model, tokens, segments == 1, chunk=4, single=3, unstacked=unstacked
    )
    # SmolLM2 in float32 is itself 1e-4 away from float64.
    assert gap(cached, whole, segments == 1) <= 5e-4
