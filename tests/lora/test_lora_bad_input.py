"""Clear errors: the argument, the value received, the fix."""

from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import pytest
from flax import nnx
from lora_helpers import adapted, layers_of, make

from simplex_jax import lora
from simplex_jax.lora._layer import kernel_of

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def base():
    return make("llama", layers=2)


@pytest.fixture
def unchecked():
    """Let wrong types reach the library, as they do outside of these tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"r": 0}, "r is 0; give a whole number of at least 1"),
    ({"r": 2.5}, "r is 2.5; give a whole number of at least 1"),
    ({"r": True}, "r is True; give a whole number"),
    ({"lora_alpha": 0}, "lora_alpha is 0; give a finite number above 0"),
    ({"lora_alpha": float("nan")}, "lora_alpha is nan; give a finite number"),
    ({"lora_alpha": "16"}, "lora_alpha is '16'; give a finite number above 0"),
    ({"lora_dropout": 1.0}, r"lora_dropout is 1.0; give a number in \[0, 1\)"),
    ({"lora_dropout": -0.1}, "lora_dropout"),
    ({"target_modules": ()}, "target_modules is empty"),
    ({"target_modules": ("",)}, r"target_modules\[0\] is ''; give a string"),
    ({"target_modules": (3,)}, r"target_modules\[0\] is 3; give a string"),
    ({"target_modules": 3}, "target_modules is 3; give a tuple"),
    ({"target_modules": "(q_proj"}, "target_modules: .* is not a regular expression"),
    ({"exclude_modules": "["}, "exclude_modules: .* is not a regular expression"),
    ({"layers_to_transform": (-1,)}, r"layers_to_transform is \(-1,\); give indices"),
    ({"layers_to_transform": ()}, "layers_to_transform is empty"),
    ({"layers_to_transform": "01"}, "layers_to_transform is '01'; give indices"),
    (
        {"layers_to_transform": (0,), "target_modules": ".*q_proj"},
        "layers_to_transform works with target_modules as a tuple",
    ),
    ({"rank_pattern": {"q_proj": 0}}, r"rank_pattern\['q_proj'\] is 0; give a whole"),
    ({"rank_pattern": {"(": 1}}, "rank_pattern: .* is not a regular expression"),
    ({"rank_pattern": [1]}, r"rank_pattern is \[1\]; give a mapping"),
    (
        {"alpha_pattern": {"q_proj": -1}},
        r"alpha_pattern\['q_proj'\] is -1; give a finite",
    ),
    ({"use_rslora": 1}, "use_rslora is 1; give True or False"),
    (
        {"init_lora_weights": "pissa"},
        "init_lora_weights is 'pissa'; give True or 'gaussian'",
    ),
    ({"init_lora_weights": False}, "init_lora_weights"),
    ({"bias": "lora_only"}, "bias is 'lora_only'; give 'none'"),
]


@pytest.mark.parametrize(("fields", "message"), FIELDS)
def test_fields_are_checked(fields, message, unchecked):
    with pytest.raises(ValueError, match=message):
        lora.LoRAConfig(**fields)


def test_lists_and_sets_become_tuples(unchecked):
    fields: dict[str, Any] = {
        "target_modules": {"v_proj", "q_proj"},
        "exclude_modules": [],
        "layers_to_transform": 1,
    }
    config = lora.LoRAConfig(**fields)
    assert config.target_modules == ("q_proj", "v_proj")
    assert config.exclude_modules is None
    assert config.layers_to_transform == (1,)
    pattern = {"q_proj": 3}
    config = lora.LoRAConfig(rank_pattern=pattern)
    twin = lora.LoRAConfig(rank_pattern=dict(pattern))
    assert config == twin and hash(config) == hash(twin)
    pattern["q_proj"] = 5
    assert config.rank_pattern == {"q_proj": 3}


TARGETS: list[tuple[dict[str, Any], str]] = [
    ({"target_modules": ("query",)}, "'query' matches no module; available: "),
    ({"target_modules": ("q_proj", "vproj")}, r"'vproj' \(nearest: v_proj"),
    ({"target_modules": ("q_prj",)}, "available: .*q_proj, .*'all-linear'"),
    ({"target_modules": "q_proj"}, "regular expression for the whole name"),
    ({"target_modules": ("embed_tokens",)}, r"means model\.embed_tokens, which is no"),
    ({"target_modules": "model.embed_tokens"}, r"means model\.embed_tokens"),
    ({"target_modules": ("q_proj", "norm")}, r"means model\.norm"),
    ({"target_modules": ("self_attn",)}, r"means model\.layers\.0\.self_attn"),
    ({"target_modules": ".*"}, "which is no linear layer"),
    ({"exclude_modules": ".*proj"}, "leaves nothing to adapt"),
    ({"layers_to_transform": (0, 2)}, r"names \[2\], but the model has layers 0 to 1"),
    ({"rank_pattern": {"k_proj": 2}}, "rank_pattern: 'k_proj' matches none"),
    ({"alpha_pattern": {r"7\..*": 2}}, "alpha_pattern: .* matches none"),
]


@pytest.mark.parametrize(("fields", "message"), TARGETS)
def test_targets_that_mean_nothing_are_refused(fields, message, base):
    with pytest.raises(ValueError, match=message):
        lora.attach(base, lora.LoRAConfig(**fields), key=KEY)


def test_the_head_of_a_tied_model_is_refused_by_name():
    tied = make("qwen3", layers=2)
    config = lora.LoRAConfig(target_modules=("q_proj", "lm_head"))
    with pytest.raises(ValueError, match="'lm_head'.* is its embedding"):
        lora.attach(tied, config, key=KEY)


def test_models_that_do_not_fit_the_call(base):
    model = adapted(base, lora.LoRAConfig())
    with pytest.raises(ValueError, match="adapters already"):
        lora.attach(model, lora.LoRAConfig(), key=KEY)
    for call in (lora.detach, lora.merge):
        with pytest.raises(ValueError, match="no adapters"):
            call(base)
    with pytest.raises(ValueError, match="no adapters"):
        lora.unmerge(base, base)
    with pytest.raises(ValueError, match="merged has adapters itself"):
        lora.unmerge(model, model)
    with pytest.raises(ValueError, match="does not fit"):
        lora.unmerge(make("llama", layers=3), model)
    with pytest.raises(ValueError, match="does not fit model: it has no"):
        lora.unmerge(base.layers, model)
    with pytest.raises(ValueError, match="param_dtype is .*int32.*; give a floating"):
        lora.attach(base, lora.LoRAConfig(), key=KEY, param_dtype=jnp.int32)
    with pytest.raises(ValueError, match="no linear layer with an hf_name"):
        lora.attach(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), lora.LoRAConfig(), key=KEY)


def test_merge_names_what_is_not_finite(base):
    def fresh(dtype=jnp.float32):
        model = base if dtype == jnp.float32 else make("llama", dtype, layers=2)
        return adapted(model, lora.LoRAConfig())

    model = fresh()
    layer = layers_of(model)["v_proj"]
    layer.lora_b[...] = layer.lora_b[...].at[1, 0, 0].set(jnp.nan)
    with pytest.raises(FloatingPointError) as error:
        lora.merge(model)
    assert "model.layers.1.self_attn.v_proj: the adapter" in str(error.value)
    assert "layers.0" not in str(error.value)
    model = fresh()
    kernel = kernel_of(layers_of(model)["q_proj"].base)
    kernel[...] = kernel[...].at[0, 0, 0].set(jnp.inf)
    with pytest.raises(FloatingPointError, match=r"0\.self_attn\.q_proj: the base"):
        lora.merge(model)
    model = fresh(jnp.float16)
    layer = layers_of(model)["q_proj"]
    layer.scale[...] = layer.scale[...] * 1e7
    with pytest.raises(FloatingPointError, match="overflows"):
        lora.merge(model)
