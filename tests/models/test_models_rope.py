"""Rotary frequencies are those of transformers, and a file's divisors are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models_helpers import ROWS, row_config

from simplex_jax.models import DecoderConfig, RopeScaling
from simplex_jax.models._config import llama3_divisors, llama3_scaling_from_divisors
from simplex_jax.models._rope import apply_rope, rope_frequencies, rope_tables

REAL = {
    "SmolLM2": {"rope_type": "default", "rope_theta": 100000.0},
    "Llama-3.2": {
        "rope_type": "llama3",
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_theta": 500000.0,
    },
    "Llama-2-long": {"rope_type": "linear", "factor": 8.0, "rope_theta": 10000.0},
    "Qwen2.5-yarn": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 32768,
        "rope_theta": 1000000.0,
    },
    "yarn-own-betas": {
        "rope_type": "yarn",
        "factor": 16.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 20.0,
        "beta_slow": 3.0,
        "attention_factor": 1.1,
        "rope_theta": 10000.0,
    },
}
WIDE = {
    name: {**ROWS["llama"], "rope_parameters": rope, "head_dim": 64}
    for name, rope in REAL.items()
}


@pytest.mark.parametrize("name", [*ROWS, *WIDE])
def test_frequencies_and_factor_are_those_of_transformers(name):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    from simplex_jax.models import config_from_hf

    raw = {**ROWS, **WIDE}[name]
    config = transformers.AutoConfig.for_model(**raw)
    other = LlamaRotaryEmbedding(config)
    frequencies, factor = rope_frequencies(config_from_hf(raw))
    assert frequencies.dtype == np.float64
    np.testing.assert_allclose(frequencies, other.inv_freq.numpy(), rtol=2e-6)
    assert factor == pytest.approx(other.attention_scaling, rel=1e-12)


def test_plain_frequencies_are_powers_of_theta():
    frequencies, factor = rope_frequencies(row_config("llama"))
    expected = [10000.0 ** (-d / 8) for d in range(8)]
    np.testing.assert_allclose(frequencies, expected, rtol=1e-14)
    assert factor == 1


def test_llama3_divides_long_wavelengths_only():
    scaling = RopeScaling("llama3", 32.0, 8192)
    divisors = llama3_divisors(scaling, 64, 500000.0)
    assert divisors[0] == 1 and divisors[-1] == 32
    assert divisors == sorted(divisors)
    assert 0 < sum(1 < d < 32 for d in divisors) < 32


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_divisors_of_llama3_are_recognised(factor):
    usual = RopeScaling("llama3", factor, 8192)
    divisors = np.array(llama3_divisors(usual, 64, 500000.0), np.float32).tolist()
    assert llama3_scaling_from_divisors(divisors, 500000.0) == usual


@pytest.mark.parametrize(
    "change",
    [
        {"original_max_position_embeddings": 4096},
        {"low_freq_factor": 1.5},
        {"high_freq_factor": 3.0},
    ],
    ids=str,
)
def test_other_divisors_stay_as_they_are(change):
    other = dataclasses.replace(RopeScaling("llama3", 8.0, 8192), **change)
    divisors = llama3_divisors(other, 64, 500000.0)
    found = llama3_scaling_from_divisors(divisors, 500000.0)
    assert found == RopeScaling("divisors", divisors=tuple(divisors))
    base = row_config("llama-wide-heads")
    base = dataclasses.replace(base, rope_theta=500000.0, head_dim=64)
    left, right = (
        rope_frequencies(dataclasses.replace(base, rope_scaling=s))[0]
        for s in (other, found)
    )
    np.testing.assert_array_equal(left, right)


def test_rotation_keeps_lengths_and_depends_on_distance_only():
    with jax.enable_x64(True):
        config = row_config("qwen3")
        rng = np.random.default_rng(0)
        q, k = (jnp.asarray(rng.normal(size=(1, 1, 1, 32))) for _ in range(2))

        def at(x, position):
            tables = rope_tables(config, jnp.asarray([[position]]), jnp.float64)
            return apply_rope(x, tables)

        near = jnp.sum(at(q, 9) * at(k, 4))
        far = jnp.sum(at(q, 109) * at(k, 104))
        assert abs(near - far) < 1e-12
        assert abs(near - jnp.sum(at(q, 9) * at(k, 5))) > 1e-3
        assert abs(jnp.linalg.norm(at(q, 77)) - jnp.linalg.norm(q)) < 1e-12
        np.testing.assert_array_equal(at(q, 0), q)


def test_divisors_must_be_half_a_head():
    with pytest.raises(ValueError, match="head_dim / 2 = 8 values, got 3"):
        dataclasses.replace(
            row_config("llama"),
            rope_scaling=RopeScaling("divisors", divisors=(1.0, 2.0, 3.0)),
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ntk",), "rope_type 'ntk' is not supported; supported: default, linear"),
        (("linear", 0.5), "factor is 0.5; give at least 1"),
        (("linear", float("nan")), "factor is nan; give at least 1"),
        (("llama3", 8.0), "'llama3' needs original_max_position_embeddings"),
        (("yarn", 8.0), "'yarn' needs original_max_position_embeddings"),
    ],
    ids=str,
)
def test_bad_scaling_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        RopeScaling(*arguments)


def test_configuration_type_is_hashable_so_that_jit_can_key_on_it():
    assert isinstance(hash(row_config("llama-yarn")), int)
    assert isinstance(row_config("llama-yarn"), DecoderConfig)
