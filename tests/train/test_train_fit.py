"""A run that is stopped and taken up again is the run that was not stopped."""

import json
import os
import re
import shutil
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from train_helpers import make, packed, sequences

from simplex_jax import data, train

pytestmark = pytest.mark.optimized

STEPS = 8


def config(**changes):
    fields = {
        "per_device_train_batch_size": 2,
        "max_length": 32,
        "learning_rate": 1e-2,
        "eval_steps": 2,
        **changes,
    }
    return train.TrainingConfig(**fields)


def heldout():
    return list(
        data.pack(sequences(6, 9), batch_size=2, length=32, epochs=1, shuffle=False)
    )


def fit(folder, *, stop_after=None, steps=STEPS, model=None, said=None, **changes):
    seen = []

    def should_stop():
        seen.append(1)
        return len(seen) == stop_after

    return train.fit(
        make(dropout=0.1) if model is None else model,
        packed(rows=2, seed=5),
        config(**changes),
        steps=steps,
        folder=folder,
        heldout=heldout(),
        should_stop=should_stop,
        say=(lambda text: None) if said is None else said.append,
    )


def bits(model):
    return [np.asarray(x) for x in jax.tree.leaves(nnx.state(model, nnx.LoRAParam))]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(bits(a), bits(b), strict=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, fit(folder)


def test_the_loss_falls_and_every_step_is_recorded(whole):
    folder, done = whole
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert records == list(done.history)
    steps = [r["step"] for r in records if "loss" in r]
    assert steps == list(range(1, STEPS + 1))
    evaluated = [r["step"] for r in records if "eval_loss" in r]
    assert evaluated == [2, 4, 6, 8]
    losses = [r["eval_loss"] for r in records if "eval_loss" in r]
    assert losses[-1] < losses[0]
    assert done.best_eval_loss == min(losses)
    assert done.stopped_by == "max_steps"
    assert done.skipped_steps == 0
    assert records[-2]["tokens"] == done.tokens


@pytest.mark.parametrize("stop_after", [1, 3])
def test_an_interrupted_run_goes_on_bit_for_bit(whole, tmp_path, stop_after):
    said = []
    stopped = fit(tmp_path, stop_after=stop_after)
    assert stopped.stopped_by == "interrupt"
    assert stopped.steps == stop_after
    done = fit(tmp_path, said=said)
    assert said == [f"going on after step {stop_after} of {STEPS}"]
    assert same(done.model, whole[1].model)
    kept = ("step", "loss", "eval_loss", "grad_norm", "tokens")
    for a, b in zip(done.history, whole[1].history, strict=True):
        assert {k: a.get(k) for k in kept} == {k: b.get(k) for k in kept}


def test_a_finished_run_gives_its_model_again(whole):
    folder, done = whole
    again = fit(folder)
    assert same(again.model, done.model)
    assert again.history == done.history


def truncate(folder):
    # Orbax keeps some of the bytes twice, so every file of arrays is cut.
    for path in (folder / "arrays" / "d").iterdir():
        os.truncate(path, path.stat().st_size // 2)


def test_a_truncated_checkpoint_is_passed_over_and_said(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    steps = sorted(int(name) for name in os.listdir(folder / "checkpoints"))
    truncate(folder / "checkpoints" / str(steps[-1]))
    said = []
    done = fit(folder, said=said)
    assert f"checkpoint {steps[-1]} in checkpoints cannot be read" in said[0]
    assert said[1] == f"going on after step {steps[-2]} of {STEPS}"
    assert same(done.model, whole[1].model)


def test_a_checkpoint_of_the_same_size_with_other_bytes_is_passed_over(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    newest = max(folder.glob("checkpoints/*"), key=lambda path: int(path.name))
    (progress,) = (p for p in (newest / "progress").rglob("*") if b"tokens" in read(p))
    # JSON as valid as before, which only the seal can tell apart.
    digit = re.search(rb"[1-9]", read(progress))
    assert digit is not None
    changed = read(progress).replace(digit[0], b"%d" % (int(digit[0]) % 9 + 1), 1)
    progress.write_bytes(changed)
    said = []
    done = fit(folder, said=said)
    assert "not as they were written" in said[0]
    assert same(done.model, whole[1].model)


def read(path):
    return path.read_bytes() if path.is_file() else b""


def test_a_damaged_best_checkpoint_leaves_the_last_weights_and_says_so(tmp_path):
    wild: dict[str, Any] = {"learning_rate": 100.0, "max_grad_norm": 0.0}
    last = fit(tmp_path, **wild, load_best_model_at_end=False)
    truncate(tmp_path / "checkpoints" / str(last.best_step))
    said = []
    done = fit(tmp_path, said=said, **wild)
    assert f"checkpoint {last.best_step} in checkpoints cannot be read" in said[-1]
    assert "the last weights are the result" in said[-1]
    assert same(done.model, last.model)


def test_a_resumed_run_still_knows_its_best_checkpoint(tmp_path):
    wild: dict[str, Any] = {
        "learning_rate": 100.0,
        "max_grad_norm": 0.0,
        "save_total_limit": 1,
    }
    fit(tmp_path, stop_after=5, **wild)
    done = fit(tmp_path, **wild)
    kept = {int(name) for name in os.listdir(tmp_path / "checkpoints")}
    assert done.best_step is not None
    assert done.best_step <= 4
    assert kept == {done.best_step, 8}


def test_with_no_whole_checkpoint_it_starts_again_and_says_so(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    for step in (folder / "checkpoints").iterdir():
        truncate(step)
    said = []
    done = fit(folder, said=said)
    assert len(said) == len(os.listdir(whole[0] / "checkpoints"))
    assert all("cannot be read" in text for text in said)
    assert same(done.model, whole[1].model)


def test_the_last_and_the_best_checkpoint_stay(tmp_path):
    # So high a rate that the first evaluation is the best.
    done = fit(tmp_path, learning_rate=100.0, max_grad_norm=0.0, save_total_limit=2)
    kept = sorted(int(name) for name in os.listdir(tmp_path / "checkpoints"))
    assert done.best_step not in (6, 8)
    assert kept == [done.best_step, 6, 8]
    last = fit(
        tmp_path, learning_rate=100.0, max_grad_norm=0.0, load_best_model_at_end=False
    )
    assert not same(done.model, last.model)


def test_patience_ends_a_run_that_does_not_gain(tmp_path):
    done = fit(
        tmp_path, learning_rate=100.0, max_grad_norm=0.0, early_stopping_patience=1
    )
    assert done.stopped_by == "patience"
    assert done.steps < STEPS
    assert done.best_step is not None
    assert done.best_step < done.steps
    assert same(
        fit(
            tmp_path, learning_rate=100.0, max_grad_norm=0.0, early_stopping_patience=1
        ).model,
        done.model,
    )


def test_a_run_that_is_never_finite_stops_and_says_why(tmp_path):
    model = make()
    model.norm.scale[...] = model.norm.scale[...] * np.inf
    with pytest.raises(FloatingPointError, match="10 steps in a row .* learning_rate"):
        fit(tmp_path, model=model, steps=30, eval_steps=30)


def test_a_model_without_adapters_needs_full_training(tmp_path):
    with pytest.raises(ValueError, match="no adapters to train; lora.attach"):
        fit(tmp_path, model=make(adapters=False))


@pytest.mark.slow
def test_full_training_resumes_bit_for_bit(tmp_path):
    def run(folder, **options):
        model = make(adapters=False)
        return fit(folder, model=model, full=True, learning_rate=1e-3, **options)

    done = run(tmp_path / "a")
    run(tmp_path / "b", stop_after=3)
    again = run(tmp_path / "b")
    states = [jax.tree.leaves(nnx.state(x.model, nnx.Param)) for x in (done, again)]
    for a, b in zip(*states, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_mesh_of_eight_trains_to_the_same_model(tmp_path):
    one = fit(tmp_path / "one", gradient_accumulation_steps=1)
    many = fit(tmp_path / "many", data_parallel_size=2, tensor_parallel_size=4)
    assert [r["step"] for r in many.history] == [r["step"] for r in one.history]
    for a, b in zip(one.history, many.history, strict=True):
        name = "loss" if "loss" in a else "eval_loss"
        assert a[name] == pytest.approx(b[name], rel=1e-5)
    assert {
        leaf.sharding.device_set.__len__() for leaf in jax.tree.leaves(many.model)
    } == {1}


def test_tensorboard_reads_the_records(tmp_path):
    loader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_file_loader"
    )
    fit(tmp_path, steps=2)
    (path,) = (tmp_path / "tensorboard").glob("events.*")
    found = {}
    for event in loader.LegacyEventFileLoader(str(path)).Load():
        for value in event.summary.value:
            found[value.tag, event.step] = value.simple_value
    records = (tmp_path / "metrics.jsonl").read_text().splitlines()
    losses = {r["step"]: r["loss"] for r in map(json.loads, records) if "loss" in r}
    assert set(losses) == {1, 2}
    for step, loss in losses.items():
        assert found["loss", step] == pytest.approx(loss)
