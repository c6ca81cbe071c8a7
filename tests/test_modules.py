"""What holds for every module: it is a pytree, and a pure function of its numbers.

Both passes run it, so that modules work as Flax has had them and as plain pytrees.
"""

import importlib
import pkgutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

import simplex_jax
from simplex_jax import circuits, governance, lora, models, neural
from simplex_jax.circuits import _circuit
from simplex_jax.governance import _dense
from simplex_jax.models import _decoder, _governance, _layers, _rope

CONFIG = tiny.config(
    "qwen3", num_hidden_layers=1, governance=models.GovernanceConfig(policy_rank=2)
)
ROWS, LENGTH = 2, 5
NAMES: dict[str, Any] = {"hf_name": "x", "gguf_name": "x"}
REAL = jnp.asarray([[1, 1, 1, 1, 1], [0, 1, 1, 1, 0]], bool)
FRESH = jnp.asarray([[1, 0, 0, 1, 0], [0, 1, 0, 0, 0]], bool)
TOKENS = jnp.asarray([[1, 2, 3, 4, 5], [0, 7, 8, 9, 0]], jnp.int32)


def stream(x, width=tiny.WIDTH):
    """Return rows (B, T, width) that depend on one array (B, T, WIDTH)."""
    return x[..., :width]


def block_inputs(x):
    positions = jnp.broadcast_to(jnp.arange(LENGTH), (ROWS, LENGTH))
    rope = _rope.rope_tables(CONFIG, positions, x.dtype)
    causal = jnp.tril(jnp.ones((LENGTH, LENGTH), bool))
    marks = _governance.Marks(REAL, FRESH)
    return rope, jnp.broadcast_to(causal, (ROWS, LENGTH, LENGTH)), marks


def through_block(module, x):
    rope, mask, marks = block_inputs(x)
    return module(x, rope, mask, marks=marks)[0]


def widened(module, x):
    q = x.reshape(ROWS, LENGTH, 4, 8)
    marks = block_inputs(x)[2]
    return module.widen(x, q, q[:, :, :2], marks), module.gates(x)


class Case(NamedTuple):
    """How a module is built from Rngs, and what it computes from x (B, T, WIDTH)."""

    build: Any
    run: Any = lambda module, x: module(x)


def linear(rngs):
    return _layers.Linear(
        tiny.WIDTH, 8, use_bias=True, param_dtype=jnp.float32, rngs=rngs, **NAMES
    )


def common(rngs) -> dict[str, Any]:
    return {"param_dtype": jnp.float32, "rngs": rngs}


def adapted(rngs):
    config = lora.LoRAConfig(r=2, target_modules=["q_proj"])
    model = models.Decoder(CONFIG, rngs=rngs)
    model = lora.attach(model, config, key=jax.random.key(0))
    (layer,) = [m for _, m in nnx.iter_modules(model) if isinstance(m, lora.LoRALinear)]
    # One layer of the stack.
    return jax.tree.map(lambda leaf: leaf[0], layer)


CASES: dict[str, Case] = {
    "Linear": Case(linear),
    "RMSNorm": Case(
        lambda rngs: _layers.RMSNorm(tiny.WIDTH, 1e-5, param_dtype=jnp.float32, **NAMES)
    ),
    "Attention": Case(lambda r: _layers.Attention(CONFIG, **common(r)), through_block),
    "MLP": Case(lambda r: _layers.MLP(CONFIG, **common(r))),
    "DecoderLayer": Case(
        lambda r: _layers.DecoderLayer(CONFIG, **common(r)), through_block
    ),
    "Embedding": Case(
        lambda r: _decoder.Embedding(CONFIG, **common(r)), lambda m, x: m(TOKENS) * x
    ),
    "Decoder": Case(
        lambda r: models.Decoder(CONFIG, rngs=r),
        lambda m, x: m.from_embeddings(x, segment_ids=REAL.astype(jnp.int32))[0],
    ),
    "Head": Case(lambda r: _decoder.Head(linear(r)), lambda m, x: m.logits(x)),
    "Governance": Case(lambda r: _governance.Governance(CONFIG, **common(r)), widened),
    "LoRALinear": Case(adapted),
    "Policy": Case(lambda r: governance.Policy(tiny.WIDTH, 4, 2, 3, rngs=r)),
    "Veto": Case(lambda r: governance.Veto(tiny.WIDTH, 2, rngs=r)),
    "Forget": Case(
        lambda r: governance.Forget(tiny.WIDTH, 2, rngs=r),
        lambda m, x: m(x, REAL, FRESH),
    ),
    "DeltaMemory": Case(
        lambda r: governance.DeltaMemory(tiny.WIDTH, 2, 3, rngs=r),
        lambda m, x: m(x, REAL, FRESH),
    ),
    "Dense": Case(lambda r: _dense.Dense(tiny.WIDTH, 3, bias=0.0, **common(r))),
    "Concepts": Case(
        lambda r: governance.Concepts(features=tiny.WIDTH, count=9, top_k=3, rngs=r)
    ),
    "DualGate": Case(lambda r: neural.DualGate(0.3, 0.7)),
    "Router": Case(
        lambda r: neural.Router(in_features=tiny.WIDTH, experts=5, top_k=2, rngs=r),
        lambda m, x: m(x, mode=neural.Mode.SOFT).weights,
    ),
    "TemperatureAttention": Case(
        lambda r: neural.TemperatureAttention(
            neural.AttentionConfig(hidden_size=tiny.WIDTH, num_attention_heads=4),
            rngs=r,
        ),
        lambda m, x: m(x, causal=True),
    ),
    "LogicLayer": Case(
        lambda r: _circuit.LogicLayer(signals=6, near=6, gates=4, fan_in=3, rngs=r),
        lambda m, x: m(jax.nn.sigmoid(stream(x, 6)[0].T), neural.Mode.SOFT, 1.0),
    ),
    "LogicCircuit": Case(
        lambda r: circuits.LogicCircuit(6, (5, 2), fan_in=3, rngs=r),
        lambda m, x: m(jax.nn.sigmoid(stream(x, 6)[0])),
    ),
}


def modules_of_the_package():
    found = set()
    for info in pkgutil.walk_packages(simplex_jax.__path__, "simplex_jax."):
        if info.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, type) and issubclass(value, nnx.Module):
                found.add(value)
    return {c for c in found if c.__module__.startswith("simplex_jax")}


def test_every_module_is_in_the_list():
    assert {c.__name__ for c in modules_of_the_package()} == set(CASES)


def built(name, seed=0):
    """Return a module in float64 whose numbers all lie off what they start at."""
    module = CASES[name].build(nnx.Rngs(seed))
    rng = np.random.default_rng(seed)

    def moved(leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return jnp.asarray(np.asarray(leaf) + 0.3 * rng.normal(size=leaf.shape))

    return jax.tree.map(moved, module)


@pytest.mark.parametrize("name", CASES)
def test_it_is_a_pytree_and_a_pure_function_of_its_numbers(name):
    with jax.enable_x64(True):
        module, other = built(name), built(name, seed=1)
        rng = np.random.default_rng(2)
        x = jnp.asarray(rng.normal(size=(ROWS, LENGTH, tiny.WIDTH)))
        leaves, structure = jax.tree.flatten(module)
        assert type(jax.tree.unflatten(structure, leaves)) is type(module)
        assert structure == jax.tree.structure(other)
        kept = [np.array(leaf) for leaf in leaves]

        def draw(leaf):
            return jnp.asarray(rng.normal(size=leaf.shape))

        run = CASES[name].run
        weights = jax.tree.map(draw, jax.eval_shape(run, module, x))
        moves = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]
        numbers = [leaf for leaf, m in zip(leaves, moves, strict=True) if m]
        direction = (list(map(draw, numbers)), draw(x))

        def total(numbers, x):
            left = iter(numbers)
            mixed = [
                next(left) if m else leaf for leaf, m in zip(leaves, moves, strict=True)
            ]
            found = run(jax.tree.unflatten(structure, mixed), x)
            products = jax.tree.map(lambda w, y: jnp.sum(w * y), weights, found)
            return sum(jax.tree.leaves(products))

        @jax.jit
        def everything(module, other, x):
            both = jax.tree.map(lambda a, b: jnp.stack([a, b]), module, other)
            return {
                "plain": run(module, x),
                "merged": run(nnx.merge(*nnx.split(module)), x),
                "mapped": jax.vmap(run, in_axes=(0, None))(both, x),
                "each": (run(module, x), run(other, x)),
                "forward": jax.jvp(total, (numbers, x), direction)[1],
                "reverse": jax.grad(total, argnums=(0, 1))(numbers, x),
            }

        found = everything(module, other, x)
        for a, b in zip(
            jax.tree.leaves(found["plain"]),
            jax.tree.leaves(found["merged"]),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
        each = jax.tree.map(lambda *two: jnp.stack(two), *found["each"])
        for a, b in zip(
            jax.tree.leaves(found["mapped"]), jax.tree.leaves(each), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
        products = jax.tree.map(lambda g, d: np.vdot(g, d), found["reverse"], direction)
        reverse = sum(jax.tree.leaves(products))
        assert abs(found["forward"]) > 1e-6
        assert abs(found["forward"] - reverse) <= 1e-9 * abs(reverse)
        # It has changed nothing of what it was given.
        for before, after in zip(kept, jax.tree.leaves(module), strict=True):
            np.testing.assert_array_equal(before, after)
