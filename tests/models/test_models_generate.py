"""Generation: the naive loop's tokens, whatever the batch and the chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models_helpers import TINY, gap, logits, make, prompts

from simplex_jax import models

LENGTHS = (11, 5, 8)
NEW = 12


def naive(model, ids, count):
    """Return greedy tokens and their log-probabilities without a cache."""
    ids, out, logprobs = list(ids), [], []
    width = model.config.max_position_embeddings
    for _ in range(count):
        tokens = np.zeros((1, width), np.int32)
        tokens[0, : len(ids)] = ids
        segments = (np.arange(width) < len(ids)).astype(np.int32)[None]
        row = logits(model, tokens, segments)[0, len(ids) - 1]
        token = int(row.argmax())
        logprobs.append(float(jax.nn.log_softmax(row)[token]))
        out.append(token)
        ids.append(token)
    return out, logprobs


@pytest.fixture(scope="module", params=TINY)
def model(request):
    return make(TINY[request.param], seed=3)


@pytest.fixture(scope="module")
def llama():
    return make(TINY["llama"], seed=3)


def test_greedy_equals_the_naive_loop_with_its_log_probabilities(model):
    tokens, lengths, _ = prompts(29, LENGTHS)
    found = models.generate(model, tokens, lengths, max_new_tokens=NEW)
    assert found.tokens.shape == found.logprobs.shape == (3, NEW)
    assert found.lengths.tolist() == [NEW] * 3
    for row, length in enumerate(lengths):
        expected, logprobs = naive(model, tokens[row, :length], NEW)
        assert found.tokens[row].tolist() == expected
        assert gap(found.logprobs[row], logprobs) <= 1e-5


@pytest.mark.parametrize("chunk_tokens", [3, 4, 11])
def test_chunks_of_the_prompt_change_no_token(llama, chunk_tokens):
    tokens, lengths, _ = prompts(29, LENGTHS)
    whole = models.generate(llama, tokens, lengths, max_new_tokens=NEW)
    parts = models.generate(
        llama, tokens, lengths, max_new_tokens=NEW, chunk_tokens=chunk_tokens
    )
    np.testing.assert_array_equal(whole.tokens, parts.tokens)
    assert gap(whole.logprobs, parts.logprobs) <= 1e-5


def test_row_in_a_batch_gives_the_tokens_it_gives_alone(llama):
    tokens, lengths, _ = prompts(29, LENGTHS)
    together = models.generate(llama, tokens, lengths, max_new_tokens=NEW)
    for row, length in enumerate(lengths):
        alone = models.generate(
            llama, tokens[row : row + 1, :length], max_new_tokens=NEW
        )
        np.testing.assert_array_equal(alone.tokens[0], together.tokens[row])


def test_what_stands_in_the_padding_changes_nothing(llama):
    tokens, lengths, segments = prompts(29, LENGTHS)
    other = np.where(segments == 1, tokens, 7).astype(np.int32)
    options = {"max_new_tokens": NEW, "repetition_penalty": 1.5}
    first = models.generate(llama, tokens, lengths, **options)
    second = models.generate(llama, other, lengths, **options)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_each_row_ends_at_its_stop_token_and_is_zero_after_it(llama):
    tokens, lengths, _ = prompts(29, LENGTHS)
    free = np.asarray(models.generate(llama, tokens, lengths, max_new_tokens=NEW)[0])
    stops = {int(free[0, 3]), int(free[1, 6])}
    found = models.generate(
        llama, tokens, lengths, max_new_tokens=NEW, stop_ids=iter(stops)
    )
    ends = []
    for row in free:
        at = [i for i, token in enumerate(row.tolist()) if token in stops]
        ends.append(at[0] + 1 if at else NEW)
    assert min(ends) < NEW
    assert found.lengths.tolist() == ends
    for row, end in enumerate(ends):
        np.testing.assert_array_equal(found.tokens[row, :end], free[row, :end])
        assert not found.tokens[row, end:].any()
        assert not found.logprobs[row, end:].any()
        assert (np.asarray(found.logprobs[row, :end]) < 0).all()


def test_sampled_log_probabilities_are_those_before_temperature_and_filters(llama):
    tokens, lengths, _ = prompts(29, LENGTHS)
    found = models.generate(
        llama,
        tokens,
        lengths,
        max_new_tokens=NEW,
        key=jax.random.key(0),
        temperature=1.7,
        top_k=9,
        repetition_penalty=1.3,
    )
    for row, length in enumerate(lengths):
        new = np.asarray(found.tokens[row])
        whole = np.zeros((1, 11 + NEW), np.int32)
        whole[0, : length + NEW] = np.concatenate([tokens[row, :length], new])
        rows = logits(llama, whole, np.ones_like(whole))[0, length - 1 :][:NEW]
        chosen = np.asarray(jax.nn.log_softmax(rows))[np.arange(NEW), new]
        assert gap(found.logprobs[row], chosen) <= 1e-5


def test_repetition_penalty_looks_at_the_prompt_and_at_new_tokens(llama):
    tokens, _, _ = prompts(29, (6,))
    found = models.generate(
        llama, tokens, max_new_tokens=5, repetition_penalty=1e6
    ).tokens[0]
    # Such a penalty leaves a seen token no chance while an unseen one is positive.
    assert len(set(found.tolist())) == 5
    assert not set(found.tolist()) & set(tokens[0].tolist())


def test_sampling_repeats_with_the_key_and_changes_with_it(llama):
    tokens, lengths, _ = prompts(29, LENGTHS)
    first, again, other = (
        np.asarray(
            models.generate(
                llama,
                tokens,
                lengths,
                max_new_tokens=NEW,
                key=jax.random.key(seed),
                temperature=1.5,
            ).tokens
        )
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_sampled_row_does_not_depend_on_the_rows_beside_it(llama):
    tokens, lengths, _ = prompts(29, LENGTHS)
    options = {"max_new_tokens": NEW, "key": jax.random.key(5), "temperature": 1.5}
    together = models.generate(llama, tokens, lengths, **options)
    changed = tokens.copy()
    changed[1:] = 4
    beside = models.generate(llama, changed, lengths, **options)
    alone = models.generate(llama, tokens[:1], lengths[:1], **options)
    np.testing.assert_array_equal(together.tokens[0], beside.tokens[0])
    np.testing.assert_array_equal(together.tokens[0], alone.tokens[0])


def test_float64_model_generates_in_float64():
    with jax.enable_x64(True):
        model = make(TINY["llama"], seed=3, param_dtype=jnp.float64)
        tokens, lengths, _ = prompts(29, LENGTHS)
        found = models.generate(model, jnp.asarray(tokens), lengths, max_new_tokens=3)
        expected, logprobs = naive(model, tokens[0], 3)
        assert found.tokens[0].tolist() == expected
        assert found.logprobs.dtype == jnp.float64
        assert gap(found.logprobs[0], logprobs) <= 1e-11


def test_bfloat16_model_generates():
    model = make(TINY["qwen2"], seed=3, param_dtype=jnp.bfloat16)
    tokens, lengths, segments = prompts(29, LENGTHS)
    found = models.generate(model, tokens, lengths, max_new_tokens=3)
    assert found.logprobs.dtype == jnp.float32
    whole = logits(model, tokens, segments)
    for row, length in enumerate(lengths):
        best = whole[row, length - 1]
        # Rounding may turn a near tie around, and nothing else.
        assert best.max() - best[found.tokens[row, 0]] < 0.1


def test_context_may_be_filled_to_its_last_token(llama):
    tokens, _, _ = prompts(29, (60,))
    found = models.generate(llama, tokens, max_new_tokens=4)
    expected, _ = naive(llama, tokens[0], 4)
    assert found.tokens[0].tolist() == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_new_tokens": 54}, "11 prompt tokens and max_new_tokens=54 exceed.*64"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; give at least 1"),
        ({"chunk_tokens": 0}, "chunk_tokens is 0; give at least 1"),
        ({"temperature": 0.5}, "temperature=0.5 needs a key"),
        ({"temperature": -1.0}, "temperature is -1.0; give at least 0"),
        ({"temperature": float("nan")}, "temperature is nan; give at least 0"),
        ({"top_k": -1}, "top_k is -1; give at least 0"),
        ({"top_p": 0.0}, r"top_p is 0.0; give a number in \(0, 1\]"),
        ({"top_p": 1.5}, r"top_p is 1.5; give a number in \(0, 1\]"),
        ({"min_p": -0.1}, r"min_p is -0.1; give a number in \[0, 1\]"),
        ({"min_p": 1.1}, r"min_p is 1.1; give a number in \[0, 1\]"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0; give a number"),
        ({"lengths": np.array([11, 0, 8])}, r"lengths\[1\] is 0; .* \[1, 11\]"),
        ({"lengths": np.array([11, 12, 8])}, r"lengths\[1\] is 12; .* \[1, 11\]"),
        ({"lengths": np.array([11, 5])}, r"lengths.shape is \(2,\); give \(3,\)"),
        ({"tokens": np.zeros((0, 4), np.int32)}, "rows and columns"),
        ({"tokens": np.zeros((4, 0), np.int32)}, "rows and columns"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_bad_argument_is_named(llama, change, message):
    tokens, lengths, _ = prompts(29, LENGTHS)
    arguments = {"tokens": tokens, "lengths": lengths, "max_new_tokens": 4}
    arguments |= change
    if "tokens" in change:
        del arguments["lengths"]
    with pytest.raises(ValueError, match=message):
        models.generate(llama, **arguments)


def test_row_longer_than_the_context_is_refused(llama):
    with pytest.raises(ValueError, match="65 in a row.*context is 64"):
        llama(jnp.ones((1, 65), jnp.int32))
