"""Train a tokenizer on texts."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
from tokenizers import Tokenizer as Backend
from tokenizers import models, trainers

from .._checks import one_of, refuse
from ._pieces import byte_characters
from ._splits import SPLITS, byte_level_split
from ._tokenizer import Tokenizer
from ._vocabulary import TokenType

_END = "<|endoftext|>"


def train_bpe(
    texts: Iterable[str], vocab_size: int, *, pre: str = "qwen2"
) -> Tokenizer:
    """Train a byte-level BPE tokenizer; equal texts give equal ids.

    Ids are dense: 0 is ``<|endoftext|>``, which begins and ends a text, 1 to 256 are
    the bytes, so that every text can be encoded, and the rest are merges in the order
    in which they were learned: the most frequent pair first, of equally frequent ones
    that with the lower ids.

    Args:
        texts: at least one pair of bytes in all; the order does not matter.
        vocab_size: the most tokens, >= 258; fewer come out where the texts have no more
            pairs.
        pre: how text is cut into words, a key of ``known_pre("gpt2")``; no token spans
            two words.

    Returns:
        The tokenizer, which adds BOS and has no chat template; it can be written to
        GGUF and to Hugging Face folders.

    Raises:
        ValueError: ``vocab_size`` or ``pre`` is out of range, or there is too little
            text for a single merge.
    """
    if vocab_size < 258:
        refuse(
            "vocab_size", vocab_size, f"give at least 258: 256 bytes, {_END}, a merge"
        )
    one_of("pre", pre, SPLITS)
    backend = Backend(models.BPE(ignore_merges=pre == "llama-bpe"))
    backend.pre_tokenizer = byte_level_split(pre)
    trainer = trainers.BpeTrainer(  # pyright: ignore[reportCallIssue]
        vocab_size=vocab_size,
        special_tokens=[_END],
        initial_alphabet=sorted(byte_characters().values()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    ids = backend.get_vocab()
    tokens = tuple(sorted(ids, key=ids.__getitem__))
    types = np.full(len(tokens), TokenType.NORMAL, np.int32)
    types[ids[_END]] = TokenType.CONTROL
    merges = _merges(backend)
    if not merges:
        raise ValueError(
            "texts have no two bytes that can be merged; give more text to train on."
        )
    return Tokenizer(
        model="gpt2",
        pre=pre,
        tokens=tokens,
        token_types=types,
        merges=merges,
        bos_id=ids[_END],
        eos_id=ids[_END],
        add_bos=True,
    )


def _merges(backend: Backend) -> tuple[str, ...]:
    merges = json.loads(backend.to_str())["model"]["merges"]
    return tuple(m if isinstance(m, str) else " ".join(m) for m in merges)
