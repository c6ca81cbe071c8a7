"""What carries loss is what the assistant says, up to the token that ends it."""

import dataclasses

import numpy as np
import pytest
from draws import draws
from hypothesis import given
from hypothesis import strategies as st

from simplex_jax import data, specialists, text


@pytest.fixture(scope="module")
def tokenizer(tiny_llama):
    return tiny_llama[1]


def learned(tokenizer, ids, loss):
    return tokenizer.decode([i for i, w in zip(ids.tolist(), loss, strict=True) if w])


@pytest.mark.parametrize("name", list(specialists.CATALOG))
def test_the_answer_and_its_end_carry_loss(tokenizer, name):
    for example in specialists.generate(name, 20):
        ids, loss = text.chat_tokens(example, tokenizer)
        assert learned(tokenizer, ids, loss) == f"{example.response}<|im_end|>"
        start = int(np.argmax(loss > 0))
        assert ids[:start].tolist() == tokenizer.encode_chat(example.chat()[:-1])


def test_every_assistant_turn_carries_loss_with_the_examples_weight(tokenizer):
    turns = [
        ("system", "Be brief."),
        ("user", "1 + 1?"),
        ("assistant", "2"),
        ("user", "  twice that?\n"),
        ("assistant", "  four\n\nor 4 "),
    ]
    messages = tuple(data.Turn(*turn) for turn in turns)
    example = data.Example(messages, weight=0.5)
    ids, loss = text.chat_tokens(example, tokenizer)
    assert set(loss.tolist()) == {0.0, 0.5}
    said = learned(tokenizer, ids, loss)
    assert said == "2<|im_end|>  four\n\nor 4 <|im_end|>"
    first = tokenizer.encode_chat(example.chat()[:2])
    assert ids[: len(first)].tolist() == first
    assert tokenizer.decode(ids.tolist()) == tokenizer.apply_chat_template(
        example.chat(), add_generation_prompt=False
    )


def with_template(tokenizer, template):
    return dataclasses.replace(tokenizer, chat_template=template)


def test_a_template_that_ends_no_turn_is_refused(tokenizer):
    silent = with_template(
        tokenizer,
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
    )
    with pytest.raises(ValueError, match="message 1: .* would not stop"):
        text.chat_tokens(data.Example.from_pair("a", "b"), silent)


def test_a_template_that_rewrites_the_past_is_refused(tokenizer):
    rewriting = with_template(
        tokenizer,
        "{% for m in messages %}{% if not loop.last and m.role == 'assistant' %}"
        "<|im_start|>assistant\ngone<|im_end|>\n{% else %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    )
    pair = data.Example.from_pair("a", "b")
    assert text.chat_tokens(pair, rewriting)[1].any()
    turns = ("user", "assistant", "user", "assistant")
    messages = tuple(data.Turn(role, "some words") for role in turns)
    with pytest.raises(ValueError, match="rewrites what stands before"):
        text.chat_tokens(data.Example(messages), rewriting)


@draws(50)
@given(st.integers(2, 200), st.integers(1, 64))
def test_windows_predict_every_token_once_and_never_the_first(count, length):
    ids = np.arange(count, dtype=np.int32)
    pieces = text.token_windows(ids, length)
    targets = np.concatenate([piece[1:] for piece, _ in pieces])
    assert targets.tolist() == ids[1:].tolist()
    assert all(2 <= len(piece) <= length + 1 for piece, _ in pieces)
    assert all(piece.shape == loss.shape and loss.all() for piece, loss in pieces)


def test_a_document_begins_and_ends_with_tokens_of_its_own():
    tokenizer = text.train_bpe(["the cat sat on the mat"] * 3, 260)
    ids = text.document_tokens("the mat<|endoftext|>", tokenizer).tolist()
    assert ids[0] == ids[-1] == 0
    assert 0 not in ids[1:-1]
    assert tokenizer.decode(ids[1:-1]) == "the mat<|endoftext|>"
    endless = dataclasses.replace(
        tokenizer,
        tokens=("<begin>", *tokenizer.tokens[1:]),
        eos_id=None,
    )
    with pytest.raises(ValueError, match="no token that ends a text"):
        text.document_tokens("the mat", endless)
    # Without BOS a text begins with the end of the one before it.
    other = dataclasses.replace(endless, eos_id=5, bos_id=None, add_bos=False)
    ids = text.document_tokens("cat", other).tolist()
    assert ids == [5, *other.encode("cat"), 5]
