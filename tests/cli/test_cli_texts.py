"""train --task lm as a user types it: what it is told, and what it refuses."""

import json

import pytest

from simplex_jax import cli, pipeline
from simplex_jax.cli._main import Train
from simplex_jax.cli._tables import run_table

WORDS = ("train", "--task", "lm", "--full", "--data")
FILE = {"bytes": 1, "sha256": "0"}
MANIFEST = {
    "name": "tales",
    "evaluation": {
        "before": {"nll": 7.6, "bits_per_byte": 3.7},
        "after": {"nll": 3.25, "bits_per_byte": 1.625},
    },
    "base": {"trainable": 1000, "percent": 100.0},
    "training": {"steps": 3, "tokens": 4000, "seconds": 5.0},
    "config": {"training": {"full": True}},
    "files": {"tales-f32.gguf": FILE, "model/model.safetensors": FILE},
}


def refusal(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in words])
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_task_full_and_folder_are_all_that_has_to_be_said(tmp_path):
    train = Train(task="lm", full=True, data=tmp_path)
    config = train.resolve()
    assert (config.task, config.base) == ("lm", None)
    assert config.model == pipeline.SMALL_MODEL
    assert config.data.file == str(tmp_path)


def test_settings_reach_the_model_and_what_lies_in_it(tmp_path):
    words = ("model.hidden_size=64", "model.rope_scaling.rope_type=linear")
    words += ("model.rope_scaling.factor=2",)
    config = Train(task="lm", full=True, data=tmp_path, set=words).resolve()
    assert config.model is not None and config.model.rope_scaling is not None
    assert config.model.hidden_size == 64
    assert config.model.rope_scaling.factor == 2.0
    # What a manifest holds gives the same run back.
    kept = json.loads(json.dumps(config.to_json()))
    assert pipeline.make_config(kept) == config


def test_folders_without_text_are_refused_before_anything_is_trained(capsys, tmp_path):
    folder = tmp_path / "texts"
    out = ("--out", tmp_path / "run")
    assert "is not there" in refusal(capsys, *WORDS, folder, *out)
    folder.mkdir()
    assert "holds no text; put .txt or .md files" in refusal(
        capsys, *WORDS, folder, *out
    )
    (folder / "a.txt").write_bytes(b"\xff")
    assert "a.txt is not UTF-8" in refusal(capsys, *WORDS, folder, *out)
    assert "give nothing or 'lm'" in refusal(
        capsys, "train", "--task", "mlm", "--data", folder, *out
    )
    assert "give --full, or a base" in refusal(
        capsys, "train", "--task", "lm", "--data", folder, *out
    )


def test_what_is_printed_is_bits_a_byte_and_no_recipe_for_ollama(capsys, tmp_path):
    run_table(MANIFEST, tmp_path)
    printed = capsys.readouterr().out
    for shown in ("bits a byte", "1.6250", "3.2500", f"model: {tmp_path / 'model'}"):
        assert shown in printed
    assert f"{tmp_path / 'tales-f32.gguf'}" in printed.splitlines()
    assert "ollama" not in printed
