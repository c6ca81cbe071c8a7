"""Conversations as token ids, and which of them are to be learned."""

from collections.abc import Sequence

import numpy as np

from ..data import Example
from ..text import Tokenizer


def chat_tokens(
    example: Example, tokenizer: Tokenizer
) -> tuple[np.ndarray, np.ndarray]:
    """Encode a conversation with the chat template and mark what carries loss.

    Every assistant turn carries loss, from the first token after what the template
    writes to open the turn up to the token that ends it. The ids before a turn are
    those that the model is shown when it has to answer.

    Args:
        example: the conversation.
        tokenizer: with a chat template.

    Returns:
        Ids int32 (T,), and the loss of each token as a target, float32 (T,): the
        example's weight, or 0.

    Raises:
        ValueError: the template is unusable, rewrites what came before a turn, or ends
            a turn with no token that ends generation, so that an answer would never
            stop.
    """
    messages = example.chat()
    ids = tokenizer.encode_chat(messages, add_generation_prompt=False)
    loss = np.zeros(len(ids), np.float32)
    for i, turn in enumerate(example.messages):
        if turn.role != "assistant":
            continue
        shown = tokenizer.encode_chat(messages[:i]) if i else []
        told = ids
        if i + 1 < len(messages):
            told = tokenizer.encode_chat(messages[: i + 1], add_generation_prompt=False)
        start, end = _common(shown, ids), _common(told, ids)
        # A turn's first token may merge with the last one before it.
        if start < len(shown) - 1 or end < len(told) - 1:
            raise ValueError(
                f"message {i}: the chat template rewrites earlier turns when later "
                "ones follow; use examples of one answer, or another template"
            )
        ends = [at for at in range(start, end) if ids[at] in tokenizer.eog_ids]
        if not ends:
            raise ValueError(
                f"message {i}: the chat template closes the assistant's turn with no "
                "token that ends generation, so answers would not stop; use another "
                "template"
            )
        loss[start : ends[-1] + 1] = example.weight
    return np.asarray(ids, np.int32), loss


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many ids two sequences have in common from the start."""
    for at, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return at
    return min(len(a), len(b))
