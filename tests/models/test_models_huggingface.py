"""Hugging Face folders: out, in, and every way to be broken."""

import json
import os
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from models_helpers import (
    ROWS,
    assert_same_parameters,
    gap,
    logits,
    make,
    parameters,
    prompts,
    row_config,
    transformers_logits,
)
from safetensors.numpy import load_file, save_file

from simplex_jax import models
from simplex_jax.models import _hf


@pytest.fixture
def folder(tokenizer, tmp_path):
    """A whole folder that a test may break."""
    path = tmp_path / "whole"
    models.save_hf(make(row_config("qwen2-tied")), tokenizer, path)
    return path


@pytest.mark.parametrize("name", ROWS)
def test_folder_gives_back_every_number_and_the_configuration(
    name, tokenizer, tmp_path
):
    model = make(row_config(name))
    models.save_hf(model, tokenizer, tmp_path / "out")
    loaded, loaded_tokenizer = models.load(tmp_path / "out")
    assert loaded.config == model.config
    assert_same_parameters(loaded, model)
    assert loaded_tokenizer.tokens == tokenizer.tokens
    assert loaded_tokenizer.eog_ids == tokenizer.eog_ids


@pytest.mark.parametrize("name", ["llama3-short", "qwen2-yarn-betas", "qwen3"])
@pytest.mark.parametrize("shard_bytes", [2**31, 50_000], ids=["whole", "shards"])
def test_transformers_loads_what_is_saved(
    name, shard_bytes, made_by_transformers, tmp_path, monkeypatch
):
    transformers = pytest.importorskip("transformers")
    torch_model, source = made_by_transformers(name)
    monkeypatch.setattr(_hf, "MAX_SHARD_BYTES", shard_bytes)
    out = tmp_path / "out"
    models.save_hf(*models.load(source), out)
    shards = sorted(path.name for path in out.glob("*.safetensors"))
    assert (shards == ["model.safetensors"]) == (shard_bytes == 2**31)
    assert_same_parameters(models.load(out)[0], models.load(source)[0])
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(
        out, output_loading_info=True, attn_implementation="eager"
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    before, after = torch_model.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(before[key].equal(after[key]) for key in before)
    tokens, lengths, _ = prompts()
    np.testing.assert_array_equal(
        transformers_logits(torch_model, tokens, lengths),
        transformers_logits(loaded.eval(), tokens, lengths),
    )


def test_shards_stay_below_the_limit_and_are_indexed(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(_hf, "MAX_SHARD_BYTES", 60_000)
    model = make(row_config("llama"))
    models.save_hf(model, tokenizer, tmp_path / "out")
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    sizes = {}
    for path in (tmp_path / "out").glob("*.safetensors"):
        arrays = load_file(path)
        sizes[path.name] = sum(a.nbytes for a in arrays.values())
        assert len(arrays) == 1 or sizes[path.name] <= 60_000
        assert all(index["weight_map"][key] == path.name for key in arrays)
    total = sum(v.nbytes for v in parameters(model).values())
    assert sum(sizes.values()) == index["metadata"]["total_size"] == total


def test_bfloat16_weights_are_stored_in_bfloat16(tokenizer, tmp_path):
    model = make(row_config("qwen3"), param_dtype=jnp.bfloat16)
    models.save_hf(model, tokenizer, tmp_path / "out")
    raw = json.loads((tmp_path / "out" / "config.json").read_text())
    assert raw["dtype"] == "bfloat16"
    size = os.path.getsize(tmp_path / "out" / "model.safetensors")
    assert size < 2 * sum(v.size for v in parameters(model).values()) + 10_000
    loaded, _ = models.load(tmp_path / "out", dtype=jnp.bfloat16)
    assert_same_parameters(loaded, model)


def test_huggingface_and_gguf_hold_the_same_model(tokenizer, tmp_path):
    model = make(row_config("llama3"))
    models.save_hf(model, tokenizer, tmp_path / "hf")
    models.save_gguf(*models.load(tmp_path / "hf"), tmp_path / "m.gguf", "f32")
    loaded, _ = models.load(tmp_path / "m.gguf")
    assert loaded.config == model.config
    assert_same_parameters(loaded, model)
    tokens, _, segments = prompts()
    assert gap(logits(loaded, tokens, segments), logits(model, tokens, segments)) == 0


def test_folder_that_holds_something_is_left_alone(folder, tokenizer):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FileExistsError, match="not empty"):
        models.save_hf(make(row_config("llama")), tokenizer, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(FileExistsError):
        models.save_hf(make(row_config("llama")), tokenizer, folder / "config.json")


def test_empty_folder_is_filled(tokenizer, tmp_path):
    (tmp_path / "out").mkdir()
    models.save_hf(make(row_config("llama")), tokenizer, tmp_path / "out")
    assert models.load(tmp_path / "out")[0].config == row_config("llama")


@pytest.mark.parametrize("fails_at", [1, 2])
def test_failure_midway_leaves_nothing_behind(
    fails_at, tokenizer, tmp_path, monkeypatch
):
    calls = []

    def full(arrays, path, metadata):
        calls.append(path)
        if len(calls) == fails_at:
            raise OSError(28, "No space left on device", str(path))
        save_file(arrays, path, metadata=metadata)

    monkeypatch.setattr(_hf, "MAX_SHARD_BYTES", 60_000)
    monkeypatch.setattr(_hf, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        models.save_hf(make(row_config("llama")), tokenizer, tmp_path / "out")
    assert len(calls) == fails_at
    assert list(tmp_path.iterdir()) == []


def test_saved_folder_is_readable_like_any_other(folder):
    mask = os.umask(0)
    os.umask(mask)
    assert folder.stat().st_mode & 0o777 == 0o777 & ~mask


def test_missing_extra_and_misshapen_tensors_are_named_together(folder):
    path = folder / "model.safetensors"
    arrays = load_file(path)
    del arrays["model.layers.1.mlp.up_proj.weight"]
    arrays["model.norm.weight"] = np.ones(63, np.float32)
    arrays["model.layers.0.self_attn.q_norm.weight"] = np.ones(16, np.float32)
    save_file(arrays, path)
    with pytest.raises(ValueError) as caught:
        models.load(folder)
    text = str(caught.value)
    assert "3 tensors" in text and str(folder) in text
    assert "missing model.layers.1.mlp.up_proj.weight (96, 64)" in text
    assert "model.norm.weight has shape (63,), expected (64,)" in text
    assert "unexpected model.layers.0.self_attn.q_norm.weight" in text


def test_head_beside_a_tied_embedding_is_left_out(folder):
    path = folder / "model.safetensors"
    arrays = load_file(path)
    arrays["lm_head.weight"] = arrays["model.embed_tokens.weight"]
    save_file(arrays, path)
    assert models.load(folder)[0].lm_head is None


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        models.load(folder)


def test_missing_tokenizer_is_named(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises((ValueError, FileNotFoundError), match="tokenizer.json"):
        models.load(folder)


@pytest.fixture
def sharded(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(_hf, "MAX_SHARD_BYTES", 60_000)
    models.save_hf(make(row_config("qwen3")), tokenizer, tmp_path / "sharded")
    return tmp_path / "sharded"


def test_missing_shard_is_named(sharded):
    shard = sorted(sharded.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=shard.name):
        models.load(sharded)


@pytest.mark.parametrize("name", ["../elsewhere.safetensors", "/etc/passwd", "..", ""])
def test_index_that_leads_out_of_the_folder_is_refused(sharded, name):
    path = sharded / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    some = next(iter(index["weight_map"]))
    index["weight_map"][some] = name
    path.write_text(json.dumps(index))
    shard = next(sharded.glob("model-*.safetensors"))
    shutil.copy(shard, sharded.parent / "elsewhere.safetensors")
    with pytest.raises(ValueError, match="is not a plain file name"):
        models.load(sharded)


@pytest.mark.parametrize("content", ["[]", '{"weight_map": ["a"]}', "{}"])
def test_index_of_another_form_is_refused(sharded, content):
    (sharded / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json"):
        models.load(sharded)


@pytest.mark.parametrize("keep", [0, 4, 100, -1000])
def test_truncated_weights_are_named(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model\.safetensors: not a readable"):
        models.load(folder)


def test_corrupted_header_is_named(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[8:40] = b"\xff" * 32
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"model\.safetensors: not a readable"):
        models.load(folder)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]", b""])
def test_configuration_that_is_no_json_object_is_named(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json: (not valid|expected)"):
        models.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mamba"}, "'mamba' is not supported"),
        ({"num_hidden_layers": 2**31}, "num_hidden_layers is 2147483648"),
        ({"mlp_bias": True, "hidden_act": "relu"}, "mlp_bias=true; hidden_act='relu'"),
    ],
    ids=str,
)
def test_unusable_configuration_is_named(folder, change, message):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        models.load(folder)


def test_source_that_does_not_exist_is_named_with_the_known_ones(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere'.*smollm2-135m.*hf:"):
        models.load(tmp_path / "nowhere")


def test_hub_without_a_network_is_named(monkeypatch):
    import huggingface_hub

    def unreachable(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(ConnectionError, match=r"hf:org/name.*not known.*local folder"):
        models.load("hf:org/name")
