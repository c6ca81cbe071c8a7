"""The loss is the masked cross-entropy, however it is cut up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from simplex_jax import data, lora, models, train

VOCAB = tiny.VOCAB


def make(dtype=jnp.float32, seed=0, **changes) -> models.Decoder:
    return tiny.decoder(tiny.config("qwen3", **changes), seed, param_dtype=dtype)


def sequences(count=7, seed=0):
    draw = np.random.default_rng(seed)
    for _ in range(count):
        size = int(draw.integers(4, 15))
        ids = draw.integers(0, VOCAB, size).tolist()
        yield ids, [0] * (size // 2) + [1] * (size - size // 2)


def batch_of(max_segments=None, rows=3, length=32):
    packed = data.pack(
        sequences(),
        batch_size=rows,
        length=length,
        epochs=1,
        shuffle=False,
        max_segments=max_segments,
    )
    batches = list(packed)
    assert len(batches) == 1
    return {name: jnp.asarray(array) for name, array in batches[0].items()}


def plain(model, batch):
    logits = model(batch["tokens"], batch["positions"], batch["segment_ids"])
    logprobs = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(logprobs, batch["targets"][..., None], axis=2)[..., 0]
    return -jnp.sum(chosen * batch["loss_mask"]), jnp.sum(batch["loss_mask"])


@pytest.mark.parametrize("chunk_tokens", [1, 7, 32, 96, 512])
def test_equals_cross_entropy_of_all_logits(chunk_tokens):
    model, batch = make(), batch_of()
    total, count = train.nll(model, batch, chunk_tokens=chunk_tokens)
    expected, expected_count = plain(model, batch)
    assert count == expected_count
    np.testing.assert_allclose(total, expected, rtol=1e-6)


@pytest.mark.slow
def test_gradients_equal_those_of_all_logits():
    with jax.enable_x64(True):
        model, batch = make(jnp.float64), batch_of()
        ours = jax.grad(lambda m: train.nll(m, batch, chunk_tokens=16)[0])(model)
        theirs = jax.grad(lambda m: plain(m, batch)[0])(model)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
def test_jvp_vjp_and_finite_differences_agree():
    with jax.enable_x64(True):
        model, batch = make(jnp.float64), batch_of()
        leaves = jax.tree.leaves(model)
        keys = jax.random.split(jax.random.key(1), len(leaves))
        direction = jax.tree.unflatten(
            jax.tree.structure(model),
            [
                jax.random.normal(k, x.shape, x.dtype)
                for k, x in zip(keys, leaves, strict=True)
            ],
        )

        norm = jnp.sqrt(sum(jnp.vdot(x, x) for x in jax.tree.leaves(direction)))
        direction = jax.tree.map(lambda x: x / norm, direction)

        def loss(model):
            total, count = train.nll(model, batch, chunk_tokens=16)
            return total / count

        def moved(step):
            return loss(jax.tree.map(lambda x, d: x + step * d, model, direction))

        _, forward = jax.jvp(loss, (model,), (direction,))
        products = jax.tree.map(jnp.vdot, jax.grad(loss)(model), direction)
        reverse = sum(jax.tree.leaves(products))
        step = 1e-5
        np.testing.assert_allclose(forward, reverse, rtol=1e-11)
        central = (moved(step) - moved(-step)) / (2 * step)
        np.testing.assert_allclose(forward, central, rtol=1e-6)


def test_packed_equals_unpacked():
    model = make()
    packed, count = train.nll(model, batch_of())
    apart, same_count = train.nll(model, batch_of(max_segments=1, rows=7))
    assert count == same_count
    np.testing.assert_allclose(packed, apart, rtol=1e-6)


def test_weights_scale_their_tokens():
    model, batch = make(), batch_of()
    total, count = train.nll(model, batch)
    heavy = batch | {"loss_mask": 2.5 * batch["loss_mask"]}
    np.testing.assert_allclose(
        train.nll(model, heavy), (2.5 * total, 2.5 * count), rtol=1e-6
    )


def test_without_targets_loss_and_gradient_are_zero():
    model, batch = make(), batch_of()
    empty = batch | {"loss_mask": jnp.zeros_like(batch["loss_mask"])}
    (total, count), gradient = jax.value_and_grad(
        lambda m: train.nll(m, empty), has_aux=True
    )(model)
    assert total == 0 and count == 0
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient))


def test_no_array_of_all_logits_exists():
    vocab = 8192
    model, batch = make(vocab_size=vocab), batch_of(rows=8)

    def scratch_bytes(loss):
        # The last hidden states alone: an embedding's gradient is as large as a table.
        def of_norm(norm):
            return loss(nnx.merge(graphdef, norm, rest))

        graphdef, norm, rest = nnx.split(model, nnx.PathContains("norm"), ...)
        compiled = jax.jit(jax.grad(of_norm)).lower(norm).compile()
        analysis = compiled.memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    chunked = scratch_bytes(lambda m: train.nll(m, batch, chunk_tokens=8)[0])
    whole = scratch_bytes(lambda m: plain(m, batch)[0])
    all_logits = batch["tokens"].size * vocab * 4
    assert whole > all_logits
    assert chunked < all_logits / 2


def test_adapters_learn_and_the_base_is_left_out():
    config = lora.LoRAConfig(r=2, target_modules="all-linear")
    model = lora.attach(make(), config, key=jax.random.key(0))
    batch = batch_of()
    graphdef, adapters, rest = nnx.split(model, nnx.LoRAParam, ...)

    @jax.jit
    def step(adapters, key):
        def loss(adapters):
            total, count = train.nll(
                nnx.merge(graphdef, adapters, rest), batch, key=key
            )
            return total / count

        value, gradient = jax.value_and_grad(loss)(adapters)
        return value, jax.tree.map(lambda p, g: p - 0.3 * g, adapters, gradient)

    losses = []
    for key in jax.random.split(jax.random.key(1), 12):
        value, adapters = step(adapters, key)
        losses.append(float(value))
    assert losses[-1] < losses[0] - 0.5


def test_bad_batches_are_named():
    model, batch = make(), batch_of()
    with pytest.raises(ValueError, match="lacks loss_mask"):
        train.nll(model, {k: v for k, v in batch.items() if k != "loss_mask"})
    with pytest.raises(ValueError, match="shapes must be equal"):
        train.nll(model, batch | {"targets": batch["targets"][:, :-1]})
    with pytest.raises(ValueError, match="chunk_tokens is 0; give at least 1"):
        train.nll(model, batch, chunk_tokens=0)


@pytest.mark.parametrize(
    ("tied", "vocab"),
    # One block of the vocabulary, three of them, and no blocks.
    [(True, VOCAB), (True, 3 * 1600), (False, VOCAB)],
)
def test_gradients_of_adapters_alone_equal_those_of_all_logits(tied, vocab):
    with jax.enable_x64(True):
        base = make(jnp.float64, vocab_size=vocab, tie_word_embeddings=tied)
        chosen = lora.LoRAConfig(r=2, target_modules="all-linear")
        model = lora.attach(
            base, chosen, key=jax.random.key(0), param_dtype=jnp.float64
        )
        graphdef, adapters, frozen = nnx.split(model, nnx.LoRAParam, ...)
        adapters = jax.tree.map(lambda x: x + 0.1, adapters)
        batch = batch_of()

        def ours(adapters):
            found = nnx.merge(graphdef, adapters, frozen)
            return train.nll(found, batch, chunk_tokens=16)[0]

        def theirs(adapters):
            return plain(nnx.merge(graphdef, adapters, frozen), batch)[0]

        # By reverse mode, and by forward mode over it.
        ones = jax.tree.map(jnp.ones_like, adapters)
        for a, b in zip(
            jax.tree.leaves(jax.jvp(jax.grad(ours), (adapters,), (ones,))),
            jax.tree.leaves(jax.jvp(jax.grad(theirs), (adapters,), (ones,))),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)
        forward = jax.jvp(ours, (adapters,), (ones,))[1]
        np.testing.assert_allclose(forward, jax.jvp(theirs, (adapters,), (ones,))[1])


def test_weights_are_differentiated_too():
    model, batch = make(), batch_of()

    def loss(weights):
        return train.nll(model, {**batch, "loss_mask": weights}, chunk_tokens=16)[0]

    ours = jax.grad(loss)(batch["loss_mask"])
    theirs = jax.grad(lambda w: plain(model, {**batch, "loss_mask": w})[0])
    seen = np.asarray(batch["loss_mask"]) > 0
    expected = np.asarray(theirs(batch["loss_mask"]))
    np.testing.assert_allclose(np.asarray(ours)[seen], expected[seen], rtol=1e-5)
