"""A run from data to proof: what it leaves, how it goes on, and what it refuses."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from simplex_jax import (
    data,
    export,
    gguf,
    lora,
    models,
    pipeline,
    schedules,
    specialists,
    text,
    train,
)
from simplex_jax.pipeline._run import _open

LIMIT = 128
LORA = {"r": 2, "target_modules": ["q_proj", "v_proj"]}
TRAINING = {
    "max_steps": 3,
    "per_device_train_batch_size": 1,
    "max_length": LIMIT,
    "learning_rate": 0.02,
    # A third of the time that the step's program takes to compile.
    "gradient_checkpointing": False,
}


@pytest.fixture(scope="module")
def base(tiny_llama, tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "tiny.gguf"
    model, tokenizer = tiny_llama
    models.save_gguf(model, tokenizer, path, "f32")
    return path


@pytest.fixture(scope="module")
def finished(base, tmp_path_factory):
    """A whole run on a user's own file, with whatever proof this machine can give."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "own.jsonl").write_text(own_lines())
    return completed(from_file(base, folder / "own.jsonl"), folder / "tiny-own")


@pytest.fixture(scope="module")
def specialist(base, tmp_path_factory):
    """A whole run on a generator, where llama-cpp-python is not installed."""
    with without_llama_cpp():
        return completed(sentiment(base), tmp_path_factory.mktemp("specialist") / "run")


def completed(config, folder):
    records, said, stages = [], [], []
    listener = pipeline.Listener(
        say=said.append,
        stage=stages.append,
        record=lambda record, steps: records.append(dict(record)),
    )
    manifest = pipeline.run(config, folder, listener)
    return Finished(folder, manifest, records, said, stages)


@dataclasses.dataclass
class Finished:
    folder: Path
    manifest: dict
    records: list
    said: list
    stages: list


@contextlib.contextmanager
def without_llama_cpp():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "llama_cpp", None)
        yield


def sentiment(base, *more):
    return pipeline.make_config(
        {
            "specialist": "sentiment_analysis",
            "base": str(base),
            "lora": LORA,
            "training": TRAINING,
            "data": {
                "train_examples": 12,
                "validation_examples": 2,
                "heldout_examples": 6,
            },
            "export": {"type": "f32"},
        },
        *more,
    )


def from_file(base, path, *more):
    shares = {"heldout_fraction": 0.3, "validation_fraction": 0.2}
    return pipeline.make_config(
        {
            "base": str(base),
            "lora": LORA,
            "training": TRAINING,
            "data": {"file": str(path), **shares},
            "export": {"type": "f32"},
        },
        *more,
    )


def pair(prompt, response):
    return {"prompt": prompt, "response": response}


def chat(*contents, system=None):
    roles = ("user", "assistant")
    turns = [
        {"role": roles[i % 2], "content": content} for i, content in enumerate(contents)
    ]
    first = [{"role": "system", "content": system}] if system else []
    return {"messages": first + turns}


def own_lines():
    lines = [pair(f"What is {i} plus one?", f"It is {i + 1}.") for i in range(12)]
    lines += [chat(f"Say {i}.", f"{i}!", "Again.", f"{i}?!") for i in range(6)]
    lines += [chat(f"Hello {i}", "Hi.", system="Be brief.") for i in range(4)]
    # The same question with another answer is another example, of the same side.
    lines += [pair(f"What is {i} plus one?", f"{i + 1}, of course.") for i in range(6)]
    # The same conversation in both forms is one example.
    lines += [lines[3], chat("What is 4 plus one?", "It is 5.")]
    lines += [pair(f"Repeat {i}: " + "word " * 140, "word") for i in range(8)]
    return "".join(json.dumps(line) + "\n" for line in lines)


def stop_after(records):
    """Return a listener that asks to stop after so many records."""
    seen = []
    return pipeline.Listener(
        record=lambda record, steps: seen.append(record),
        should_stop=lambda: len(seen) >= records,
    )


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def refusal(config, folder, listener=None):
    with pytest.raises((ValueError, OSError)) as error:
        pipeline.run(config, folder, listener)
    return str(error.value)


def adapter(folder):
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def lines_of(folder):
    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def merged_by_hand(base, folder):
    model, tokenizer = models.load(base)
    return lora.merge(lora.load_peft(model, folder / "adapter")), tokenizer


forward = jax.jit(lambda model, ids: model(ids))


def logits(model, ids):
    """Return the logits after each token of one text; padded, so that all share one."""
    padded = np.zeros((1, LIMIT), np.int32)
    padded[0, : len(ids)] = ids
    return np.asarray(forward(model, jnp.asarray(padded)))[0, : len(ids)]


def some_ids(tokenizer):
    return tokenizer.encode("What the run has learned, in short: nothing.")


# What a run leaves.


def test_the_folder_holds_all_that_is_promised(finished):
    folder = finished.folder
    for name in (
        "manifest.json",
        "metrics.jsonl",
        "data/train.jsonl",
        "data/validation.jsonl",
        "data/heldout.jsonl",
        "checkpoints",
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "tiny-own-f32.gguf",
        "Modelfile",
        "report.html",
        "README.md",
    ):
        assert (folder / name).exists(), name
    assert not list(folder.rglob("*.tmp"))
    told = json.loads(json.dumps(finished.manifest))
    assert json.loads((folder / "manifest.json").read_text()) == told


def test_the_manifest_says_what_was_done(finished, base):
    manifest = finished.manifest
    assert manifest["status"] == "finished"
    assert manifest["name"] == "tiny-own"
    file = finished.folder.parent / "own.jsonl"
    assert manifest["config"] == from_file(base, file).to_json()
    assert manifest["versions"]["jax"] == jax.__version__
    assert manifest["training"]["steps"] == 3
    assert manifest["training"]["stopped_by"] == "max_steps"
    assert manifest["training"]["skipped_steps"] == 0
    # q and v of two layers: 64 x 2 and 2 x 64, 64 x 2 and 2 x 32.
    assert manifest["base"]["trainable"] == 2 * (128 + 128 + 128 + 64)
    stages = ["load", "data", "before", "training", "after"]
    stages += ["export", "parity", "verify"]
    assert list(manifest["seconds"]) == finished.stages == stages
    assert "answers" not in manifest
    heldout = data.read_jsonl(finished.folder / "data" / "heldout.jsonl")
    pairs = {(example.prompt, example.response) for example in heldout}
    for sample in manifest["samples"]:
        assert (sample["prompt"], sample["expected"]) in pairs
        assert set(sample) == {"prompt", "expected", "before", "after"}


def test_the_manifest_gives_each_file_with_its_size_and_hash(finished):
    files = finished.manifest["files"]
    assert set(files) == {
        "tiny-own-f32.gguf",
        "Modelfile",
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
    }
    for name, facts in files.items():
        content = (finished.folder / name).read_bytes()
        assert facts["bytes"] == len(content)
        assert facts["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_metrics_are_the_records_that_were_told(finished):
    records = lines_of(finished.folder)
    assert records == finished.records
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3]
    assert [r["step"] for r in records if "eval_loss" in r] == [1, 2, 3]
    best = min((r["eval_loss"], r["step"]) for r in records if "eval_loss" in r)
    trained = finished.manifest["training"]
    assert best == (trained["best_eval_loss"], trained["best_step"])
    assert (finished.folder / "checkpoints" / str(best[1])).is_dir()


def test_the_file_is_proven_in_llama_cpp_and_the_report_says_so(finished):
    pytest.importorskip("llama_cpp")
    proof, answer = finished.manifest["verification"], finished.manifest["chat"]
    assert proof["passed"], proof["problems"]
    assert proof["path"] == "tiny-own-f32.gguf"
    assert proof["file_type"] == "ALL_F32"
    assert len(proof["checks"]) == len(export.PROMPTS) + 1
    assert answer["prompt"] == finished.manifest["samples"][0]["prompt"]
    assert answer["completion_tokens"] > 0
    report = (finished.folder / "report.html").read_text()
    assert f"llama.cpp agrees with JAX on {len(proof['checks'])} prompts" in report
    card = (finished.folder / "README.md").read_text()
    assert "token ids equal on 7" in card


def test_the_modelfile_names_the_file_and_answers_as_it_was_judged(finished):
    modelfile = (finished.folder / "Modelfile").read_text()
    assert modelfile.startswith("FROM ./tiny-own-f32.gguf\n")
    assert f"PARAMETER num_ctx {LIMIT}" in modelfile
    assert "PARAMETER temperature 0" in modelfile


def test_evaluating_again_gives_the_figures_of_the_manifest(finished):
    stages = []
    listener = pipeline.Listener(stage=stages.append)
    figures = pipeline.evaluate(finished.folder, listener)
    assert figures == finished.manifest["evaluation"]["after"]
    assert stages == ["load", "data", "answers"]


def test_the_file_computes_what_base_and_adapter_compute(finished, base):
    merged, tokenizer = merged_by_hand(base, finished.folder)
    path = finished.folder / "tiny-own-f32.gguf"
    loaded, read_tokenizer = models.load(path)
    ids = some_ids(tokenizer)
    assert some_ids(read_tokenizer) == ids
    expected = logits(merged, ids)
    np.testing.assert_allclose(logits(loaded, ids), expected, atol=1e-5)
    # The run has changed something, or nothing was compared.
    untrained = logits(models.load(base)[0], ids)
    assert np.abs(untrained - expected).max() > 0.01
    with gguf.open(path) as file:
        assert file.metadata["general.name"] == "tiny-own"


def test_a_run_folder_is_exported_as_base_and_adapter(finished, base, tmp_path):
    written = export.export(finished.folder, tmp_path / "again.gguf", "f32")
    assert written.modelfile is not None
    assert abs(written.found["here"]["mean_kl_nats"]) < 1e-6
    found = nnx.to_flat_state(nnx.state(models.load(tmp_path / "again.gguf")[0]))
    expected = nnx.to_flat_state(nnx.state(merged_by_hand(base, finished.folder)[0]))
    for (path, ours), (_, theirs) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours[...], theirs[...], err_msg=str(path))


@pytest.mark.slow
def test_a_run_folder_continues_a_prompt_as_base_and_adapter(finished, base):
    pieces = export.complete(finished.folder, "The film was", max_new_tokens=5)
    model, tokenizer = merged_by_hand(base, finished.folder)
    ids = tokenizer.encode("The film was", add_special=True)
    expected = models.stream(model, tokenizer, ids, max_new_tokens=5)
    assert "".join(pieces) == "".join(expected)


# On the user's own file.


def test_own_examples_are_split_without_a_shared_prompt(finished):
    facts, splits = finished.manifest["data"], {}
    for split in ("train", "validation", "heldout"):
        splits[split] = data.read_jsonl(finished.folder / "data" / f"{split}.jsonl")
        assert len(splits[split]) == facts[split]["examples"] > 0
    prompts = {s: {data.prompt_hash(e) for e in found} for s, found in splits.items()}
    assert not prompts["train"] & prompts["heldout"]
    assert not prompts["train"] & prompts["validation"]
    assert not prompts["validation"] & prompts["heldout"]
    assert facts["duplicates_removed"] == 2
    assert sum(map(len, splits.values())) == 38 - 2


def test_own_examples_that_are_too_long_are_listed_and_told(finished):
    facts, listed = finished.manifest["data"], 0
    for split, key in (
        ("train", "too_long"),
        ("validation", "validation_too_long"),
        ("heldout", "heldout_too_long"),
    ):
        examples = data.read_jsonl(finished.folder / "data" / f"{split}.jsonl")
        for index, tokens in facts[key]:
            assert examples[index].prompt.startswith("Repeat ")
            assert tokens > LIMIT + 1
            listed += 1
    assert listed == 8
    first = facts["too_long"][0]
    assert any(f"#{first[0]} ({first[1]} tokens)" in text for text in finished.said)


def test_own_data_is_judged_by_loss_and_token_accuracy(finished, base):
    before, after = (finished.manifest["evaluation"][k] for k in ("before", "after"))
    model, tokenizer = models.load(base)
    # Once more without packing, one conversation at a time.
    total = hits = weight = 0.0
    for example in data.read_jsonl(finished.folder / "data" / "heldout.jsonl"):
        ids, loss = text.chat_tokens(example, tokenizer)
        if len(ids) > LIMIT + 1:
            continue
        z = logits(model, ids[:-1]).astype(np.float64)
        chosen = np.take_along_axis(z, ids[1:, None], axis=1)[:, 0]
        total += loss[1:] @ (np.log(np.exp(z).sum(axis=1)) - chosen)
        hits += loss[1:] @ (z.argmax(axis=1) == ids[1:])
        weight += loss[1:].sum()
    assert before["tokens"] == after["tokens"] == weight
    assert before["nll"] == pytest.approx(total / weight, rel=1e-5)
    assert before["token_accuracy"] == pytest.approx(hits / weight)
    assert after["nll"] < before["nll"]


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_with_the_same_bytes(finished, base, tmp_path):
    config = from_file(base, finished.folder.parent / "own.jsonl")
    folder = tmp_path / "run"
    with pytest.raises(pipeline.Interrupted, match="after step 1 of 3, which is saved"):
        pipeline.run(config, folder, stop_after(2))
    assert json.loads((folder / "manifest.json").read_text())["status"] == "running"
    assert (folder / "checkpoints" / "1").is_dir()
    said, stages = [], []
    listener = pipeline.Listener(say=said.append, stage=stages.append)
    with without_llama_cpp():
        ended = pipeline.run(config, folder, listener)
    assert "going on after step 1 of 3" in said
    assert "before" not in stages
    assert adapter(folder) == adapter(finished.folder)
    for key in ("evaluation", "samples", "data", "base"):
        assert ended[key] == finished.manifest[key]
    losses = [
        [(r["step"], r.get("loss"), r.get("eval_loss")) for r in lines_of(one)]
        for one in (folder, finished.folder)
    ]
    assert losses[0] == losses[1]


def test_the_best_checkpoint_outlives_an_interruption(tmp_path):
    arrays = {"x": jnp.arange(3.0)}
    for steps in (
        {1: 1.0, 2: float("nan"), 3: 2.0},
        {4: 3.0, 5: float("nan"), 6: None},
    ):
        checkpoints = train.Checkpoints(tmp_path, keep=1)
        for step, loss in steps.items():
            checkpoints.save(step, arrays, {"step": step}, loss)
        checkpoints.close()
        assert train.Checkpoints(tmp_path, keep=1).steps() == [1, max(steps)]


@pytest.mark.nightly
def test_a_run_ends_with_weights_from_before_it_was_stopped(finished, base, tmp_path):
    # So high a rate that the first evaluation is the best.
    rate = {"learning_rate": 100.0, "max_grad_norm": 0.0, "save_total_limit": 1}
    file = finished.folder.parent / "own.jsonl"
    config = from_file(
        base, file, {"training": {**rate, "lr_scheduler_type": "constant"}}
    )
    with without_llama_cpp():
        whole = pipeline.run(config, tmp_path / "whole")
        with pytest.raises(pipeline.Interrupted):
            pipeline.run(config, tmp_path / "run", stop_after(2))
        again = pipeline.run(config, tmp_path / "run")
    assert whole["training"]["best_step"] == again["training"]["best_step"] == 1
    assert adapter(tmp_path / "run") == adapter(tmp_path / "whole")
    assert again["evaluation"] == whole["evaluation"]


def test_a_run_judged_on_a_file_that_changed_is_not_judged_again(finished):
    file = finished.folder.parent / "own.jsonl"
    kept = file.read_text()
    try:
        file.write_text(kept.replace("plus one", "plus 1"))
        with pytest.raises(ValueError, match="other data .*; bring it back"):
            pipeline.evaluate(finished.folder)
    finally:
        file.write_text(kept)


@pytest.mark.slow
def test_training_in_full_leaves_a_model_that_loads(finished, base, tmp_path):
    file, folder = finished.folder.parent / "own.jsonl", tmp_path / "whole"
    full = {"training": {"full": True, "learning_rate": 1e-3}}
    manifest = pipeline.run(from_file(base, file, full), folder)
    assert not (folder / "adapter").exists()
    assert "model/model.safetensors" in manifest["files"]
    assert manifest["base"]["percent"] == 100
    loaded, tokenizer = models.load(folder / "model")
    ids = some_ids(tokenizer)
    expected = logits(loaded, ids)
    exported, _ = models.load(folder / "whole-f32.gguf")
    np.testing.assert_allclose(logits(exported, ids), expected, atol=1e-5)
    assert np.abs(logits(models.load(base)[0], ids) - expected).max() > 0.01
    assert pipeline.evaluate(folder) == manifest["evaluation"]["after"]


@pytest.mark.nightly
def test_a_run_in_bfloat16_opens_as_it_was_judged(finished, base, tmp_path):
    file, folder = finished.folder.parent / "own.jsonl", tmp_path / "narrow"
    config = from_file(base, file, {"training": {"bf16": True}})
    with without_llama_cpp():
        manifest = pipeline.run(config, folder)
    assert pipeline.evaluate(folder) == manifest["evaluation"]["after"]
    export.export(folder, tmp_path / "again.gguf", "f32", name="narrow")
    written = (folder / "narrow-f32.gguf").read_bytes()
    assert (tmp_path / "again.gguf").read_bytes() == written


@pytest.mark.nightly
def test_prompts_near_the_context_leave_room_for_a_short_answer(base, tmp_path):
    # The longest answers are taken for 1.5 times as long, which would not fit here.
    lines = [pair(f"{i} " + "word " * 75, "x " * 14) for i in range(12)]
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    manifest = pipeline.run(from_file(base, file), tmp_path / "run")
    assert manifest["status"] == "finished"
    assert all(sample["after"] for sample in manifest["samples"])


# On a generator.


@pytest.mark.slow
def test_a_specialist_is_judged_by_its_verifier(specialist):
    manifest, folder = specialist.manifest, specialist.folder
    sizes = {s: manifest["data"][s]["examples"] for s in ("train", "validation")}
    assert sizes == {"train": 12, "validation": 2}
    heldout = data.read_jsonl(folder / "data" / "heldout.jsonl")
    samples = manifest["samples"]
    assert [s["prompt"] for s in samples] == [e.prompt for e in heldout]
    for sample in samples:
        for when in ("before", "after"):
            found = specialists.verify(
                "sentiment_analysis", sample["prompt"], sample[when]
            )
            assert sample[f"{when}_correct"] == found.correct
            assert sample["expected"] == found.expected
    for when in ("before", "after"):
        correct = [s[f"{when}_correct"] for s in samples]
        figures = manifest["evaluation"][when]
        assert figures["prompts"] == len(heldout) == 6
        assert figures["accuracy"] == np.mean(correct)
    assert pipeline.evaluate(folder) == manifest["evaluation"]["after"]
    with pytest.raises(ValueError, match="holds this run, finished"):
        pipeline.run(pipeline.make_config(manifest["config"]), folder)


@pytest.mark.slow
def test_without_llama_cpp_the_run_ends_unproven_and_says_so(specialist):
    manifest, folder = specialist.manifest, specialist.folder
    assert manifest["status"] == "finished"
    assert "verification" not in manifest
    assert "chat" not in manifest
    said = "\n".join(specialist.said)
    assert "not verified: llama-cpp-python is not installed" in said
    assert "not compared with llama.cpp" in (folder / "report.html").read_text()
    card = (folder / "README.md").read_text()
    assert "Not computed: a comparison with llama.cpp." in card


# What is refused, and what stays as it was.


def test_a_finished_run_is_left_as_it_is(finished, base):
    kept = tree(finished.folder)
    file = finished.folder.parent / "own.jsonl"
    message = refusal(from_file(base, file), finished.folder)
    assert "holds this run, finished; give another --out" in message
    message = refusal(from_file(base, file, {"data": {"seed": 1}}), finished.folder)
    assert "another configuration (data.seed: 0 -> 1)" in message
    assert tree(finished.folder) == kept


@pytest.fixture
def unfinished(finished, tmp_path):
    """The folder of a run that was stopped while it trained."""
    folder = tmp_path / "unfinished"
    shutil.copytree(finished.folder, folder)
    for name in ("adapter", "tiny-own-f32.gguf", "Modelfile", "report.html"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    kept = ("samples", "files", "verification", "chat", "training")
    manifest = {k: v for k, v in finished.manifest.items() if k not in kept}
    manifest["status"] = "running"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_an_unfinished_run_is_no_model(unfinished, tmp_path):
    for use in (
        lambda: pipeline.evaluate(unfinished),
        lambda: export.export(unfinished, tmp_path / "x.gguf"),
        lambda: export.complete(unfinished, "x"),
    ):
        with pytest.raises(ValueError, match="is not finished; give the same train"):
            use()
    assert not (tmp_path / "x.gguf").exists()


def test_an_unfinished_run_goes_on_with_its_own_settings_only(
    finished, unfinished, base
):
    file, kept = finished.folder.parent / "own.jsonl", tree(unfinished)
    other = from_file(base, file, {"training": {"seed": 43}, "lora": {"r": 3}})
    message = refusal(other, unfinished)
    assert "another configuration (lora.r: 2 -> 3; training.seed: 42 -> 43)" in message
    assert tree(unfinished) == kept


def test_an_unfinished_run_goes_on_with_its_own_data_only(finished, unfinished, base):
    file, kept = finished.folder.parent / "own.jsonl", tree(unfinished)
    config, lines = from_file(base, file), file.read_text()
    try:
        file.write_text(lines.replace("It is 3.", "It is three."))
        message = refusal(config, unfinished)
    finally:
        file.write_text(lines)
    assert "begun with other data (data." in message
    assert "sha256" in message
    # The data in the folder may be the only copy that is left.
    changed = tree(unfinished)
    assert changed.pop("manifest.json") != kept.pop("manifest.json")
    assert changed == kept


def test_a_folder_with_other_files_is_left_as_it_is(base, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    message = refusal(sentiment(base), tmp_path)
    assert str(tmp_path) in message
    assert "holds no run; give another --out" in message
    assert tree(tmp_path) == {"thesis.txt": b"years of work"}


def test_a_file_is_no_folder(base, tmp_path):
    path = tmp_path / "out"
    path.write_text("mine")
    assert "holds no run; give another --out" in refusal(sentiment(base), path)
    assert path.read_text() == "mine"


def test_what_a_killed_write_left_is_nothing(base, tmp_path):
    (tmp_path / ".0123456789abcdef.tmp").write_text("{")
    listener = pipeline.Listener(should_stop=lambda: True)
    with pytest.raises(pipeline.Interrupted, match="stopped before load"):
        pipeline.run(sentiment(base), tmp_path, listener)
    assert "manifest.json" in tree(tmp_path)


@pytest.mark.parametrize("stage", ["before", "export"])
def test_stages_without_checkpoints_stop_on_the_way(base, tmp_path, stage):
    seen = []

    def share(share):
        seen.append((stages[-1], share))

    stages = []
    listener = pipeline.Listener(
        stage=stages.append,
        share=share,
        should_stop=lambda: bool(seen) and seen[-1][0] == stage,
    )
    with pytest.raises(pipeline.Interrupted, match="stopped; the same command goes on"):
        pipeline.run(sentiment(base), tmp_path / "run", listener)
    assert [at for at, _ in seen].count(stage) == 1
    assert not list(tmp_path.rglob("*.gguf"))


def test_an_empty_folder_is_taken(base, tmp_path):
    listener = pipeline.Listener(should_stop=lambda: True)
    with pytest.raises(pipeline.Interrupted, match="stopped before load"):
        pipeline.run(sentiment(base), tmp_path, listener)
    assert set(tree(tmp_path)) == {"manifest.json"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"status": "runn', "not JSON"),
        ("[]", "not the manifest of a run"),
        ('{"status": "running", "name": "x"}', "not the manifest of a run"),
        ("\x00\x01", "not JSON"),
    ],
)
def test_a_damaged_manifest_is_named_and_kept(base, tmp_path, content, message):
    (tmp_path / "manifest.json").write_text(content)
    kept = tree(tmp_path)
    for use in (
        lambda: pipeline.run(sentiment(base), tmp_path),
        lambda: pipeline.evaluate(tmp_path),
        lambda: export.export(tmp_path, tmp_path / "x.gguf"),
        lambda: export.complete(tmp_path, "x"),
    ):
        with pytest.raises(ValueError, match=f"manifest.json: {message}"):
            use()
    assert tree(tmp_path) == kept


def test_a_folder_without_a_run_cannot_be_judged(tmp_path):
    with pytest.raises(ValueError, match="is not the folder of a run"):
        pipeline.evaluate(tmp_path)
    with pytest.raises(ValueError, match="is not the folder of a run"):
        pipeline.evaluate(tmp_path / "absent")


def test_a_base_without_a_chat_template_is_refused(base, tmp_path):
    model, tokenizer = models.load(base)
    plain = tmp_path / "plain.gguf"
    mute = dataclasses.replace(tokenizer, chat_template=None)
    models.save_gguf(model, mute, plain, "f32")
    message = refusal(sentiment(plain), tmp_path / "run")
    assert "plain.gguf' has no chat template; take one that was tuned" in message


def test_a_mistake_before_the_first_answers_can_be_put_right(base, tmp_path):
    folder = tmp_path / "run"
    message = refusal(sentiment(base, {"base": "smollm3"}), folder)
    assert "'smollm3' is neither a file, nor a folder, nor a known base" in message
    message = refusal(sentiment(base, {"specialist": "sentiment"}), folder)
    assert "no generator 'sentiment'" in message
    message = refusal(sentiment(base, {"training": {"max_length": 129}}), folder)
    assert "training.max_length is 129, and the model's context is 128" in message
    message = refusal(sentiment(base, {"lora": {"target_modules": ["q_prj"]}}), folder)
    assert "'q_prj' (nearest: q_proj, v_proj) matches no module" in message
    stages = []
    listener = pipeline.Listener(
        stage=stages.append, should_stop=lambda: "data" in stages
    )
    with pytest.raises(pipeline.Interrupted, match="stopped before before"):
        pipeline.run(sentiment(base), folder, listener)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["config"] == sentiment(base).to_json()


@pytest.mark.parametrize(
    ("lines", "more", "message"),
    [
        ('{"prompt": "a", "response": "b"}\n{"prompt": "a"\n', {}, "line 2: not JSON"),
        ('{"prompt": "a", "response": ""}\n', {}, "line 1: the assistant turn is"),
        ('{"promt": "a", "response": "b"}\n', {}, "line 1: found 'promt', 'response'"),
        ("", {}, "no example in the file; write one JSON object a line"),
        ("\n\n", {}, "no example in the file"),
        ('{"prompt": "a", "response": "b"}\n' * 3, {}, "1 distinct prompts; splitting"),
        (
            "".join(f'{{"prompt": "{i}", "response": "b"}}\n' for i in range(2)),
            {},
            "data.validation_fraction=0 does without",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(base, tmp_path, lines, more, message):
    file = tmp_path / "own.jsonl"
    file.write_text(lines)
    found = refusal(from_file(base, file, more), tmp_path / "run")
    assert found.startswith(str(file))
    assert message in found
    assert file.read_text() == lines


def test_examples_that_cannot_be_used_are_named(base, tmp_path):
    file, folder = tmp_path / "own.jsonl", tmp_path / "run"
    message = refusal(from_file(base, tmp_path / "absent.jsonl"), folder)
    assert "absent.jsonl" in message
    file.write_text(own_lines())
    message = refusal(from_file(base, file, {"data": {"strict": True}}), folder)
    assert message.startswith("train data, training.max_length: ")
    assert "have more than 129 tokens: #" in message
    greeting = {"messages": [{"role": "assistant", "content": "Welcome!"}]}
    file.write_text(own_lines() + json.dumps(greeting) + "\n")
    message = refusal(from_file(base, file), folder)
    assert "'Welcome!': no user turn; give the assistant something" in message
    short = {"training": {"max_length": 8}}
    file.write_text(own_lines())
    assert "raise length, or shorten" in refusal(from_file(base, file, short), folder)


def test_strict_looks_at_held_out_examples_too(base, tmp_path):
    lines = [pair(f"What is {i}?", "One.") for i in range(20)]
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = from_file(base, file)
    _, heldout = data.split_by_hash(
        data.read_jsonl(file), config.data.heldout_fraction, seed=config.data.seed
    )
    # A longer answer to the same prompt stays on its side.
    lines += [pair(heldout[0].prompt, "word " * 140)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    strict = from_file(base, file, {"data": {"strict": True}})
    message = refusal(strict, tmp_path / "run")
    assert message.startswith("heldout data, training.max_length: 1 of ")


def test_a_full_disk_leaves_the_old_manifest_whole(base, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with pytest.raises(pipeline.Interrupted):
        listener = pipeline.Listener(should_stop=lambda: True)
        pipeline.run(sentiment(base), folder, listener)
    kept = tree(folder)

    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        message = refusal(sentiment(base), folder)
    assert "No space left on device" in message
    assert "manifest.json" in message
    assert tree(folder) == kept
    assert _open(folder, sentiment(base))["status"] == "running"


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["training", "export"])
def test_a_run_goes_on_where_the_disk_was_full(
    finished, base, tmp_path, monkeypatch, stage
):
    config = from_file(base, finished.folder.parent / "own.jsonl")
    folder = tmp_path / "run"

    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def began(name):
        if name == stage:
            monkeypatch.setattr(os, "fsync", full)

    message = refusal(config, folder, pipeline.Listener(stage=began))
    monkeypatch.undo()
    assert "No space left on device" in message
    assert ("metrics.jsonl" if stage == "training" else "run-f32.gguf") in message
    assert not list(folder.glob("*.gguf"))
    assert not list(folder.rglob(".*.tmp"))
    assert json.loads((folder / "manifest.json").read_text())["status"] == "running"
    with without_llama_cpp():
        assert pipeline.run(config, folder)["status"] == "finished"
    assert adapter(folder) == adapter(finished.folder)


def learned(base, **training):
    changes = {"lr_scheduler_type": "learned", **training}
    return sentiment(base, {"training": changes})


@pytest.mark.nightly
def test_a_learned_rate_is_told_and_passed_on(base, tmp_path):
    with without_llama_cpp():
        first = completed(learned(base), tmp_path / "first")
        found = first.manifest["learned_rate"]
        # Three steps are too few to be interrupted.
        assert found["adaptations"] == 0 and found["start"] == found["end"]
        path = first.folder / "schedule.json"
        second = completed(
            learned(base, lr_schedule_file=str(path), learning_rate=1.0),
            tmp_path / "second",
        )
    assert second.manifest["learned_rate"]["start"] == found["end"]
    assert adapter(second.folder) == adapter(first.folder)
    assert "Learned learning rate" in (first.folder / "report.html").read_text()


def test_a_schedule_that_cannot_be_used_is_told_before_anything_is_done(base, tmp_path):
    path = tmp_path / "schedule.json"
    schedules.save(schedules.LearnableBits.default(), path)
    config = learned(base, lr_schedule_file=str(path))
    assert "holds no learning rate" in refusal(config, tmp_path / "run")
    path.unlink()
    assert str(path) in refusal(config, tmp_path / "run")
    assert tree(tmp_path / "run") == {}
