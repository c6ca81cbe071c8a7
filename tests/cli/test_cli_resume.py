"""A run that is killed again and again ends with the bytes of one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from simplex_jax import models

pytestmark = pytest.mark.nightly

STEPS = 80
KILLS = 3
SMALL = f"""
specialist: sentiment_analysis
lora: {{r: 2, target_modules: [q_proj, v_proj], lora_dropout: 0.1}}
training:
  max_steps: {STEPS}
  eval_steps: 10
  save_steps: 4
  per_device_train_batch_size: 2
  max_length: 128
  learning_rate: 2e-3
data: {{train_examples: 50, validation_examples: 2, heldout_examples: 6}}
export: {{type: q8_0, name: tiny}}
"""


@pytest.fixture(scope="module")
def words(tiny_llama, tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    model, tokenizer = tiny_llama
    models.save_gguf(model, tokenizer, folder / "tiny.gguf", "f32")
    (folder / "run.yaml").write_text(SMALL)
    return ["--base", str(folder / "tiny.gguf"), "--config", str(folder / "run.yaml")]


def start(words, out, err, cache=None):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    if cache is not None:
        # What is compiled by one process is used by the next.
        environment["JAX_COMPILATION_CACHE_DIR"] = str(cache)
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        environment["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    command = [sys.executable, "-m", "simplex_jax.cli", "train", *words]
    with err.open("w") as file:
        return subprocess.Popen(
            [*command, "--out", str(out)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=file,
        )


def records(folder):
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    # The last line may be half written.
    lines = [x for x in path.read_text().splitlines(keepends=True) if x.endswith("\n")]
    return [json.loads(line) for line in lines]


def test_a_run_killed_at_any_moment_ends_with_the_same_bytes(words, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    # Without the cache, so that the programs are compiled twice and must agree.
    process = start(words, whole, tmp_path / "err")
    assert process.wait(150) == 0, (tmp_path / "err").read_text()
    seconds = [r["seconds"] for r in records(whole) if "loss" in r]
    estimate = seconds[-1] - seconds[0]

    draw = random.Random(0)
    stops = []
    for attempt in range(KILLS):
        err = tmp_path / f"err{attempt}"
        process = start(words, killed, err, tmp_path / "cache")
        try:
            wait_for_a_step(process, killed, err)
            # What remains shrinks with every attempt; each gets a share of the whole.
            time.sleep(draw.uniform(0, estimate / (KILLS + 1)))
        finally:
            process.kill()
        assert process.wait() == -signal.SIGKILL, err.read_text()
        stops.append(records(killed)[-1]["step"])
        assert 0 < stops[-1] < STEPS
        manifest = json.loads((killed / "manifest.json").read_text())
        assert manifest["status"] == "running"

    process = start(words, killed, tmp_path / "last", tmp_path / "cache")
    assert process.wait(150) == 0, (tmp_path / "last").read_text()
    # Otherwise it would have begun anew, and prove nothing.
    assert "going on after step" in (tmp_path / "last").read_text(), stops

    name = "adapter/adapter_model.safetensors"
    assert (killed / name).read_bytes() == (whole / name).read_bytes(), stops
    assert (killed / "tiny-q8_0.gguf").read_bytes() == (
        whole / "tiny-q8_0.gguf"
    ).read_bytes()
    numbers = [
        [(r["step"], r.get("loss"), r.get("eval_loss")) for r in records(folder)]
        for folder in (killed, whole)
    ]
    assert numbers[0] == numbers[1]
    steps = [r["step"] for r in records(killed) if "loss" in r]
    assert steps == list(range(1, STEPS + 1))
    manifests = [
        json.loads((folder / "manifest.json").read_text()) for folder in (killed, whole)
    ]
    for key in ("status", "config", "data", "evaluation", "samples", "base"):
        assert manifests[0][key] == manifests[1][key]
    for key in ("steps", "tokens", "loss_tokens", "best_step", "best_eval_loss"):
        assert manifests[0]["training"][key] == manifests[1]["training"][key]


def wait_for_a_step(process, folder, err, seconds=120):
    """Wait until this process has written a record of its own."""
    deadline = time.monotonic() + seconds
    while True:
        printed = err.read_text()
        if "step " in printed and "loss" in printed and records(folder):
            return
        assert process.poll() is None, printed
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
