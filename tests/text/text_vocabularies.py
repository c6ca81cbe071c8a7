"""Vocabularies small enough to write down."""

import numpy as np
from tokenizers.pre_tokenizers import ByteLevel

from simplex_jax.text import Tokenizer, TokenType

BYTE_LEVEL_PRE = ("smollm", "qwen2", "qwen35", "llama-bpe", "gpt-2", "default")
KINDS = (*BYTE_LEVEL_PRE, "llama")


def byte_level_tokenizer(**changes) -> Tokenizer:
    """Build a tokenizer of all bytes, two merges and some special tokens."""
    special = ("<bos>", "<eos>", "<user>", "<|im_start|>", "<|im_end|>")
    tokens = (*sorted(ByteLevel.alphabet()), "he", "ll", *special)
    types = np.full(len(tokens), TokenType.NORMAL, np.int32)
    types[-len(special) :] = TokenType.CONTROL
    fields = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": tokens,
        "token_types": types,
        "merges": ("h e", "l l"),
        "bos_id": tokens.index("<bos>"),
        "eos_id": tokens.index("<eos>"),
    }
    return Tokenizer(**(fields | changes))
