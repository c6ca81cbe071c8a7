"""How far a file is from its source: by the definitions, with llama.cpp and without."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simplex_jax import data, export, gguf, models
from simplex_jax.export._parity import chat_rows, text_rows
from simplex_jax.export._passage import PASSAGE


@pytest.fixture(scope="module")
def model(tiny_llama):
    # Weights of 0.02 would leave every distribution nearly uniform.
    return jax.tree.map(lambda x: x * 6 if x.ndim > 1 else x, tiny_llama[0])


@pytest.fixture(scope="module")
def rows(model, tiny_llama):
    return text_rows(model, tiny_llama[1], PASSAGE[:1200])


def save(model, tiny_llama, folder, file_type):
    path = folder / "small.gguf"
    models.save_gguf(model, tiny_llama[1], path, file_type)
    return path


def logprobs(model, ids):
    logits = np.asarray(model(jnp.asarray([ids]))[0], np.float64)
    logits -= logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def expected(model, other, rows):
    divergence, same, ours, theirs = [], [], [], []
    for ids in rows:
        p, q = logprobs(model, ids), logprobs(other, ids)
        divergence.append((np.exp(p) * (p - q)).sum(-1))
        same.append(p.argmax(-1) == q.argmax(-1))
        following = (np.arange(len(ids) - 1), ids[1:])
        ours.append(p[following])
        theirs.append(q[following])
    mean = [float(np.concatenate(x).mean()) for x in (divergence, same, ours, theirs)]
    return mean[0], mean[1], np.exp(-mean[2]), np.exp(-mean[3])


def test_figures_are_what_their_names_say(model, tiny_llama, rows, tmp_path):
    path = save(model, tiny_llama, tmp_path, "q4_0")
    shares = []
    found = export.parity(path, model, tiny_llama[1], rows, progress=shares.append)
    kl, top1, ours, theirs = expected(model, models.load_gguf(path)[0], rows)
    assert kl > 1e-4
    assert found["here"]["mean_kl_nats"] == pytest.approx(kl, rel=1e-3)
    assert found["here"]["top1_agreement"] == pytest.approx(top1)
    assert found["here"]["perplexity"] == pytest.approx(theirs, rel=1e-4)
    assert found["source"]["perplexity"] == pytest.approx(ours, rel=1e-4)
    assert found["tokens"] == sum(map(len, rows))
    assert found["token_ids"] == {"texts": 7, "differing": 0}
    assert found["bos_tokens"] == 1
    assert found["template_equal"] is True
    with gguf.open(path) as file:
        assert found["types"] == gguf.summary(file)["types"]
        assert found["metadata"]["general.file_type"] == 2
    assert found["file_type"] == "MOSTLY_Q4_0"
    assert shares[-1] == 1 and shares == sorted(shares)
    assert json.loads(json.dumps(found)) == found


def test_an_exact_file_is_at_no_distance(model, tiny_llama, rows, tmp_path):
    path = save(model, tiny_llama, tmp_path, "f32")
    found = export.parity(path, model, tiny_llama[1], rows)
    assert abs(found["here"]["mean_kl_nats"]) < 1e-6
    assert found["here"]["top1_agreement"] == 1
    assert found["here"]["perplexity"] == pytest.approx(found["source"]["perplexity"])


def test_llama_cpp_is_compared_with_the_source_too(model, tiny_llama, rows, tmp_path):
    pytest.importorskip("llama_cpp")
    path = save(model, tiny_llama, tmp_path, "f32")
    found = export.parity(path, model, tiny_llama[1], rows)["llama_cpp"]
    here = export.parity(path, model, tiny_llama[1], rows)["source"]
    assert found["differing_token_ids"] == 0
    assert found["bos_tokens"] == 1
    assert abs(found["mean_kl_nats"]) < 1e-5
    assert found["perplexity"] == pytest.approx(here["perplexity"], rel=1e-4)


def test_a_file_of_another_model_is_far(model, tiny_llama, rows, tmp_path):
    other = jax.tree.map(lambda x: x[::-1] if x.ndim > 1 else x, model)
    path = save(other, tiny_llama, tmp_path, "f32")
    found = export.parity(path, model, tiny_llama[1], rows)
    assert found["here"]["mean_kl_nats"] > 0.1
    assert found["here"]["top1_agreement"] < 0.9


def test_without_llama_cpp_its_figures_are_absent(
    model, tiny_llama, rows, tmp_path, monkeypatch
):
    path = save(model, tiny_llama, tmp_path, "f16")
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    found = export.parity(path, model, tiny_llama[1], rows[:1])
    assert found["llama_cpp"] is None
    assert found["here"]["mean_kl_nats"] >= 0


def test_texts_are_cut_into_rows_that_fit(model, tiny_llama):
    tokenizer = tiny_llama[1]
    rows = text_rows(model, tokenizer, PASSAGE)
    context = model.config.max_position_embeddings
    assert len(rows) > 2 and all(1 < len(row) <= context for row in rows)
    assert sum(rows, []) == tokenizer.encode(PASSAGE, add_special=True)
    examples = [
        data.Example(
            (data.Turn("user", f"{word} " * length), data.Turn("assistant", "yes"))
        )
        for word, length in (("a", 3), ("b", 500), ("c", 4))
    ]
    chats = chat_rows(model, tokenizer, examples)
    assert [tokenizer.decode(ids).count("yes") for ids in chats] == [1, 1]


@pytest.mark.parametrize("texts", [[], [[5]], [[5, 6], []]])
def test_texts_without_a_next_token_are_refused(model, tiny_llama, tmp_path, texts):
    path = save(model, tiny_llama, tmp_path, "f32")
    with pytest.raises(ValueError, match="at least two tokens"):
        export.parity(path, model, tiny_llama[1], texts)
