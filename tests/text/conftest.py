"""Vocabularies for the tokenizer tests: one real, one trained on the spot."""

import dataclasses
import io

import numpy as np
import pytest

from simplex_jax import gguf
from simplex_jax.text import Tokenizer, TokenType


@pytest.fixture(scope="session")
def smollm2_tokenizer(smollm2_gguf) -> Tokenizer:
    return Tokenizer.from_gguf(gguf.open(smollm2_gguf).metadata)


def _corpus() -> list[str]:
    words = (
        "the a tokenizer splits text into pieces with spaces und größer naïve 日本語"
    )
    words += (
        " def return x1 2024 3.14 (yes) [no] {maybe} don't we'll hello world привет"
    )
    vocabulary = words.split()
    numbers = np.random.default_rng(0).integers(0, len(vocabulary), (400, 12))
    return [" ".join(vocabulary[i] for i in row) for row in numbers]


@pytest.fixture(scope="session")
def sentencepiece_tokenizer() -> Tokenizer:
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_corpus()),
        model_writer=model,
        model_type="bpe",
        vocab_size=500,
        byte_fallback=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        user_defined_symbols=["<tool>"],
        minloglevel=2,
        hard_vocab_limit=False,
        num_threads=1,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return Tokenizer.from_gguf(_sentencepiece_metadata(processor))


def _sentencepiece_metadata(processor) -> dict:
    ids = range(processor.get_piece_size())
    tokens = [processor.id_to_piece(i) for i in ids]

    def kind(i: int) -> TokenType:
        if processor.is_unknown(i):
            return TokenType.UNKNOWN
        if processor.is_control(i):
            return TokenType.CONTROL
        if processor.is_byte(i):
            return TokenType.BYTE
        return TokenType.USER_DEFINED if tokens[i] == "<tool>" else TokenType.NORMAL

    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([kind(i) for i in ids], np.int32),
        "tokenizer.ggml.scores": np.array(
            [processor.get_score(i) for i in ids], np.float32
        ),
        "tokenizer.ggml.bos_token_id": np.uint32(processor.bos_id()),
        "tokenizer.ggml.eos_token_id": np.uint32(processor.eos_id()),
        "tokenizer.ggml.unknown_token_id": np.uint32(processor.unk_id()),
    }


@pytest.fixture(scope="session")
def tokenizer_of(request):
    """Give a tokenizer of any kind; SmolLM2's vocabulary serves every BPE split."""

    def make(kind: str) -> Tokenizer:
        if kind == "llama":
            return request.getfixturevalue("sentencepiece_tokenizer")
        return dataclasses.replace(
            request.getfixturevalue("smollm2_tokenizer"), pre=kind
        )

    return make
