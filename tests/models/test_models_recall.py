"""A carried memory answers by key what its window no longer shows."""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

from simplex_jax import models
from simplex_jax.models import GovernanceConfig

pytestmark = pytest.mark.optimized

_KEYS = _VALUES = 8


def told_and_asked(key, rows: int):
    """Return four pairs a row, and the same in another order."""
    keys = jax.vmap(lambda k: jax.random.permutation(k, _KEYS)[:4])
    told = keys(jax.random.split(key, rows))
    values = _KEYS + jax.random.randint(jax.random.fold_in(key, 1), (rows, 4), 0, 8)
    pairs = jnp.stack([told, values], axis=-1)
    asked = jax.random.permutation(jax.random.fold_in(key, 2), pairs, axis=1)
    return pairs.reshape(rows, 8), asked.reshape(rows, 8)


def recalled(model, key, *, carried: bool):
    """Return NLL and share of hits of the values in the second window."""
    told, asked = told_and_asked(key, 64)
    memory = models.empty_memory(model, 64)
    _, after = model.from_embeddings(model.embed_tokens(told), memory=memory)
    memory = after if carried else memory
    hidden, _ = model.from_embeddings(model.embed_tokens(asked), memory=memory)
    logits, values = model.logits(hidden)[:, ::2], asked[:, 1::2]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, values)
    return jnp.mean(losses), jnp.mean(jnp.argmax(logits, axis=-1) == values)


@pytest.mark.slow
def test_a_memory_learns_to_recall_by_key_beyond_its_window():
    config = models.DecoderConfig(
        model_type="llama",
        vocab_size=_KEYS + _VALUES,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        governance=GovernanceConfig(policy=False, veto_gate=False, memory="delta"),
    )
    graphdef, state = nnx.split(models.Decoder(config, rngs=nnx.Rngs(0)))
    optimizer = optax.adam(1e-2)

    @jax.jit
    def learn(state, keys):
        def step(carry, key):
            state, opt_state = carry

            def loss(state):
                return recalled(nnx.merge(graphdef, state), key, carried=True)[0]

            value, gradient = jax.value_and_grad(loss)(state)
            updates, opt_state = optimizer.update(gradient, opt_state)
            return (optax.apply_updates(state, updates), opt_state), value

        (state, _), values = jax.lax.scan(step, (state, optimizer.init(state)), keys)
        return state, values

    state, values = learn(state, jax.random.split(jax.random.key(0), 150))
    model = nnx.merge(graphdef, state)
    held_out = jax.random.key(1)
    _, hits = recalled(model, held_out, carried=True)
    _, guessed = recalled(model, held_out, carried=False)
    assert values[0] > 2.5
    assert hits >= 0.98
    assert guessed <= 0.4
