"""Sums of squares of what linear maps are given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from models_helpers import TINY, make

from simplex_jax import models
from simplex_jax.models import _layers

MAPS = "attn_q attn_k attn_v attn_output ffn_gate ffn_up ffn_down".split()


@pytest.mark.parametrize("kind", TINY)
def test_sums_are_those_of_the_inputs(kind, monkeypatch):
    model = make(TINY[kind])
    tokens = texts(2, 9)
    found = jax.jit(models.input_squares)(model, tokens)
    assert set(found) == {f"blk.{{i}}.{name}.weight" for name in MAPS}

    # Layer by layer outside of the scan, with every input written down.
    seen: dict[str, list[np.ndarray]] = {}
    call = _layers.Linear.__call__

    def listen(self, x, *, key=None):
        name = f"{self.kernel.get_metadata()['gguf_name']}.weight"
        squares = np.asarray(x, np.float64).reshape(-1, x.shape[-1]) ** 2
        seen.setdefault(name, []).append(squares.sum(axis=0))
        return call(self, x, key=key)

    monkeypatch.setattr(_layers.Linear, "__call__", listen)
    graphdef = nnx.graphdef(model.layers)
    layers = [nnx.merge(graphdef, state) for state in models.unstack_layers(model)]
    rope, mask = _tables(model, tokens)
    x = model.embed_tokens(tokens)
    for layer in layers:
        x, _ = layer(x, rope, mask)
    for name, sums in found.items():
        np.testing.assert_allclose(sums, np.stack(seen[name]), rtol=2e-5)


def test_rows_are_texts_of_their_own():
    config = TINY["llama"]
    model, tokens = make(config), texts(2, 9)
    both = models.input_squares(model, tokens)
    one, two = (models.input_squares(model, tokens[i : i + 1]) for i in range(2))
    for name, sums in both.items():
        np.testing.assert_allclose(sums, one[name] + two[name], rtol=1e-5)


def test_the_model_is_left_as_it_was():
    model, tokens = make(TINY["qwen3"]), texts(1, 5)
    before = jax.tree.structure(model)
    models.input_squares(model, tokens)
    assert jax.tree.structure(model) == before
    assert jnp.isfinite(model(tokens)).all()


def texts(rows, length):
    draws = np.random.default_rng(0)
    return jnp.asarray(draws.integers(0, TINY["llama"].vocab_size, (rows, length)))


def _tables(model, tokens):
    from simplex_jax.models._decoder import segment_mask, segment_positions
    from simplex_jax.models._rope import rope_tables

    segments = jnp.ones_like(tokens)
    rope = rope_tables(model.config, segment_positions(segments), jnp.float32)
    return rope, segment_mask(segments)
