"""llama.cpp computes what the decoder computes."""

import jax.numpy as jnp
import numpy as np
import pytest
from models_helpers import GGUF_ROWS, gap, logits, make, prompts, row_config

from simplex_jax import models

pytest.importorskip("llama_cpp")

from simplex_jax.export import LlamaCpp

# Both sides in float32, keys and values included.
TOLERANCE = 1e-3
# Below this, two programs in float32 may rank two tokens differently.
NEAR_TIE = 5e-4


@pytest.mark.parametrize("name", GGUF_ROWS)
def test_exported_model_gives_llama_cpp_the_same_logits(name, tokenizer, tmp_path):
    model = make(row_config(name))
    path = tmp_path / "model.gguf"
    models.save_gguf(model, tokenizer, path, "f32")
    tokens, lengths, segments = prompts()
    ours = np.asarray(logits(model, tokens, segments))
    with LlamaCpp(path, context_tokens=128) as other:
        for row, length in enumerate(lengths):
            theirs = other.logits(tokens[row, :length].tolist())
            assert theirs.shape == (length, model.config.vocab_size)
            assert 0.5 < theirs.std() < 10
            assert gap(ours[row, :length], theirs) <= TOLERANCE


@pytest.mark.parametrize(
    "name",
    [
        "llama3",
        pytest.param("qwen2-tied", marks=pytest.mark.slow),
        pytest.param("qwen3", marks=pytest.mark.slow),
    ],
)
def test_greedy_text_of_llama_cpp_is_the_same(name, tokenizer, tmp_path):
    model = make(row_config(name), seed=1)
    path = tmp_path / "model.gguf"
    models.save_gguf(model, tokenizer, path, "f32")
    tokens, _, _ = prompts(lengths=(12,))
    ours = models.generate(model, tokens, max_new_tokens=24).tokens[0].tolist()
    with LlamaCpp(path, context_tokens=128) as other:
        theirs = other.greedy_logits(tokens[0].tolist(), 24)
    assert np.diff(np.sort(theirs, axis=-1)[:, -2:]).min() > NEAR_TIE
    assert ours == theirs.argmax(axis=-1).tolist()


@pytest.mark.parametrize("file_type", ["f16", "bf16", "q8_0", "q4_0", "q4_k_m"])
def test_smaller_files_run_in_llama_cpp(file_type, tokenizer, tmp_path):
    model = make(row_config("qwen2-tied"))
    path = tmp_path / "model.gguf"
    models.save_gguf(model, tokenizer, path, file_type)
    stored, _ = models.load_gguf(path)
    tokens, _, segments = prompts(lengths=(40,))
    ours = logits(stored, tokens, segments)[0]
    with LlamaCpp(path, context_tokens=128) as other:
        theirs = other.logits(tokens[0].tolist())
    # llama.cpp rounds activations to the block type: 5 percent of the spread.
    error = np.sqrt(np.mean((np.asarray(ours) - theirs) ** 2))
    assert error < 0.05 * theirs.std()


PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n    ",
    "Q: What is 17 + 25?\nA:",
    "<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n",
    '{"name": "Ada", "born": 1815, "field":',
    "Dear Sir or Madam,\n\nI am writing to",
    "SELECT name, age FROM users WHERE",
    "La capitale de l'Italie est",
    "日本の首都は",
    "The quick brown fox jumps over the lazy dog. The quick brown fox",
    "1, 1, 2, 3, 5, 8, 13,",
    "Water boils at a temperature of",
    "Ingredients: flour, sugar, eggs, butter.\nMethod:",
    "In 1969, the first humans",
    "import numpy as np\n\nx = np.",
    "Photosynthesis is the process by which",
    "<|im_start|>user\nWrite a haiku about rain.<|im_end|>\n<|im_start|>assistant\n",
    "If all cats are mammals and Tom is a cat, then",
    "To be, or not to be, that is",
]


@pytest.fixture(scope="module")
def smollm2_f32(smollm2, tmp_path_factory):
    path = tmp_path_factory.mktemp("smollm2") / "smollm2.gguf"
    model, tokenizer = smollm2
    models.save_gguf(model, tokenizer, path, "f32")
    with LlamaCpp(path, context_tokens=256) as other:
        yield other
    path.unlink()


@pytest.mark.slow
def test_smollm2_gives_llama_cpp_the_same_logits(smollm2, smollm2_f32):
    model, tokenizer = smollm2
    text = "\n".join(PROMPTS)
    ids = tokenizer.encode(text, parse_special=True)
    assert ids == smollm2_f32.tokenize(text, parse_special=True)
    tokens = np.array([ids[at : at + 64] for at in (0, 50, 100, 150)], np.int32)
    ours = np.asarray(logits(model, tokens, np.ones_like(tokens)))
    for row in range(len(tokens)):
        assert gap(ours[row], smollm2_f32.logits(tokens[row].tolist())) <= TOLERANCE


@pytest.mark.parametrize(
    ("prompts", "new"),
    [
        pytest.param(5, 16, marks=pytest.mark.slow),
        pytest.param(20, 64, marks=pytest.mark.nightly),
    ],
)
def test_smollm2_writes_the_same_greedy_text_as_llama_cpp(
    smollm2, smollm2_f32, prompts, new
):
    model, tokenizer = smollm2
    texts = PROMPTS[:prompts]
    assert len(texts) == prompts
    rows = [tokenizer.encode(text, parse_special=True) for text in texts]
    lengths = np.array([len(row) for row in rows])
    tokens = np.zeros((len(rows), lengths.max()), np.int32)
    for row, ids in enumerate(rows):
        tokens[row, : len(ids)] = ids
    ours = np.asarray(
        models.generate(model, tokens, lengths, max_new_tokens=new).tokens
    )
    differences, unexplained = [], []
    for text, ids, mine in zip(texts, rows, ours, strict=True):
        scores = smollm2_f32.greedy_logits(ids, new)
        theirs = scores.argmax(axis=-1)
        if (mine == theirs).all():
            continue
        at = int(np.flatnonzero(mine != theirs)[0])
        whole = jnp.asarray([ids + mine[:at].tolist()])
        ours_here = np.asarray(model(whole)[0, -1])
        gaps = [float(np.diff(np.sort(s)[-2:])[0]) for s in (ours_here, scores[at])]
        line = (
            f"{text!r} step {at}: top-two gap {gaps[0]:.1e} here, {gaps[1]:.1e} there"
        )
        differences.append(line)
        if max(gaps) >= NEAR_TIE:
            unexplained.append(line)
    assert not unexplained, "\n".join(["first differences:", *differences])
