"""What a trace says, against small models worked out by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from models_governed import FLAGS, governed, shaken
from models_helpers import TINY, gap, make, prompts

from simplex_jax import governance, models

IDS = jnp.asarray([[0, 2, 2, 2, 7, 7, 7, 7, 0], [1, 1, 1, 1, 1, 1, 1, 1, 1]])


def test_entropy_received_and_importance_of_known_weights():
    mask = jnp.tril(jnp.ones((1, 4, 4), bool)).at[0, 3].set(False)
    even = jnp.where(mask, 1 / jnp.arange(1.0, 5)[None, :, None], 0)
    sharp = jnp.zeros((1, 4, 4)).at[0, :3, 0].set(1.0)
    weights = jnp.stack([even, sharp], axis=1)
    entropy = governance.normalised_entropy(weights, mask)
    np.testing.assert_allclose(entropy[0], [[0, 1, 1, 0], [0, 0, 0, 0]], atol=1e-6)
    received = governance.received_attention(weights, mask)
    thirds = [(1 + 1 / 2 + 1 / 3) / 3, (1 / 2 + 1 / 3) / 2, 1 / 3, 0]
    np.testing.assert_allclose(received[0], [thirds, [1, 0, 0, 0]], rtol=1e-6)
    flow = governance.roll_out(weights[:, 1:], jnp.eye(4)[None])
    np.testing.assert_allclose(flow[0, :, 0], [1, 0.5, 0.5, 0])
    found = governance.importance(flow, mask)
    np.testing.assert_allclose(found[0], [2 / 3, 0.25, 0.5, 0], rtol=1e-6)


@pytest.mark.parametrize("length", [pytest.param(1, marks=pytest.mark.slow), 9])
def test_traces_of_governed_models_are_finite_and_in_range(length):
    model = shaken(governed())
    tokens = jnp.asarray(prompts(29, (9, 9))[0])[:, :length]
    found = jax.jit(models.trace)(model, tokens, segment_ids=IDS[:, :length])
    assert set(found.gates) == {"veto", "forget", "write"}
    for leaf in jax.tree.leaves(found):
        assert leaf.min() >= 0 and leaf.max() <= 1 + 1e-6
    padding = np.asarray(IDS[:, :length]) == 0
    for leaf in (found.entropy, found.received):
        assert not np.moveaxis(np.asarray(leaf), 2, -1)[:, padding].any()
    assert not found.importance[padding].any()
    assert (np.asarray(found.importance)[~padding] > 0).all()
    for gate in found.gates.values():
        assert not gate[:, padding].any()
        assert (np.asarray(gate)[:, ~padding] > 0).all()


def test_weights_of_a_plain_model_are_all_given_to_somebody():
    model = make(TINY["qwen3"])
    tokens = jnp.asarray(prompts(29, (9,))[0])
    found = jax.jit(models.trace)(model, tokens)
    assert found.gates == {}
    # Each of the nine queries gives away one, whoever receives it.
    queries = np.arange(9, 0, -1)
    given = np.asarray(found.received[:, 0]) * queries
    np.testing.assert_allclose(given.sum(-1), 9, rtol=1e-5)


def test_a_veto_shows_in_the_gates_and_in_what_is_received():
    model = shaken(governed(FLAGS["policy-veto-none"]))
    tokens = jnp.asarray(prompts(29, (9,))[0])
    trace = jax.jit(models.trace)
    before = trace(model, tokens)
    graphdef, state = nnx.split(model)
    veto = state["layers"]["self_attn"]["governance"]["veto"]
    veto["gate"]["kernel"] = jax.tree.map(lambda x: 40 * x, veto["gate"]["kernel"])
    after = trace(nnx.merge(graphdef, state), tokens)
    gate = np.asarray(after.gates["veto"])[0, 0]
    shut, open_ = gate < 1e-4, gate > 1 - 1e-4
    assert shut.sum() >= 3 and open_.sum() >= 3
    # Heads 0 and 1 read key head 0, heads 2 and 3 read key head 1.
    received = np.asarray(after.received)[0, 0].reshape(2, 2, 9)
    first = np.asarray(before.received)[0, 0].reshape(2, 2, 9)
    for key_head in range(2):
        # A token that is shut out still looks at itself where nothing else is open.
        late = np.flatnonzero(shut[:, key_head])
        late = late[late > np.flatnonzero(open_[:, key_head])[0]]
        assert late.size
        assert received[key_head][:, late].max() < 1e-3
        assert first[key_head][:, late].min() > 1e-3


@pytest.mark.slow
def test_attribution_is_a_derivative_and_stays_in_its_document():
    with jax.enable_x64(True):
        model = shaken(governed(), param_dtype=jnp.float64)
        tokens = jnp.asarray(prompts(29, (9, 9))[0])

        def target(logits):
            return jax.nn.log_softmax(logits)[0, 5, 3]

        found = jax.jit(
            lambda tokens: models.attribution(model, tokens, target, segment_ids=IDS)
        )(tokens)
        depends = np.zeros(IDS.shape, bool)
        depends[0, 4:6] = True
        assert not found[~depends].any()
        assert np.abs(found[depends]).min() > 0
        x = model.embed_tokens(tokens)

        @jax.jit
        def scaled(factor):
            hidden, _ = model.from_embeddings(factor * x, segment_ids=IDS)
            return target(model.logits(hidden))

        slope = (scaled(1 + 1e-5) - scaled(1 - 1e-5)) / 2e-5
        assert abs(slope) > 1e-3
        assert abs(found.sum() - slope) <= 1e-7 * abs(slope)


def test_a_models_own_call_makes_no_square_of_weights():
    """Queries go in groups, and the governance heads add nothing per pair of tokens."""
    length = 128
    config = dataclasses.replace(governed(), max_position_embeddings=length)
    model = shaken(config)
    tokens = jnp.zeros((1, length), jnp.int32)
    # Two heads read each key head.
    shape = (2, length, length)

    def shapes(jaxpr):
        for equation in jaxpr.eqns:
            for value in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
                if _is_jaxpr(value):
                    yield from shapes(getattr(value, "jaxpr", value))
            yield from (v.aval.shape for v in equation.outvars)

    def squares(f):
        long = shapes(jax.make_jaxpr(f)(tokens).jaxpr)
        return [s for s in long if s[-3:] == shape]

    assert not squares(model)
    assert squares(lambda tokens: models.trace(model, tokens))


def _is_jaxpr(x) -> bool:
    return hasattr(x, "eqns") or hasattr(x, "jaxpr")


def test_concepts_learn_to_give_states_back():
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(12, 12)))[0][:8]
    which = rng.integers(0, 8, (4, 100))
    x = jnp.asarray(directions[which] * rng.uniform(1, 3, (4, 100, 1)), jnp.float32)
    real = jnp.ones((4, 100), bool).at[:, 90:].set(False)
    concepts = governance.Concepts(features=12, count=32, top_k=2, rngs=nnx.Rngs(0))
    graphdef, state = nnx.split(concepts)

    @jax.jit
    def loss(state):
        return governance.concept_loss(nnx.merge(graphdef, state), x, real)

    start = loss(state)
    gradient = jax.jit(jax.grad(loss))
    for path, leaf in nnx.to_flat_state(gradient(state)):
        assert np.abs(leaf[...]).max() > 1e-6, path
    for _ in range(200):
        state = jax.tree.map(lambda p, g: p - 0.5 * g, state, gradient(state))
    assert loss(state) <= 0.05 < start
    code = nnx.merge(graphdef, state)(x)
    assert (np.count_nonzero(code, axis=-1) <= 2).all() and (code >= 0).all()


def test_concept_loss_ignores_padding_and_agrees_with_finite_differences():
    with jax.enable_x64(True):
        concepts = governance.Concepts(features=5, count=7, top_k=3, rngs=nnx.Rngs(1))
        x = jax.random.normal(jax.random.key(0), (2, 6, 5), jnp.float64)
        real = jnp.ones((2, 6), bool).at[:, 4:].set(False)

        @jax.jit
        def loss(x):
            return governance.concept_loss(concepts, x, real)

        other = x.at[:, 4:].set(9.0)
        assert gap(loss(x), loss(other)) <= 1e-12
        direction = jax.random.normal(jax.random.key(1), x.shape, jnp.float64)
        forward = jax.jit(lambda x: jax.jvp(loss, (x,), (direction,)))(x)[1]
        reverse = jnp.sum(jax.jit(jax.grad(loss))(x) * direction)
        step = 1e-6 * direction
        numeric = (loss(x + step) - loss(x - step)) / 2e-6
        assert abs(forward - reverse) <= 1e-12
        assert abs(forward - numeric) <= 1e-6 * abs(forward)


@pytest.mark.parametrize("top_k", [0, 8])
def test_concepts_that_cannot_be_chosen_are_named(top_k):
    with pytest.raises(ValueError, match=f"top_k is {top_k}; .* concepts, 7"):
        governance.Concepts(features=5, count=7, top_k=top_k, rngs=nnx.Rngs(0))
