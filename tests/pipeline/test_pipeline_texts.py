"""A language model from plain text: what a run leaves, measures, and refuses."""

import contextlib
import dataclasses
import json
import math
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simplex_jax import export, models, pipeline, text
from simplex_jax.pipeline._run import _load
from simplex_jax.text import Tokenizer

NAMES = "Ann Ben Cleo Dan Eve Finn".split()
THINGS = "lamp rope boat letter dog loaf".split()
SMALL = {
    "model": {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
    },
    "training": {
        "full": True,
        "max_steps": 6,
        "per_device_train_batch_size": 4,
        "max_length": 32,
        "learning_rate": 0.03,
        "gradient_checkpointing": False,
        "eval_steps": 3,
    },
    "data": {"heldout_fraction": 0.2, "validation_fraction": 0.2},
    "export": {"type": "f32"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve short documents, and a thirteenth that is a copy."""
    path = tmp_path_factory.mktemp("texts")
    drawn = np.random.default_rng(0)
    for i in range(12):
        lines = [
            f"{NAMES[a]} gave the {THINGS[b]} to {NAMES[c]}.\n"
            for a, b, c in drawn.integers(0, 6, (20, 3))
        ]
        (path / f"{i:02d}.txt").write_text(f"# Größe {i}\n\n" + "".join(lines))
    (path / "copy.md").write_text((path / "03.txt").read_text())
    return path


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "tales"
    # The proof takes as long as all the rest, and has a test of its own.
    with without_llama_cpp():
        return out, pipeline.run(texts(folder), out)


@contextlib.contextmanager
def without_llama_cpp():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "llama_cpp", None)
        yield


def texts(folder, *more):
    start = {"task": "lm", "data": {"file": str(folder)}}
    return pipeline.make_config(SMALL, start, *more)


def refusal(config, out):
    with pytest.raises((ValueError, OSError)) as error:
        pipeline.run(config, out)
    return str(error.value)


def documents_of(out):
    lines = (out / "data" / "documents.jsonl").read_text().splitlines()
    splits = {}
    for line in map(json.loads, lines):
        splits.setdefault(line["split"], []).append(line["document"])
    return splits


def test_the_folder_holds_model_tokenizer_file_and_report(finished):
    out, manifest = finished
    for name in (
        "tales-f32.gguf",
        "model/model.safetensors",
        "model/tokenizer.json",
        "tokenizer/tokenizer.json",
        "metrics.jsonl",
        "report.html",
        "README.md",
    ):
        assert (out / name).is_file(), name
    assert not (out / "Modelfile").exists()
    assert manifest["status"] == "finished"
    assert manifest["task"] == "lm"
    assert manifest["base"]["percent"] == 100
    assert manifest["config"] == texts(manifest["config"]["data"]["file"]).to_json()
    assert json.loads((out / "manifest.json").read_text()) == manifest


def test_documents_are_split_whole_and_copies_left_out(finished, folder):
    out, manifest = finished
    splits = documents_of(out)
    assert set(splits) == {"train", "validation", "heldout"}
    every = sorted(name for names in splits.values() for name in names)
    # The copy has the same text, so one of the two is left, by name the first.
    assert every == [f"{i:02d}.txt" for i in range(12)]
    for split, names in splits.items():
        facts = manifest["data"][split]
        assert facts["documents"] == len(names)
        assert facts["bytes"] == sum((folder / n).stat().st_size for n in names)


def test_the_tokenizer_comes_from_the_training_documents_alone(finished, folder):
    out, _ = finished
    training = documents_of(out)["train"]
    trained = text.train_bpe([(folder / n).read_text() for n in training], 300)
    kept = Tokenizer.from_hf(out / "tokenizer")
    assert (kept.tokens, kept.merges) == (trained.tokens, trained.merges)


def test_the_figures_are_those_of_every_heldout_token_once(finished, folder):
    out, manifest = finished
    model, tokenizer = models.load(out / "model")
    forward = jax.jit(lambda tokens: jax.nn.log_softmax(model(tokens)))
    nats, tokens, size = 0.0, 0, 0
    for name in documents_of(out)["heldout"]:
        content = (folder / name).read_text()
        ids = text.document_tokens(content, tokenizer)
        assert tokenizer.decode(ids.tolist(), skip_special=True) == content
        size += len(content.encode())
        tokens += len(ids) - 1
        for piece, _ in text.token_windows(ids, 32):
            padded = np.zeros((1, 32), np.int32)
            padded[0, : len(piece) - 1] = piece[:-1]
            logprobs = np.asarray(forward(jnp.asarray(padded)))[0]
            at = np.arange(len(piece) - 1)
            nats -= logprobs[at, piece[1:]].sum(dtype=np.float64)
    after = manifest["evaluation"]["after"]
    assert (after["tokens"], after["bytes"]) == (tokens, size)
    assert after["nll"] == pytest.approx(nats / tokens, rel=1e-5)
    bits = nats / math.log(2) / size
    assert after["bits_per_byte"] == pytest.approx(bits, rel=1e-5)
    before = manifest["evaluation"]["before"]
    # A model that knows nothing gives every token the same chance.
    assert before["nll"] == pytest.approx(math.log(tokenizer.vocab_size), abs=0.1)
    assert after["nll"] < before["nll"] - 0.5


def test_evaluating_again_gives_the_same_figures(finished):
    out, manifest = finished
    assert pipeline.evaluate(out) == manifest["evaluation"]["after"]


def test_samples_go_on_from_heldout_text(finished, folder):
    out, manifest = finished
    heldout = [(folder / n).read_text() for n in documents_of(out)["heldout"]]
    assert manifest["samples"]
    for sample in manifest["samples"]:
        assert any(sample["prompt"] + sample["expected"] in whole for whole in heldout)
        assert isinstance(sample["after"], str)


def test_report_and_card_say_what_was_measured(finished):
    out, manifest = finished
    report, card = ((out / n).read_text() for n in ("report.html", "README.md"))
    bits = f"{manifest['evaluation']['after']['bits_per_byte']:.3f}"
    for page in (report, card):
        assert "Bits per byte" in page
        assert bits in page
    assert "tokens in" in report and "Documents" in report
    assert "trained from scratch on plain text" in card
    assert "lora" not in card.split("---")[1]


@pytest.mark.slow
def test_the_file_is_proven_in_llama_cpp(folder, tmp_path):
    pytest.importorskip("llama_cpp")
    manifest = pipeline.run(texts(folder), tmp_path / "run")
    assert manifest["verification"]["passed"], manifest["verification"]["problems"]
    assert manifest["chat"] is None
    assert manifest["parity"]["llama_cpp"]["differing_token_ids"] == 0


@pytest.mark.nightly
def test_a_governed_model_ends_as_a_folder_and_has_no_gguf_file(folder, tmp_path):
    governed = {"model": {"governance": {"memory": "both", "policy_rank": 3}}}
    said, out = [], tmp_path / "run"
    listener = pipeline.Listener(say=said.append)
    manifest = pipeline.run(texts(folder, governed), out, listener)
    assert manifest["status"] == "finished"
    assert any("no GGUF file" in line for line in said)
    assert not list(out.glob("*.gguf"))
    assert "verification" not in manifest
    model, _ = models.load(out / "model")
    assert model.config.governance is not None
    assert model.config.governance.policy_rank == 3
    assert pipeline.evaluate(out) == manifest["evaluation"]["after"]
    # It is the same model untrained, and another one trained.
    assert (
        manifest["evaluation"]["after"]["nll"] < manifest["evaluation"]["before"]["nll"]
    )
    with pytest.raises(ValueError, match="governance"):
        export.export(out, tmp_path / "x.gguf", "f32")


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_weights(finished, folder, tmp_path):
    seen = []
    listener = pipeline.Listener(
        record=lambda record, steps: seen.append(record),
        should_stop=lambda: len(seen) >= 3,
    )
    with without_llama_cpp():
        with pytest.raises(pipeline.Interrupted):
            pipeline.run(texts(folder), tmp_path / "run", listener)
        pipeline.run(texts(folder), tmp_path / "run")
    weights = "model/model.safetensors"
    again, once = (p / weights for p in (tmp_path / "run", finished[0]))
    assert again.read_bytes() == once.read_bytes()


def test_other_texts_are_another_run(finished, folder, tmp_path):
    out = tmp_path / "begun"
    shutil.copytree(finished[0], out)
    changed = tmp_path / "texts"
    shutil.copytree(folder, changed)
    heldout = documents_of(out)["heldout"][0]
    (changed / heldout).write_text("something else\n" * 20)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["config"]["data"]["file"] = str(changed)
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="judged on other data"):
        pipeline.evaluate(out)


def test_nothing_but_a_folder_gives_the_small_model():
    config = pipeline.make_config(
        {"task": "lm", "data": {"file": "x"}, "training": {"full": True}}
    )
    assert (config.base, config.model) == (None, pipeline.SMALL_MODEL)
    assert pipeline.make_config(config.to_json()) == config
    wider = pipeline.make_config(config.to_json(), {"model": {"hidden_size": 256}})
    # Written down with its head_dim, so that is what stays.
    assert wider.model is not None and wider.model.head_dim == 32
    named = pipeline.make_config(
        {"task": "lm", "training": {"full": True}, "model": {"hidden_size": 256}},
        {"data": {"file": "x"}},
    )
    assert named.model is not None and named.model.head_dim == 64


def test_a_base_can_be_trained_on_text_with_adapters_or_in_full():
    for full in (False, True):
        config = pipeline.make_config(
            {"task": "lm", "base": "smollm2-135m", "data": {"file": "x"}},
            {"training": {"full": full}},
        )
        assert (config.base, config.model) == ("smollm2-135m", None)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"training": {"full": False}}, "give --full, or a base"),
        ({"specialist": "neural_ir"}, "task lm: specialist is 'neural_ir'"),
        ({"base": "smollm2-135m"}, "model.* is for training from scratch"),
        ({"model": {"hiden_size": 3}}, "did you mean model.hidden_size"),
        ({"model": {"vocab_size": 0}}, "model.vocab_size is 0; give at least 1"),
        ({"model": {"num_attention_heads": 3}}, "model.hidden_size is 32"),
        ({"model": {"rope_scaling": {"factr": 2.0}}}, "model.rope_scaling.factr"),
        ({"model": {"rope_scaling": {}}}, "model.rope_scaling."),
        (
            {"model": {"governance": {"memory": "all"}}},
            "model.governance.memory is 'all'; give one of none, forget, delta, both",
        ),
        ({"model": {"governance": {"policies": True}}}, "model.governance.policy"),
        ({"model": {"governance": True}}, "model.governance is True"),
        ({"task": "ml"}, "task is 'ml'; give nothing or 'lm'"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(folder, layer, message):
    with pytest.raises(ValueError) as error:
        texts(folder, layer)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"training": {"max_length": 65}}, "the model's context is 64"),
        ({"model": {"vocab_size": 200}}, "model.vocab_size is 200; give at least 258"),
        (
            {"data": {"heldout_fraction": 0.99}},
            "leaves 1 of 12 documents for training and validation",
        ),
    ],
)
def test_texts_and_sizes_that_do_not_fit_are_refused(folder, tmp_path, layer, message):
    assert message in refusal(texts(folder, layer), tmp_path / "run")


def test_too_little_text_is_refused_with_what_is_there(tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    assert "holds no text" in refusal(texts(few), tmp_path / "run")
    for i in range(2):
        (few / f"{i}.txt").write_text(f"the cat and the mat, {i}")
    assert "holds 2 distinct documents, and 3 are needed" in refusal(
        texts(few), tmp_path / "run"
    )
    (few / "3.txt").write_text("the rat")
    message = refusal(texts(few), tmp_path / "run")
    assert "do not fill a single row of 32" in message
    (few / "3.txt").write_bytes(b"\xff\xfe")
    assert "3.txt is not UTF-8" in refusal(texts(few), tmp_path / "run")


def test_a_vocabulary_that_the_text_cannot_fill_is_smaller(folder, tmp_path):
    config = texts(folder, {"model": {"vocab_size": 5000}})
    assert config.model is not None
    model, tokenizer = _load(config)
    assert model.config.vocab_size == tokenizer.vocab_size < 5000
    assert model.config == dataclasses.replace(
        config.model, vocab_size=tokenizer.vocab_size
    )
