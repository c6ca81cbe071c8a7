"""train and eval as a user types them, and how a run is stopped."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import tiny

from simplex_jax import cli, models, pipeline
from simplex_jax.cli._main import Train

SMALL = """
base: absent.gguf
lora: {r: 2, target_modules: [q_proj, v_proj]}
training:
  max_steps: 99
  per_device_train_batch_size: 1
  max_length: 128
  learning_rate: 2e-3
data: {train_examples: 12, validation_examples: 2, heldout_examples: 6}
export: {type: f32, name: tiny}
"""


@pytest.fixture(scope="module")
def base(tiny_llama, tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "tiny.gguf"
    model, tokenizer = tiny_llama
    models.save_gguf(model, tokenizer, path, "f32")
    return path


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def trained(base, settings, tmp_path_factory):
    """The folder of a finished run, and what the command printed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    out, err = tmp_path_factory.mktemp("printed") / "out", folder.with_name("err")
    words = train_words(base, settings, folder, "--set", "training.max_steps=3")
    with (
        pytest.MonkeyPatch.context() as patch,
        out.open("w") as out_file,
        err.open("w") as err_file,
    ):
        # Verified runs are looked at elsewhere; this one says that it is not.
        patch.setitem(sys.modules, "llama_cpp", None)
        patch.setattr(sys, "stdout", out_file)
        patch.setattr(sys, "stderr", err_file)
        with pytest.raises(SystemExit) as stop:
            cli.main(words)
    return folder, stop.value.code, out.read_text(), err.read_text()


def train_words(base, settings, folder, *more):
    words = ["train", "sentiment_analysis", "--base", base, "--config", settings]
    return [str(word) for word in (*words, "--out", folder, *more)]


def run(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in words])
    printed = capsys.readouterr()
    return stop.value.code, printed.out, printed.err


def test_train_prints_what_was_measured_and_what_to_do_next(trained):
    folder, status, out, _ = trained
    assert status == 0
    for shown in (
        "held-out data",
        "before",
        "after",
        "accuracy (95 %",
        "readable answers",
        "0 of 6",
        "trained 896 parameters (0.03 %) for 3 steps",
    ):
        assert shown in out
    # Paths stay whole, however narrow the terminal is.
    lines = out.splitlines()
    assert f"{folder / 'tiny-f32.gguf'}" in lines
    assert f"ollama create tiny -f {folder / 'Modelfile'}" in lines
    assert f"report: {folder / 'report.html'}" in lines
    assert (folder / "report.html").exists()


def test_train_tells_stages_records_and_what_is_missing_on_stderr(trained):
    _, _, out, err = trained
    places = [
        err.index(stage)
        for stage in (
            "loading the base model",
            "preparing the data",
            "answering before training",
            "training (compiling first)",
            "step 1/3 | loss ",
            "step 3/3",
            "answering after training",
            "writing the GGUF file",
            "comparing the file with its source",
            "comparing with llama.cpp",
            "not verified: llama-cpp-python is not installed",
        )
    ]
    assert places == sorted(places)
    assert "pip install 'simplex-jax[llamacpp]'" in err
    assert "step 2/3" not in out


def test_a_finished_run_is_not_trained_again(capsys, base, settings, trained):
    folder = trained[0]
    kept = (folder / "manifest.json").read_bytes()
    words = train_words(base, settings, folder, "--set", "training.max_steps=3")
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "")
    assert "holds this run, finished; give another --out" in err
    assert (folder / "manifest.json").read_bytes() == kept


def test_eval_prints_the_figures_again_and_writes_json(capsys, trained, tmp_path):
    folder, report = trained[0], tmp_path / "figures.json"
    status, out, _ = run(capsys, "eval", folder, "--json", report)
    assert status == 0
    for shown in ("now", "accuracy (95 %, by template)", "0 of 6"):
        assert shown in out
    manifest = json.loads((folder / "manifest.json").read_text())
    assert json.loads(report.read_text()) == manifest["evaluation"]["after"]


def test_a_run_folder_is_exported_like_any_model(capsys, trained, tmp_path):
    words = ("export", trained[0], "--out", tmp_path / "small.gguf", "--type", "f32")
    status, out, _ = run(capsys, *words)
    assert status == 0
    assert "ollama create small" in out
    assert (tmp_path / "small.gguf").stat().st_size > 1e6


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ("--set", "training.learning_rat=1"),
            "unknown key training.learning_rat; did you mean training.learning_rate?",
        ),
        (("--set", "lora.seed=1"), "unknown key lora.seed; did you mean training.seed"),
        (("--set", "training.tf32=true"), "JAX_DEFAULT_MATMUL_PRECISION"),
        (("--set", "training.max_steps=0"), "training.max_steps is 0; give 1 or more"),
        (("--set", "nonsense"), "write section.key=value"),
        (("--config", "absent.yaml"), "absent.yaml"),
        (("--base", "smollm"), "'smollm' is neither a file, nor a folder"),
        (("--data", "own.jsonl"), "give one of the two"),
    ],
)
def test_words_that_cannot_be_used_give_one_line(
    capsys, base, settings, tmp_path, more, message
):
    words = train_words(base, settings, tmp_path / "run", *more)
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "")
    assert message in err
    assert f"simplex-jax: error: {err.split('error: ')[1]}" in err
    assert "Traceback" not in err


def test_a_folder_without_a_run_cannot_be_judged(capsys, tmp_path):
    status, _, err = run(capsys, "eval", tmp_path)
    assert status == 2
    assert "is not the folder of a run" in err


def test_no_specialist_and_no_file_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, "train")
    assert status == 2
    assert "specialist is None and data.file is None; give one of the two" in err
    assert not list(tmp_path.iterdir())


def test_options_win_over_settings_and_settings_over_the_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "specialist: neural_ir\nbase: file\ntraining: {seed: 1, max_steps: 1}\n"
    )
    config = Train(config=path, set=("training.seed=2", "base=set")).resolve()
    assert config.specialist == "neural_ir"
    assert (config.base, config.training.seed, config.training.max_steps) == (
        "set",
        2,
        1,
    )
    words = Train(
        "sentiment_analysis",
        base="option",
        config=path,
        set=("base=set", "training.full=false", "data.strict=false"),
        full=True,
        strict=True,
    )
    config = words.resolve()
    assert (config.specialist, config.base) == ("sentiment_analysis", "option")
    assert config.training.full and config.data.strict


def test_the_local_test_changes_the_file_and_settings_change_it(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("specialist: neural_ir\ntraining: {max_steps: 500, seed: 7}\n")
    config = Train(config=path, local_test=True, set=("data.seed=3",)).resolve()
    assert config.specialist == "neural_ir"
    assert config.training.max_steps == 4
    assert (config.training.seed, config.data.seed) == (7, 3)
    longer = Train(config=path, local_test=True, set=("training.max_steps=9",))
    assert longer.resolve().training.max_steps == 9


def test_the_local_test_needs_no_specialist_and_takes_any(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("data: {file: own.jsonl}\n")
    for words, specialist in (
        (Train(local_test=True), "sentiment_analysis"),
        (Train("neural_ir", local_test=True), "neural_ir"),
        (Train(local_test=True, data=tmp_path / "own.jsonl"), None),
        (Train(local_test=True, config=path), None),
        (Train(local_test=True, set=("data.file=own.jsonl",)), None),
        (Train(local_test=True, set=("specialist=neural_ir",)), "neural_ir"),
    ):
        assert words.resolve().specialist == specialist
    with pytest.raises(ValueError, match="data is 'own.jsonl'; it is a section"):
        Train(local_test=True, set=("data=own.jsonl",)).resolve()


@pytest.mark.slow
def test_the_local_test_tries_everything(capsys, tiny_llama, tmp_path, monkeypatch):
    tokenizer = tiny_llama[1]
    # Its rows are longer than the context of the other tests' model.
    config = dataclasses.replace(tiny_llama[0].config, max_position_embeddings=256)
    models.save_gguf(tiny.decoder(config), tokenizer, tmp_path / "tiny.gguf", "f32")
    monkeypatch.chdir(tmp_path)
    words = ("train", "--local-test", "--base", "tiny.gguf")
    status, out, err = run(capsys, *words)
    assert status == 0, err
    folder = next((tmp_path / "runs").iterdir())
    assert folder.name.startswith("local-test-")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["specialist"] == "sentiment_analysis"
    assert manifest["training"]["steps"] == pipeline.LOCAL_TEST["training"]["max_steps"]
    assert manifest["evaluation"]["after"]["prompts"] == 16
    assert f"{folder.name}-q4_k_m.gguf" in out
    if "verification" in manifest:
        assert "verified in llama.cpp" in out


@pytest.mark.nightly
def test_own_data_is_trained_on_and_named_after_its_file(
    capsys, base, settings, tmp_path, monkeypatch
):
    lines = [{"prompt": f"What is {i}?", "response": f"It is {i}."} for i in range(20)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    monkeypatch.chdir(tmp_path)
    words = ("train", "--data", "sums.jsonl", "--base", base, "--config", settings)
    status, out, _ = run(capsys, *words, "--set", "training.max_steps=2", "--full")
    assert status == 0
    assert "loss, nats a token" in out
    assert "token accuracy" in out
    assert (tmp_path / "runs" / "sums" / "model" / "model.safetensors").exists()


# Stopping, in a process of its own.


@pytest.fixture
def started(child_programs, tmp_path):
    """A function that starts the command; what still runs at the end is killed."""
    environment = {**child_programs, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    # As in the tests' own process, whose programs it then finds.
    environment["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
    processes = []

    def start(words):
        path = tmp_path / f"err{len(processes)}"
        with path.open("w") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "simplex_jax.cli", *words],
                env={**os.environ, **environment},
                stdout=subprocess.DEVNULL,
                stderr=err,
            )
        processes.append(process)
        return process, path

    yield start
    for process in processes:
        process.kill()
        process.wait()


def wait_for(process, found, seconds=120):
    deadline = time.monotonic() + seconds
    while not found():
        assert process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "status"),
    [
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.nightly),
    ],
)
def test_a_signal_saves_and_the_same_command_goes_on(
    started, base, settings, tmp_path, number, status
):
    folder = tmp_path / "run"
    more = ("--set", "training.max_steps=150", "training.eval_steps=50")
    words = train_words(base, settings, folder, *more)
    process, err = started(words)
    metrics = folder / "metrics.jsonl"
    wait_for(process, lambda: metrics.exists() and metrics.read_text().count("\n"))
    process.send_signal(number)
    assert process.wait(60) == status, err.read_text()
    printed = err.read_text()
    assert "saving after this step; once more to stop at once" in printed
    assert "which is saved; the same command goes on" in printed
    assert "Traceback" not in printed
    step = json.loads(metrics.read_text().splitlines()[-1])["step"]
    assert (folder / "checkpoints" / str(step)).is_dir()
    assert json.loads((folder / "manifest.json").read_text())["status"] == "running"

    process, err = started(words)
    assert process.wait(120) == 0, err.read_text()
    assert f"going on after step {step} of 150" in err.read_text()
    assert json.loads((folder / "manifest.json").read_text())["status"] == "finished"
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [r["step"] for r in records if "loss" in r] == list(range(1, 151))


@pytest.mark.nightly
def test_ctrl_c_while_compiling_loses_nothing(started, base, settings, tmp_path):
    folder = tmp_path / "run"
    words = train_words(base, settings, folder, "--set", "training.max_steps=5")
    process, err = started(words)
    wait_for(process, lambda: "training (compiling first)" in err.read_text())
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130, err.read_text()
    printed = err.read_text()
    assert "Traceback" not in printed
    assert "the same command goes on" in printed
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "running"
    assert manifest["evaluation"]["before"]["prompts"] == 6

    process, err = started(words)
    assert process.wait(120) == 0, err.read_text()
    # What was measured before training is not measured again.
    assert "answering before training" not in err.read_text()
    records = [
        json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()
    ]
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_a_second_signal_stops_at_once(started, base, settings, tmp_path):
    folder = tmp_path / "run"
    words = train_words(base, settings, folder, "--set", "training.max_steps=5")
    process, err = started(words)
    wait_for(process, lambda: "answering before training" in err.read_text())
    process.send_signal(signal.SIGINT)
    wait_for(process, lambda: "once more to stop at once" in err.read_text())
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130, err.read_text()
    printed = err.read_text()
    assert "simplex-jax: interrupted" in printed
    assert "Traceback" not in printed
    assert json.loads((folder / "manifest.json").read_text())["status"] == "running"
