"""GGUF files of models: what is written is what is read, and bad files are named."""

import dataclasses
import os

import jax.numpy as jnp
import numpy as np
import pytest
from models_helpers import (
    GGUF_ROWS,
    TINY,
    assert_same_parameters,
    make,
    parameters,
    row_config,
    small_tokenizer,
)

from simplex_jax import gguf, models
from simplex_jax.models import RopeScaling
from simplex_jax.models._outside import interleave, uninterleave


def rewrite(source, target, metadata=None, tensors=None):
    """Copy a GGUF file with metadata and tensors changed; None drops an entry."""
    with gguf.open(source) as file:
        keys = {**file.metadata, **(metadata or {})}
        arrays = {name: tensor.dequantize() for name, tensor in file.tensors.items()}
    arrays |= tensors or {}
    sources = [
        gguf.TensorSource(name, a.shape, gguf.GGMLType.F32, lambda a=a: a)
        for name, a in arrays.items()
        if a is not None
    ]
    gguf.write(target, {k: v for k, v in keys.items() if v is not None}, sources)


@pytest.fixture(scope="module")
def plain(tokenizer, tmp_path_factory):
    """A small llama with an untied head, as a float32 file."""
    path = tmp_path_factory.mktemp("plain") / "plain.gguf"
    models.save_gguf(make(row_config("llama")), tokenizer, path, "f32")
    return path


@pytest.mark.parametrize("name", GGUF_ROWS)
def test_float32_file_gives_back_every_number_and_the_configuration(
    name, tokenizer, tmp_path
):
    model = make(row_config(name))
    models.save_gguf(model, tokenizer, tmp_path / "a.gguf", "f32", name="twice")
    loaded, loaded_tokenizer = models.load_gguf(tmp_path / "a.gguf")
    assert_same_parameters(loaded, model)
    assert loaded_tokenizer.tokens == tokenizer.tokens
    expected = model.config
    if name == "llama3-short":
        # The file holds divisors; a trained context of 32 is not Llama 3's.
        found = loaded.config.rope_scaling
        assert found is not None and found.rope_type == "divisors"
        assert dataclasses.replace(loaded.config, rope_scaling=None) == (
            dataclasses.replace(expected, rope_scaling=None)
        )
    else:
        assert loaded.config == expected
    models.save_gguf(loaded, loaded_tokenizer, tmp_path / "b.gguf", "f32", name="twice")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


# Half a step of the mantissa, or of a block whose largest number is the scale's.
@pytest.mark.parametrize(
    ("file_type", "relative"),
    [("f16", 2**-11), ("bf16", 2**-8), ("q8_0", 0.51 / 127 + 2**-11), ("q4_0", 0.126)],
)
@pytest.mark.parametrize("name", ["llama", "qwen2-tied", "qwen3"])
def test_smaller_files_stay_within_their_codec_error(
    name, file_type, relative, tokenizer, tmp_path
):
    model = make(row_config(name))
    models.save_gguf(model, tokenizer, tmp_path / "m.gguf", file_type)
    loaded, _ = models.load(tmp_path / "m.gguf")
    assert loaded.config == model.config
    before, after = parameters(model), parameters(loaded)
    assert before.keys() == after.keys()
    changed = 0
    for path, exact in before.items():
        error = np.abs(after[path] - exact)
        if path.endswith(("scale", "bias")):
            assert error.max() == 0, path
            continue
        assert error.max() <= relative * np.abs(exact).max(), path
        changed += error.max() > 0
    assert changed == sum(not p.endswith(("scale", "bias")) for p in before)
    sizes = {"f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q4_0": 34 / 32}
    matrices = sum(v.size for p, v in before.items() if v.ndim > 1)
    assert os.path.getsize(tmp_path / "m.gguf") < matrices * sizes[file_type] + 40_000


@pytest.mark.parametrize("name", ["llama", "qwen2-tied", "qwen3", "llama3"])
def test_saving_is_quantizing_what_was_saved_in_float32(name, tokenizer, tmp_path):
    model = make(row_config(name))
    models.save_gguf(model, tokenizer, tmp_path / "f32.gguf", "f32")
    for file_type in gguf.FILE_TYPES:
        models.save_gguf(model, tokenizer, tmp_path / "direct.gguf", file_type)
        gguf.quantize(tmp_path / "f32.gguf", tmp_path / "after.gguf", file_type)
        with (
            gguf.open(tmp_path / "direct.gguf") as direct,
            gguf.open(tmp_path / "after.gguf") as after,
        ):
            assert direct.tensors.keys() == after.tensors.keys()
            for tensor, info in after.tensors.items():
                assert direct.tensors[tensor].type == info.type
                np.testing.assert_array_equal(
                    direct.tensors[tensor].raw(), after.tensors[tensor].raw()
                )


def test_bfloat16_model_is_written_and_read_in_its_own_type(tokenizer, tmp_path):
    model = make(row_config("qwen2-tied"), param_dtype=jnp.bfloat16)
    models.save_gguf(model, tokenizer, tmp_path / "m.gguf", "bf16")
    loaded, _ = models.load(tmp_path / "m.gguf", dtype=jnp.bfloat16)
    assert_same_parameters(loaded, model)


def test_interleaving_rows_is_undone_and_pairs_halves():
    rows = np.arange(2 * 6 * 3).reshape(12, 3)
    mixed = interleave(rows, 2)
    np.testing.assert_array_equal(uninterleave(mixed, 2), rows)
    np.testing.assert_array_equal(mixed[:6, 0] // 3, [0, 3, 1, 4, 2, 5])


def test_name_and_size_are_in_the_metadata(tokenizer, tmp_path):
    model = make(row_config("qwen3"))
    models.save_gguf(model, tokenizer, tmp_path / "little.gguf", "q8_0")
    with gguf.open(tmp_path / "little.gguf") as file:
        found = file.metadata
    count = sum(v.size for v in parameters(model).values())
    assert found["general.name"] == "little"
    assert found["general.size_label"] == f"{count / 1000:.0f}K"
    assert found["general.file_type"] == 7
    assert found["general.quantization_version"] == 2
    assert found["qwen3.attention.key_length"] == 32


def test_divisors_of_every_frequency_survive_the_file(tokenizer, tmp_path):
    divisors = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 4.5, 8.0)
    for values in (divisors, tuple(d / 16 for d in divisors), (1.0,) * 8):
        scaling = RopeScaling("divisors", divisors=values)
        config = dataclasses.replace(row_config("llama"), rope_scaling=scaling)
        model = make(config)
        models.save_gguf(model, tokenizer, tmp_path / "d.gguf", "f32")
        assert models.load(tmp_path / "d.gguf")[0].config == config


def test_unknown_architecture_is_named(plain, tmp_path):
    path = tmp_path / "bad.gguf"
    rewrite(plain, path, {"general.architecture": "gpt2"})
    with pytest.raises(ValueError, match="'gpt2' is not supported.*llama, qwen2"):
        models.load(path)


@pytest.mark.parametrize(
    "key",
    [
        "llama.context_length",
        "llama.embedding_length",
        "llama.block_count",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
    ],
)
def test_missing_required_key_is_named(key, plain, tmp_path):
    path = tmp_path / "bad.gguf"
    rewrite(plain, path, {key: None})
    with pytest.raises(ValueError, match=rf"bad\.gguf: metadata key {key} is missing"):
        models.load(path)


@pytest.mark.parametrize(
    "value", [np.float32("nan"), np.float32("inf"), np.float32(2.5), "two", True]
)
def test_count_that_is_no_whole_number_is_named(value, plain, tmp_path):
    path = tmp_path / "bad.gguf"
    rewrite(plain, path, {"llama.block_count": value})
    with pytest.raises(ValueError, match=r"bad\.gguf: metadata key llama.block_count"):
        models.load(path)


def test_impossible_depth_is_refused_at_once(plain, tmp_path):
    path = tmp_path / "bad.gguf"
    rewrite(plain, path, {"llama.block_count": np.uint32(2**31)})
    with pytest.raises(ValueError, match="block_count.*2147483648"):
        models.load(path)


def test_vocabulary_of_another_length_is_refused(plain, tmp_path):
    path = tmp_path / "bad.gguf"
    with gguf.open(plain) as file:
        head = file.tensors["token_embd.weight"].dequantize()
    tensors = {"token_embd.weight": head[:-1], "output.weight": head[:-1]}
    rewrite(plain, path, tensors=tensors)
    with pytest.raises(ValueError, match=r"320 tokens.*token_embd.weight has 319 rows"):
        models.load(path)


def test_missing_extra_and_misshapen_tensors_are_named_together(plain, tmp_path):
    path = tmp_path / "bad.gguf"
    changes = {
        "blk.0.attn_q.weight": None,
        "blk.1.ffn_up.weight": np.zeros((64, 96), np.float32),
        "blk.7.attn_q.bias": np.zeros(64, np.float32),
    }
    rewrite(plain, path, tensors=changes)
    with pytest.raises(ValueError) as caught:
        models.load(path)
    text = str(caught.value)
    assert "missing blk.0.attn_q.weight (64, 64)" in text
    assert "blk.1.ffn_up.weight has shape (64, 96), expected (96, 64)" in text
    assert "unexpected blk.7.attn_q.bias" in text
    assert "3 tensors" in text


@pytest.mark.parametrize("name", ["token_embd.weight", "rope_freqs.weight"])
def test_special_tensors_that_cannot_be_used_are_named(name, plain, tmp_path):
    path = tmp_path / "bad.gguf"
    changes = {
        "token_embd.weight": None,
        "rope_freqs.weight": np.array([1, 1, 2, 8], np.float32),
    }
    rewrite(plain, path, tensors={name: changes[name]})
    with pytest.raises(ValueError, match=name):
        models.load(path)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_unusable_divisors_are_refused(bad, plain, tmp_path):
    path = tmp_path / "bad.gguf"
    divisors = np.array([1, 1, 1, 2, 2, 4, 8, bad], np.float32)
    rewrite(plain, path, tensors={"rope_freqs.weight": divisors})
    with pytest.raises(ValueError, match="rope_freqs.weight must be"):
        models.load(path)


def test_unknown_rope_scaling_is_named(plain, tmp_path):
    path = tmp_path / "bad.gguf"
    rewrite(plain, path, {"llama.rope.scaling.type": "longrope"})
    with pytest.raises(ValueError, match="rope.scaling.type 'longrope'"):
        models.load(path)


def test_file_that_is_no_gguf_is_refused(tmp_path):
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"not a model at all")
    with pytest.raises(gguf.GGUFError, match=r"bad\.gguf"):
        models.load(path)


def test_unknown_file_type_is_refused_before_anything_is_written(tokenizer, tmp_path):
    model = make(row_config("llama"))
    with pytest.raises(ValueError, match=r"'q3_k'.*q3_k_s, q2_k"):
        models.save_gguf(model, tokenizer, tmp_path / "m.gguf", "q3_k")
    assert list(tmp_path.iterdir()) == []


def test_tokenizer_of_another_size_is_refused(tmp_path):
    tokenizer = small_tokenizer(tmp_path / "t", 310)
    model = make(row_config("llama"))
    with pytest.raises(ValueError, match="310 tokens, the embedding has 320 rows"):
        models.save_gguf(model, tokenizer, tmp_path / "m.gguf")


def test_llama3_scaling_of_another_architecture_is_refused(tmp_path):
    scaling = RopeScaling("llama3", 8.0, 8192)
    config = dataclasses.replace(TINY["qwen2"], vocab_size=320, rope_scaling=scaling)
    tokenizer = small_tokenizer(tmp_path / "t")
    with pytest.raises(ValueError, match="'llama3' on qwen2"):
        models.save_gguf(make(config), tokenizer, tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()


def test_yarn_rotation_counts_that_llama_cpp_ignores_are_refused(tokenizer, tmp_path):
    model = make(row_config("qwen2-yarn-betas"))
    with pytest.raises(ValueError, match="beta_fast=16.0, beta_slow=2.0"):
        models.save_gguf(model, tokenizer, tmp_path / "m.gguf", "f32")
    assert list(tmp_path.iterdir()) == []


def test_non_finite_weight_is_refused_by_name(tokenizer, tmp_path):
    model = make(row_config("llama"))
    scale = model.norm.scale
    model.norm.scale[...] = scale[...].at[3].set(jnp.nan)
    with pytest.raises(ValueError, match="output_norm.weight"):
        models.save_gguf(model, tokenizer, tmp_path / "m.gguf")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_keeps_the_old_file(tokenizer, tmp_path, monkeypatch):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"the old file")
    model = make(row_config("llama"))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        models.save_gguf(model, tokenizer, path)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"the old file"
    assert list(tmp_path.iterdir()) == [path]


def test_further_general_keys_are_written(tokenizer, tmp_path):
    path = tmp_path / "model.gguf"
    extra = {
        "general.license": "apache-2.0",
        "general.tags": ["sentiment", "small"],
        "general.sampling.temp": np.float32(0.7),
    }
    model = make(row_config("llama"))
    models.save_gguf(model, tokenizer, path, "f32", metadata=extra)
    with gguf.open(path) as file:
        assert {key: file.metadata[key] for key in extra} == extra


@pytest.mark.parametrize("key", ["general.architecture", "llama.block_count", "x"])
def test_keys_that_are_not_the_callers_are_refused(key, tokenizer, tmp_path):
    with pytest.raises(ValueError, match=f"metadata: {key} cannot be given"):
        models.save_gguf(
            make(row_config("llama")),
            tokenizer,
            tmp_path / "model.gguf",
            "f32",
            metadata={key: np.uint32(1)},
        )
    assert not list(tmp_path.iterdir())
