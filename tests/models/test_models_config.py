"""Configurations of transformers 4 and 5, and what is refused."""

import copy
import dataclasses

import pytest
from models_helpers import ROWS, TINY, row_config

from simplex_jax.models import (
    DecoderConfig,
    RopeScaling,
    config_from_hf,
    config_to_hf,
)


def older(raw):
    """Say the same in transformers 4's words."""
    raw = copy.deepcopy(raw)
    rope = raw.pop("rope_parameters")
    raw["rope_theta"] = rope.pop("rope_theta")
    raw["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    return raw


@pytest.mark.parametrize("name", ROWS)
def test_older_and_newer_files_say_the_same(name):
    assert config_from_hf(older(ROWS[name])) == config_from_hf(ROWS[name])


def test_oldest_files_spell_rope_type_as_type():
    raw = older(ROWS["llama-linear"])
    raw["rope_scaling"] = {"type": "linear", "factor": 3.3}
    assert config_from_hf(raw) == row_config("llama-linear")


@pytest.mark.parametrize("name", ROWS)
def test_configuration_survives_transformers(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = row_config(name)
    first = transformers.AutoConfig.for_model(**config_to_hf(config))
    first.save_pretrained(tmp_path)
    again = transformers.AutoConfig.from_pretrained(tmp_path)
    assert config_from_hf(again.to_dict()) == config


@pytest.mark.parametrize("name", ROWS)
def test_configuration_survives_its_own_file_in_both_spellings(name):
    raw = config_to_hf(row_config(name))
    assert config_from_hf(raw) == row_config(name)
    del raw["rope_parameters"]
    assert config_from_hf(raw) == row_config(name)


def test_everything_unsupported_is_named_at_once():
    raw = {
        **ROWS["llama"],
        "attention_bias": True,
        "mlp_bias": True,
        "hidden_act": "gelu",
        "use_sliding_window": True,
        "partial_rotary_factor": 0.5,
        "rope_parameters": {
            "rope_type": "longrope",
            "mscale": 1.0,
            "truncate": False,
        },
    }
    del raw["intermediate_size"]
    with pytest.raises(ValueError) as caught:
        config_from_hf(raw)
    for part in (
        "attention_bias=true",
        "mlp_bias=true",
        "hidden_act='gelu'",
        "use_sliding_window=true",
        "partial_rotary_factor",
        "rope_type='longrope'",
        "mscale",
        "truncate=false",
        "missing key 'intermediate_size'",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("kind", ["gpt2", None, ["llama"]])
def test_unknown_model_type_is_named(kind):
    with pytest.raises(ValueError, match="model_type .* is not supported; .*qwen3"):
        config_from_hf({**ROWS["llama"], "model_type": kind})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": "many"}, "vocab_size='many'"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers=2.5"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps='small'"),
        ({"rope_parameters": "yarn"}, "rope_parameters='yarn'"),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": "x"}},
            "factor='x'",
        ),
        ({"max_position_embeddings": None}, "max_position_embeddings=None"),
    ],
    ids=str,
)
def test_value_of_the_wrong_kind_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        config_from_hf({**ROWS["llama"], **change})


def test_defaults_are_those_of_transformers():
    raw = {k: v for k, v in ROWS["qwen3"].items() if k != "head_dim"}
    assert config_from_hf(raw).head_dim == 128
    raw = {k: v for k, v in ROWS["llama"].items() if k != "num_key_value_heads"}
    assert config_from_hf(raw).num_key_value_heads == 4
    raw = {**ROWS["llama-yarn"], "rope_parameters": dict(rope_type="yarn", factor=2.0)}
    scaling = config_from_hf(raw).rope_scaling
    assert scaling is not None and scaling.original_max_position_embeddings == 128


def test_bare_divisors_have_no_name_in_transformers():
    scaling = RopeScaling("divisors", divisors=(1.0,) * 4)
    config = dataclasses.replace(TINY["llama"], rope_scaling=scaling)
    with pytest.raises(ValueError, match="HF has no such rope_type"):
        config_to_hf(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2' is not supported"),
        ({"vocab_size": 0}, "vocab_size is 0; give at least 1"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0; give at least 1"),
        ({"num_key_value_heads": 3}, r"heads is 4; give a multiple .* 3"),
        ({"num_attention_heads": 6}, r"hidden_size is 32; give a multiple"),
        ({"head_dim": 5}, "head_dim is 5; give an even number"),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_are_named(change, message):
    base = {
        field.name: getattr(TINY["llama"], field.name)
        for field in dataclasses.fields(DecoderConfig)
    }
    with pytest.raises(ValueError, match=message):
        DecoderConfig(**{**base, "head_dim": None, **change})
