"""Tokenizers trained on the spot: dense ids, the same for the same texts, any text."""

import subprocess
import sys

import pytest
from draws import draws
from hypothesis import given
from hypothesis import strategies as st

from simplex_jax.text import Tokenizer, TokenType, known_pre, train_bpe

TEXTS = [
    "the cat sat on the mat\n",
    "the dog sat on the log\n",
    "größer, naïve: 日本",
] * 3
TRAINED = train_bpe(TEXTS, 300)
SCRIPT = f"""
import hashlib
from simplex_jax.text import train_bpe
found = train_bpe({TEXTS!r}, 300)
print(hashlib.sha256(repr((found.tokens, found.merges)).encode()).hexdigest())
"""


def test_ids_are_dense_and_in_the_order_that_is_promised():
    assert len(set(TRAINED.tokens)) == TRAINED.vocab_size <= 300
    assert TRAINED.tokens[0] == "<|endoftext|>"
    assert TRAINED.bos_id == TRAINED.eos_id == 0
    assert TRAINED.token_types[0] == TokenType.CONTROL
    assert all(len(token) == 1 for token in TRAINED.tokens[1:257])
    made = ["".join(merge.split(" ")) for merge in TRAINED.merges]
    assert list(TRAINED.tokens[257:]) == made
    # Twelve times in the texts, as "t h" and "h e"; its ids are the lowest.
    assert TRAINED.merges[0] == "a t"


@draws()
@given(st.text())
def test_any_text_comes_back(text):
    ids = TRAINED.encode(text)
    assert TRAINED.decode(ids) == text
    assert all(0 < i < TRAINED.vocab_size for i in ids)


@draws(10)
@given(st.permutations(TEXTS))
def test_the_order_of_the_texts_does_not_matter(texts):
    found = train_bpe(texts, 300)
    assert (found.tokens, found.merges) == (TRAINED.tokens, TRAINED.merges)


def test_other_processes_find_the_same(tmp_path):
    printed = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1


@pytest.mark.parametrize("pre", known_pre("gpt2"))
def test_folder_and_gguf_keys_give_the_same_ids(pre, tmp_path):
    trained = train_bpe(TEXTS, 280, pre=pre)
    trained.save_hf(tmp_path)
    text = "the cat, größer 2024\n\n  than 日本 <|endoftext|>"
    for other in (
        Tokenizer.from_hf(tmp_path),
        Tokenizer.from_gguf(trained.gguf_metadata()),
    ):
        assert other.pre == pre
        assert (other.tokens, other.merges) == (trained.tokens, trained.merges)
        for special in (False, True):
            ids = other.encode(text, add_special=True, parse_special=special)
            assert ids == trained.encode(text, add_special=True, parse_special=special)


def test_more_text_makes_shorter_ids():
    text = "the cat sat on the log"
    assert len(TRAINED.encode(text)) < len(train_bpe(TEXTS, 258).encode(text))


def test_the_end_of_a_text_spelled_out_is_not_the_token():
    spelled = train_bpe(["<|endoftext|> " * 50] * 3, 400)
    assert 0 not in spelled.encode("<|endoftext|>")
    assert len(set(spelled.tokens)) == spelled.vocab_size


@pytest.mark.parametrize(
    ("texts", "vocab_size", "pre", "message"),
    [
        (TEXTS, 257, "qwen2", "vocab_size is 257"),
        (TEXTS, 300, "qwen9", "pre is 'qwen9'"),
        (["a", " "], 300, "qwen2", "no two bytes"),
        ([], 300, "qwen2", "no two bytes"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(texts, vocab_size, pre, message):
    with pytest.raises(ValueError, match=message):
        train_bpe(texts, vocab_size, pre=pre)
