"""The governance heads alone: formulas, derivatives, and the delta rule's chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from simplex_jax import governance
from simplex_jax.governance import _delta

HEADS = {
    "policy": lambda **options: governance.Policy(6, 4, 2, 3, **options),
    "veto": lambda **options: governance.Veto(6, 2, **options),
    "forget": lambda **options: governance.Forget(6, 2, **options),
    "memory": lambda **options: governance.DeltaMemory(6, 2, 3, **options),
}
_SLOW = pytest.mark.slow
REAL = jnp.asarray([[True] * 7, [True] * 5 + [False] * 2])
FRESH = jnp.zeros((2, 7), bool).at[0, 3].set(True).at[:, 0].set(True)


def shaken(module, seed: int = 0):
    """Return a module whose parameters all lie off what they start at."""
    rng = np.random.default_rng(seed)
    graphdef, state = nnx.split(module)
    moved = jax.tree.map(
        lambda x: x + 0.4 * jnp.asarray(rng.normal(size=x.shape), x.dtype), state
    )
    return nnx.merge(graphdef, moved)


def outputs(head, x):
    """Return all that a head gives for the stream x."""
    match head:
        case governance.Forget():
            return head(x, REAL, FRESH, jnp.full((2, 2), -1.5, x.dtype))
        case governance.DeltaMemory():
            return head(x, REAL, FRESH)
        case _:
            return head(x)


@pytest.mark.parametrize(
    "name",
    ["memory", *(pytest.param(n, marks=_SLOW) for n in ("policy", "veto", "forget"))],
)
def test_jvp_vjp_and_finite_differences_agree(name):
    with jax.enable_x64(True):
        head = shaken(HEADS[name](param_dtype=jnp.float64, rngs=nnx.Rngs(0)))
        rng = np.random.default_rng(1)
        graphdef, state = nnx.split(head)
        point = (state, jnp.asarray(rng.normal(size=(2, 7, 6))))

        def draw(x):
            return jnp.asarray(rng.normal(size=x.shape))

        shapes = jax.eval_shape(lambda: outputs(head, point[1]))
        weights = jax.tree.map(draw, shapes)

        @jax.jit
        def total(state, x):
            found = outputs(nnx.merge(graphdef, state), x)
            products = jax.tree.map(lambda w, y: jnp.sum(w * y), weights, found)
            return sum(jax.tree.leaves(products))

        direction = jax.tree.map(draw, point)
        forward = jax.jit(lambda *p: jax.jvp(total, p, direction))(*point)[1]
        gradient = jax.jit(jax.grad(total, argnums=(0, 1)))(*point)
        products = jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, direction)
        reverse = sum(jax.tree.leaves(products))

        def moved(step):
            return total(*jax.tree.map(lambda x, d: x + step * d, point, direction))

        numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5
        assert abs(forward) > 1e-3
        assert abs(forward - reverse) <= 1e-11 * abs(forward)
        assert abs(forward - numeric) <= 1e-6 * abs(forward)
        for path, leaf in nnx.to_flat_state(gradient[0]):
            assert np.abs(leaf[...]).max() > 1e-6, path


@pytest.mark.parametrize("name", HEADS)
def test_heads_start_without_an_effect(name):
    head = HEADS[name](rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 7, 6))
    added = jax.tree.leaves(jax.jit(lambda x: outputs(head, x))(x))[0]
    if name == "policy":
        u, w = head(x)
        added = jnp.einsum("btknr,bskr->btkns", u.reshape(2, 7, 2, 2, 3), w)
    assert not added.any()


def test_policy_is_a_bilinear_form_of_rank_r():
    policy = shaken(HEADS["policy"](rngs=nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(0), (1, 20, 6))
    u, w = policy(x)
    u_kernel = np.asarray(policy.query.kernel[...]).reshape(6, 4, 3)
    w_kernel = np.asarray(policy.key.kernel[...]).reshape(6, 2, 3)
    for head in range(4):
        form = u_kernel[:, head] @ w_kernel[:, head // 2].T / 3**0.5
        form = form * np.asarray(policy.scale[...])[head]
        expected = np.asarray(x[0]) @ form @ np.asarray(x[0]).T
        found = np.asarray(u[0, :, head] @ w[0, :, head // 2].T)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert np.linalg.matrix_rank(found, tol=1e-3) == 3


def test_a_vetos_gate_multiplies_a_keys_weight():
    veto = shaken(HEADS["veto"](rngs=nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(0), (1, 9, 6))
    scores = jax.random.normal(jax.random.key(1), (9,))
    biased = jax.nn.softmax(scores + veto(x)[0, :, 1])
    gated = jnp.exp(scores) * veto.gate_prob(x)[0, :, 1]
    np.testing.assert_allclose(biased, gated / gated.sum(), rtol=1e-5)


def test_forgetting_sums_logarithms_and_goes_on_after_padding():
    forget = shaken(HEADS["forget"](rngs=nnx.Rngs(0)))
    run = jax.jit(forget)
    x = jax.random.normal(jax.random.key(0), (2, 7, 6))
    none = jnp.zeros_like(FRESH)
    bias, past = run(x, REAL, none)
    logs = np.where(np.asarray(REAL)[..., None], np.log(forget.gate_prob(x)), 0)
    expected = -np.asarray(forget.scale[...]) * np.cumsum(logs, axis=1)
    np.testing.assert_allclose(bias, expected, rtol=1e-5)
    np.testing.assert_allclose(past, logs.sum(axis=1), rtol=1e-5)
    first, middle = run(x[:, :3], REAL[:, :3], none[:, :3])
    second, last = run(x[:, 3:], REAL[:, 3:], none[:, 3:], middle)
    both = np.concatenate([first, second], axis=1)
    np.testing.assert_allclose(both, bias, rtol=1e-5)
    np.testing.assert_allclose(last, past, rtol=1e-5)


def test_forgetting_begins_anew_with_each_document():
    forget = shaken(HEADS["forget"](rngs=nnx.Rngs(0)))
    run = jax.jit(forget)
    x = jax.random.normal(jax.random.key(0), (2, 7, 6))
    past = jnp.full((2, 2), -9.0)
    bias, last = run(x, REAL, FRESH, past)
    alone, end = run(x[:1, 3:], REAL[:1, 3:], FRESH[:1, 3:], past[:1])
    np.testing.assert_allclose(bias[:1, 3:], alone, rtol=1e-6)
    np.testing.assert_allclose(last[:1], end, rtol=1e-6)


def token_by_token(q, k, v, log_decay, write, fresh, state):
    """Run the delta rule as its formula stands."""
    out = np.zeros((*q.shape[:3], v.shape[-1]))
    state = state.copy()
    for b, t, head in np.ndindex(q.shape[:3]):
        matrix = np.zeros_like(state[b, head]) if fresh[b, t] else state[b, head]
        matrix = np.exp(log_decay[b, t, head]) * matrix
        error = v[b, t, head] - k[b, t, head] @ matrix
        matrix = matrix + write[b, t, head] * np.outer(k[b, t, head], error)
        out[b, t, head] = q[b, t, head] @ matrix
        state[b, head] = matrix
    return out, state


@pytest.mark.parametrize(
    "length", [1, 65, *(pytest.param(n, marks=_SLOW) for n in (7, 64, 150))]
)
def test_delta_rule_in_chunks_equals_token_by_token(length):
    with jax.enable_x64(True):
        rng = np.random.default_rng(length)
        shape = (2, length, 2)
        q, k = (rng.normal(size=(*shape, 5)) for _ in range(2))
        k /= np.linalg.norm(k, axis=-1, keepdims=True)
        v, state = rng.normal(size=(*shape, 3)), rng.normal(size=(2, 2, 5, 3))
        log_decay = -rng.exponential(0.3, shape)
        write, fresh = rng.random(shape), rng.random((2, length)) < 0.05
        given = (q, k, v, log_decay, write, fresh, state)
        found = jax.jit(governance.delta_rule)(*map(jnp.asarray, given))
        for ours, plain in zip(found, token_by_token(*given), strict=True):
            np.testing.assert_allclose(ours, plain, rtol=0, atol=1e-11)


def test_delta_rule_survives_equal_keys_and_hard_gates():
    """The system is all ones: its inverse is small, but powers of it are not."""
    length = _delta._CHUNK
    k = jnp.zeros((1, length, 1, 4)).at[..., 0].set(1.0)
    v = jax.random.normal(jax.random.key(0), (1, length, 1, 4))
    zeros, ones = jnp.zeros((1, length, 1)), jnp.ones((1, length, 1))
    fresh, state = jnp.zeros((1, length), bool), jnp.zeros((1, 1, 4, 4))
    rule = jax.jit(governance.delta_rule)
    out, _ = rule(k, k, v, zeros, ones, fresh, state)
    np.testing.assert_allclose(out, v, atol=1e-5)
    out, state = rule(k, k, v, zeros - 200, ones, fresh, state)
    np.testing.assert_allclose(out, v, atol=1e-5)
    np.testing.assert_allclose(state[0, 0, 0], v[0, -1, 0], atol=1e-5)


def test_a_memory_is_read_where_it_was_written_and_only_in_its_document():
    rng = np.random.default_rng(0)
    keys = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    values = rng.normal(size=(8, 3))
    k = jnp.asarray(np.concatenate([keys, keys]), jnp.float32)[None, :, None]
    v = jnp.asarray(np.concatenate([values, 0 * values]), jnp.float32)[None, :, None]
    write = jnp.asarray([1.0] * 8 + [0.0] * 8)[None, :, None]
    fresh = jnp.zeros((1, 16), bool)
    state = jnp.zeros((1, 1, 8, 3))
    rule = jax.jit(governance.delta_rule)
    read, _ = rule(k, k, v, 0 * write, write, fresh, state)
    np.testing.assert_allclose(read[0, 8:, 0], values, atol=1e-5)
    begins = fresh.at[0, 12].set(True)
    other, _ = rule(k, k, v, 0 * write, write, begins, state)
    np.testing.assert_allclose(other[0, 8:12, 0], values[:4], atol=1e-5)
    assert not other[0, 12:].any()


def test_padding_reads_zeros_and_writes_nothing():
    memory = shaken(HEADS["memory"](rngs=nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(0), (2, 7, 6))
    run = jax.jit(memory)
    out, state = run(x, REAL, FRESH)
    assert not out[1, 5:].any()
    short, same = run(x[:, :5], REAL[:, :5], FRESH[:, :5])
    np.testing.assert_allclose(out[1, :5], short[1], atol=1e-6)
    for whole, cut in zip(state, same, strict=True):
        np.testing.assert_allclose(whole[1], cut[1], atol=1e-6)


def unit(rows):
    return rows / np.sqrt(np.sum(rows * rows, axis=-1, keepdims=True) + 1e-6)


def test_a_value_is_written_under_a_mix_of_its_token_and_the_one_before():
    """The token before may lie behind padding or in an earlier call, but in no other
    document."""
    memory = shaken(HEADS["memory"](rngs=nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(0), (1, 6, 6))
    real = jnp.asarray([[True, False, True, True, True, True]])
    fresh = jnp.zeros((1, 6), bool).at[0, 4].set(True)
    carried = governance.DeltaState(jnp.zeros((1, 2, 3, 3)), jnp.full((1, 2, 3), 0.7))
    maps = np.asarray(memory.key(x))[0].reshape(6, 2, 3)
    zero = np.zeros((2, 3))
    ahead = np.stack([np.full((2, 3), 0.7), zero, maps[0], maps[2], zero, maps[4]])
    now, before = (
        np.asarray(scale[...]).reshape(2, 3) for scale in (memory.now, memory.before)
    )
    parts = {
        "q": unit(np.asarray(memory.query(x))[0].reshape(6, 2, 3)),
        "k": unit(now * maps + before * ahead),
        "v": np.asarray(memory.value(x))[0].reshape(6, 2, 3),
        "log_decay": np.log(jax.nn.sigmoid(memory.decay(x)))[0] * real[0, :, None],
        "write": np.asarray(memory.write_prob(x))[0] * real[0, :, None],
    }
    parts = {name: np.asarray(part)[None] for name, part in parts.items()}
    read, matrix = token_by_token(**parts, fresh=fresh, state=np.zeros((1, 2, 3, 3)))
    read = jnp.asarray(read.reshape(1, 6, 6) * np.asarray(memory.gate[...]))
    found, state = memory(x, real, fresh, carried)
    expected = np.where(real[..., None], memory.output(read), 0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(state.matrix, matrix, atol=1e-5)
    np.testing.assert_allclose(state.key[0], maps[5], atol=1e-6)


def test_an_untrained_memory_reads_what_followed_a_token():
    memory = governance.DeltaMemory(32, 1, 32, rngs=nnx.Rngs(0))
    memory.gate[...] = jnp.ones_like(memory.gate[...])
    tokens = jax.random.normal(jax.random.key(0), (8, 32))
    order = jnp.asarray([0, 1, 2, 3, 4, 5, 6, 7, 2])
    x = tokens[order][None]
    real = jnp.ones((1, 9), bool)
    read, _ = memory(x, real, jnp.zeros((1, 9), bool).at[:, 0].set(True))
    images = memory.output(memory.value(tokens[None]))[0]
    # Other keys are not quite orthogonal, so what else was written shines through.
    cosines = unit(np.asarray(read)[0, -1]) @ unit(np.asarray(images)).T
    assert cosines.argmax() == 3
    assert cosines[3] > 0.8


def test_the_last_entry_before_a_token_is_found_behind_padding():
    x = jnp.asarray([[1, 2, 3, 4], [5, 6, 7, 8]])
    real = jnp.asarray([[False, True, False, True], [True, False, False, False]])
    found = governance.last_real(x, real, jnp.asarray([9, 0]))
    assert found.tolist() == [[9, 9, 2, 2, 4], [0, 5, 5, 5, 5]]


@pytest.mark.parametrize("size", [1, 2, 5, 32])
def test_the_inverse_of_a_unit_triangle_is_that(size):
    with jax.enable_x64(True):
        x = jax.random.uniform(jax.random.key(size), (3, size, size), minval=-0.5)
        found = _delta.unit_lower_inverse(x)
        one = jnp.broadcast_to(jnp.eye(size), x.shape)
        np.testing.assert_allclose((jnp.tril(x, -1) + one) @ found, one, atol=1e-10)


PUBLIC = {
    "Concepts",
    "DeltaMemory",
    "DeltaState",
    "Forget",
    "Policy",
    "Veto",
    "concept_loss",
    "delta_rule",
    "importance",
    "last_real",
    "normalised_entropy",
    "received_attention",
    "roll_out",
}


def test_every_public_name_is_in_the_list():
    public = {n for n in vars(governance) if not n.startswith("_")} - {"jaxtyping"}
    assert public == PUBLIC
