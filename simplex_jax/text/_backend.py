"""The Rust engines that merge characters into tokens."""

from __future__ import annotations

import numpy as np
from tokenizers import Tokenizer, models

from ._pieces import byte_characters
from ._splits import byte_level_split
from ._vocabulary import Vocabulary


def byte_level_backend(vocabulary: Vocabulary) -> Tokenizer:
    """Build the engine of a byte-level BPE vocabulary.

    Bytes that the vocabulary lacks get ids past its end, so that they separate
    their neighbours as in llama.cpp; the caller drops those ids.

    Args:
        vocabulary: One of model ``"gpt2"``.

    Returns:
        An engine without added tokens, normalizer or post-processor.

    Raises:
        ValueError: A merge names or makes a token that is not there.
    """
    ids = dict(vocabulary.ids_by_token)
    for character in byte_characters().values():
        ids.setdefault(character, len(ids))
    merges = []
    for rank, merge in enumerate(vocabulary.merges):
        left, _, right = merge.partition(" ")
        if not (left in ids and right in ids and left + right in ids):
            raise ValueError(
                f"merges[{rank}]={merge!r} is not 'left right' of two tokens whose"
                " concatenation is a token too; the merges belong to another"
                " vocabulary."
            )
        merges.append((left, right))
    ignore_merges = vocabulary.pre == "llama-bpe"
    backend = Tokenizer(
        models.BPE(vocab=ids, merges=merges, ignore_merges=ignore_merges)
    )
    backend.pre_tokenizer = byte_level_split(vocabulary.pre)
    return backend


def sentencepiece_backend(vocabulary: Vocabulary) -> Tokenizer:
    """Build the engine of a sentencepiece BPE vocabulary.

    Args:
        vocabulary: One of model ``"llama"``.

    Returns:
        An engine for text whose spaces are already ``▁``.

    Raises:
        ValueError: One of the 256 byte tokens is missing.
    """
    for byte in range(256):
        if f"<0x{byte:02X}>" not in vocabulary.ids_by_token:
            raise ValueError(
                f"token '<0x{byte:02X}>' is missing; a vocabulary of model 'llama'"
                " needs all 256 byte tokens to encode every text (sentencepiece:"
                " byte_fallback=True)."
            )
    return Tokenizer(
        models.BPE(
            vocab=dict(vocabulary.ids_by_token),
            merges=score_merges(vocabulary),
            byte_fallback=True,
            unk_token=vocabulary.tokens[vocabulary.unk_id or 0],
        )
    )


def score_merges(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """Rebuild merges from scores.

    Sentencepiece joins the neighbours whose concatenation has the best score,
    whichever way it is cut, so every cut of a token into two tokens is a merge
    at that token's rank.

    Args:
        vocabulary: One of model ``"llama"``.

    Returns:
        Pairs of tokens, best score first.
    """
    assert vocabulary.scores is not None
    ids = vocabulary.ids_by_token
    merges = []
    for token_id in np.argsort(-vocabulary.scores, kind="stable"):
        token = vocabulary.tokens[token_id]
        for cut in range(1, len(token)):
            if token[:cut] in ids and token[cut:] in ids:
                merges.append((token[:cut], token[cut:]))
    return merges
