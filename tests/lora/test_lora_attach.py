"""Attaching, detaching, merging: what changes, and what must not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import draws
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from lora_helpers import (
    ATTENTION,
    KINDS,
    MLP,
    adapted,
    assert_same,
    gap,
    layers_of,
    logits,
    make,
    make_square,
    numbers,
    tokens,
)

from simplex_jax import lora, models
from simplex_jax.lora._layer import kernel_of

ALL = lora.LoRAConfig(r=4, lora_alpha=8, target_modules="all-linear")
RAGGED = lora.LoRAConfig(
    r=4,
    lora_alpha=8,
    target_modules=ATTENTION + MLP,
    rank_pattern={r"layers\.0\.self_attn\.q_proj": 7, r"2\..*\.v_proj": 1},
    alpha_pattern={"v_proj": 3, r"model\.layers\.1\.mlp\.up_proj": 0.5},
    use_rslora=True,
)
PARTIAL = lora.LoRAConfig(
    r=3, target_modules=("q_proj", "down_proj"), layers_to_transform=(0, 2)
)
REGEX = lora.LoRAConfig(
    r=2,
    lora_alpha=5,
    target_modules=r".*layers\.[12]\.(mlp|self_attn)\.[a-z]*o[a-z]*_.*",
)
HEAD = lora.LoRAConfig(r=4, target_modules=("lm_head", "k_proj"))
CONFIGS = {
    "all": ALL,
    "ragged": RAGGED,
    "partial": PARTIAL,
    "regex": REGEX,
    "code": lora.LoRAConfig.code(),
}


@pytest.fixture(scope="module")
def bases():
    return {kind: make(kind) for kind in KINDS}


def test_presets_are_those_of_the_founding_documents():
    rows = {
        "simple": (8, 16, 0.05, ATTENTION[:1] + ("v_proj",), False),
        "standard": (16, 32, 0.05, ATTENTION, False),
        "complex": (32, 64, 0.1, ATTENTION + MLP, True),
        "code": (32, 64, 0.05, ATTENTION + MLP, True),
    }
    for name, row in rows.items():
        c = getattr(lora.LoRAConfig, name)()
        found = (c.r, c.lora_alpha, c.lora_dropout, c.target_modules, c.use_rslora)
        assert found == row
        assert c.bias == "none"
    assert lora.LoRAConfig() == lora.LoRAConfig.simple()


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_new_adapters_change_nothing(kind, bases):
    base = bases[kind]
    before = numbers(base)
    model = lora.attach(base, ALL, key=jax.random.key(0))
    np.testing.assert_array_equal(logits(model, tokens()), logits(base, tokens()))
    for name, value in numbers(base).items():
        np.testing.assert_array_equal(value, before[name])
    assert not layers_of(base)
    assert nnx.graphdef(model) == nnx.graphdef(adapted(base, ALL))


def test_the_argument_and_the_result_share_no_variable(bases):
    base = bases["llama"]
    before = numbers(base)
    model = lora.attach(base, ALL, key=jax.random.key(0))
    detached, merged = lora.detach(model), lora.merge(model)
    for other in (model, detached, merged):
        for _, variable in nnx.to_flat_state(nnx.state(other)):
            variable[...] = jnp.zeros_like(variable[...])
    for name, value in numbers(base).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("kind", "name"),
    [("qwen2", "ragged"), ("qwen3", "all"), *(("llama", name) for name in CONFIGS)],
)
def test_merged_logits_equal_those_with_adapters_on(kind, name, bases):
    base = bases[kind]
    model = adapted(base, CONFIGS[name])
    on = logits(model, tokens())
    assert gap(on, logits(base, tokens())) > 1e-2
    merged = lora.merge(model)
    assert gap(logits(merged, tokens()), on) <= 1e-5
    assert nnx.graphdef(merged) == nnx.graphdef(base)
    assert_same(lora.detach(model), base)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_merged_logits_equal_those_with_adapters_on_in_float64(kind):
    with jax.enable_x64(True):
        base = make(kind, jnp.float64)
        model = adapted(base, RAGGED, param_dtype=jnp.float64)
        on = logits(model, tokens())
        assert on.dtype == jnp.float64
        assert gap(on, logits(base, tokens())) > 1e-2
        merged = lora.merge(model)
        assert gap(logits(merged, tokens()), on) <= 1e-11
        assert_same(lora.detach(model), base)


def test_the_head_of_an_untied_model_can_be_adapted(bases):
    base = bases["llama"]
    model = adapted(base, HEAD)
    head = layers_of(model)["lm_head"]
    assert head.lora_a.shape == (32, 4) and head.scale.shape == ()
    on = logits(model, tokens())
    assert gap(logits(lora.merge(model), tokens()), on) <= 1e-5
    only_head = lora.LoRAConfig(target_modules=("lm_head",))
    assert lora.parameter_counts(adapted(base, only_head)).ranks == {"lm_head": 8}
    assert "lm_head" not in layers_of(adapted(base, ALL))


@pytest.mark.parametrize("kind", ["qwen2"])
def test_unmerge_gives_back_base_and_adapters(kind, bases):
    base = bases[kind]
    model = adapted(base, RAGGED)
    merged = lora.merge(model)
    again = lora.unmerge(merged, model)
    assert nnx.graphdef(again) == nnx.graphdef(model)
    assert gap(logits(again, tokens()), logits(merged, tokens())) <= 1e-5
    restored, expected = numbers(lora.detach(again)), numbers(base)
    for name, value in expected.items():
        # Two roundings of numbers below 4.
        assert gap(restored[name], value) <= 2 * 4 * 2**-24, name
    graphdef, adapters, _ = nnx.split(again, nnx.LoRAParam, ...)
    _, originals, _ = nnx.split(model, nnx.LoRAParam, ...)
    jax.tree.map(np.testing.assert_array_equal, adapters, originals)


def test_bfloat16_base_stays_bfloat16_and_is_rounded_once():
    base = make("llama", jnp.bfloat16)
    model = adapted(base, RAGGED)
    merged = lora.merge(model)
    exact = adapted(make("llama"), RAGGED)
    assert layers_of(model)["q_proj"].lora_a.dtype == jnp.float32
    for name, layer in layers_of(model).items():
        kernel = kernel_of(layer.base)[...]
        a, b, s = (
            np.asarray(v[...], np.float64)
            for v in (layer.lora_a, layer.lora_b, layer.scale)
        )
        whole = np.asarray(kernel, np.float64) + s[:, None, None] * (a @ b)
        found = dict(nnx.to_flat_state(nnx.state(merged)))
        value = next(
            v[...] for path, v in found.items() if path[-2:] == (name, "kernel")
        )
        assert value.dtype == jnp.bfloat16
        error = np.abs(np.asarray(value, np.float64) - whole)
        assert np.all(error <= 2.0**-8 * np.abs(whole) + 1e-6)
    on = np.asarray(logits(model, tokens()))
    spread = np.asarray(logits(exact, tokens())).std()
    difference = np.asarray(logits(merged, tokens())) - on
    assert np.sqrt(np.mean(difference**2)) <= 0.03 * spread


def test_what_trains_is_only_the_adapter(bases):
    model = adapted(bases["qwen2"], ALL)
    graphdef, adapters, rest = nnx.split(model, nnx.LoRAParam, ...)
    names = {path[-1] for path, _ in nnx.to_flat_state(adapters)}
    assert names == {"lora_a", "lora_b"}
    _, params, others = nnx.state(model, nnx.LoRAParam, nnx.Param, ...)
    assert {path[-1] for path, _ in nnx.to_flat_state(others)} == {"scale"}
    assert {path[-2] for path, _ in nnx.to_flat_state(others)} == {*ATTENTION, *MLP}
    assert not {p[-1] for p, _ in nnx.to_flat_state(params)} & {"lora_a", "lora_b"}

    def loss(adapters):
        return jnp.mean(nnx.merge(graphdef, adapters, rest)(tokens()) ** 2)

    gradient = jax.grad(loss)(adapters)
    assert jax.tree.structure(gradient) == jax.tree.structure(adapters)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))


def test_variables_carry_the_names_of_their_module(bases):
    layer = layers_of(adapted(bases["llama"], ALL))["q_proj"]
    for variable in (layer.lora_a, layer.lora_b, layer.scale):
        names = variable.get_metadata()
        assert names["hf_name"] == "model.layers.{i}.self_attn.q_proj"
        assert names["gguf_name"] == "blk.{i}.attn_q"
        assert names["rope_heads"] == 4


def test_ranks_and_scales_follow_the_patterns(bases):
    model = adapted(bases["llama"], RAGGED)
    layers = layers_of(model)
    assert layers["q_proj"].ranks == (7, 4, 4)
    assert layers["v_proj"].ranks == (4, 4, 1)
    np.testing.assert_allclose(layers["v_proj"].scale[...], [1.5, 1.5, 3.0], rtol=1e-6)
    np.testing.assert_allclose(layers["up_proj"].scale[...], [4, 0.25, 4], rtol=1e-6)
    assert layers["q_proj"].lora_a.shape == (3, 32, 7)
    partial = layers_of(adapted(bases["llama"], PARTIAL))
    assert set(partial) == {"q_proj", "down_proj"}
    assert partial["q_proj"].ranks == (3, 0, 3)
    assert partial["q_proj"].scale[...][1] == 0
    regex = layers_of(adapted(bases["llama"], REGEX))
    assert set(regex) == {"o_proj", "down_proj"}
    assert regex["o_proj"].ranks == (0, 2, 2)
    excluded = lora.LoRAConfig(
        target_modules="all-linear", exclude_modules=("mlp.up_proj", "lm_head")
    )
    kept = layers_of(adapted(bases["llama"], excluded))
    assert set(kept) == {*ATTENTION, "gate_proj", "down_proj"}


def test_initial_values_have_the_stated_law():
    base = make("llama", hidden_size=128, intermediate_size=128, layers=8)
    config = lora.LoRAConfig(r=16, rank_pattern={r"1\.self_attn\.q_proj": 4})
    a = np.asarray(
        layers_of(lora.attach(base, config, key=jax.random.key(0)))["q_proj"].lora_a[
            ...
        ]
    )
    bound = 128**-0.5
    assert np.abs(a).max() <= bound
    values = a[2:].ravel()
    # 12288 draws: the standard error of the variance's ratio is 0.8 percent.
    assert abs(values.mean()) < 4 * bound / 3**0.5 / values.size**0.5
    assert values.var() == pytest.approx(bound**2 / 3, rel=0.04)
    assert np.all(a[1, :, 4:] == 0) and np.all(a[1, :, :4] != 0)
    gaussian = lora.LoRAConfig(
        r=16, init_lora_weights="gaussian", rank_pattern={r"1\.self_attn\.q_proj": 4}
    )
    layer = layers_of(lora.attach(base, gaussian, key=jax.random.key(0)))["q_proj"]
    a = np.asarray(layer.lora_a[...])
    assert a[2:].std() == pytest.approx(1 / 16, rel=0.03)
    assert a[1, :, :4].std() == pytest.approx(1 / 4, rel=0.15)
    assert np.all(a[1, :, 4:] == 0)
    assert np.all(np.asarray(layer.lora_b[...]) == 0)


def test_a_modules_draw_does_not_depend_on_the_other_targets(bases):
    key = jax.random.key(3)
    few = layers_of(lora.attach(bases["llama"], lora.LoRAConfig(), key=key))
    many = layers_of(
        lora.attach(bases["llama"], lora.LoRAConfig(target_modules=ATTENTION), key=key)
    )
    np.testing.assert_array_equal(few["v_proj"].lora_a[...], many["v_proj"].lora_a[...])
    assert gap(few["v_proj"].lora_a[...], few["q_proj"].lora_a[...]) > 0.01
    a = np.asarray(few["v_proj"].lora_a[...])
    assert gap(a[0], a[1]) > 0.01


@pytest.fixture(scope="module")
def square():
    return make_square()


@draws(25)
@given(
    r=st.integers(1, 4),
    alpha=st.floats(0.1, 20),
    rslora=st.booleans(),
    targets=st.lists(st.sampled_from(ATTENTION + MLP), min_size=1, unique=True),
    index=st.integers(0, 1),
    rank=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_merge_of_attach_equals_adapter_on(
    square, r, alpha, rslora, targets, index, rank, seed
):
    config = lora.LoRAConfig(
        r=r,
        lora_alpha=alpha,
        target_modules=targets,
        use_rslora=rslora,
        rank_pattern={rf"layers\.{index}\..*\.{targets[0]}": rank},
    )
    model = adapted(square, config, seed)
    merged = numbers(lora.merge(model))
    draw = np.random.default_rng(seed).standard_normal((1, 3, 12))
    x = jnp.asarray(draw, jnp.float32)
    assert set(layers_of(model)) == set(targets)
    for name, stack in layers_of(model).items():
        assert stack.ranks[index] == (rank if name == targets[0] else r)
        assert stack.ranks[1 - index] == r
        graphdef, state = nnx.split(stack)
        block = "mlp" if name in MLP else "self_attn"
        for i, kernel in enumerate(merged[f"layers.{block}.{name}.kernel"]):
            layer = nnx.merge(graphdef, jax.tree.map(lambda v, i=i: v[i], state))
            assert gap(layer(x), x @ kernel) <= 5e-6


@pytest.mark.slow
def test_merged_smollm2_equals_adapter_on(smollm2):
    base, _ = smollm2
    model = adapted(base, lora.LoRAConfig.standard(), strength=0.2)
    batch = tokens(2, 32)
    on = logits(model, batch)
    assert gap(on, logits(base, batch)) > 0.1
    assert gap(logits(lora.merge(model), batch), on) <= 5e-4


def test_a_model_with_adapters_is_not_written_as_a_base_model():
    model = lora.attach(make("llama"), ALL, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"lora_a is an adapter.*lora\.merge"):
        models.outside_tensors(model)
    assert models.outside_tensors(lora.merge(model))
