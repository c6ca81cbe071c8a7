"""Conversations as token ids, and which of them are to be learned."""

import numpy as np

from ..data import Example
from ..text import Tokenizer


def chat_tokens(
    example: Example, tokenizer: Tokenizer
) -> tuple[np.ndarray, np.ndarray]:
    """Encode a conversation with the chat template and mark what carries loss.

    Every assistant turn carries loss, from its first token up to the one that ends it.
    A turn is encoded apart from what stands before it, because that is what the model
    is shown and what it then says: no token spans the two.

    Args:
        example: the conversation.
        tokenizer: with a chat template.

    Returns:
        Ids int32 (T,), and the loss of each token as a target, float32 (T,): the
        example's weight, or 0.

    Raises:
        ValueError: the template is unusable, writes what stands before a turn otherwise
            once the turn is there, or ends a turn with no token that ends generation:
            answers would never stop.
    """
    messages = example.chat()
    whole = tokenizer.apply_chat_template(messages, add_generation_prompt=False)
    ids: list[int] = []
    loss: list[float] = []
    end = 0
    for i, turn in enumerate(example.messages):
        if turn.role != "assistant":
            continue
        shown = tokenizer.apply_chat_template(messages[:i]) if i else ""
        told = tokenizer.apply_chat_template(
            messages[: i + 1], add_generation_prompt=False
        )
        if not whole.startswith(told) or not told.startswith(shown):
            raise ValueError(
                f"message {i}: the chat template rewrites what stands before a turn "
                "once the turn is there; use examples of one answer"
            )
        if i and not ids:
            ids = tokenizer.encode_chat(messages[:i])
        else:
            ids += _encode(tokenizer, whole[end : len(shown)])
        said = _encode(tokenizer, whole[len(shown) : len(told)])
        ends = [at for at, token in enumerate(said) if token in tokenizer.eog_ids]
        if not ends:
            raise ValueError(
                f"message {i}: the chat template closes the assistant's turn with no "
                "token that ends generation, so answers would not stop; use another "
                "template"
            )
        loss += [0.0] * (len(ids) - len(loss))
        loss += [example.weight] * (ends[-1] + 1)
        ids += said
        end = len(told)
    loss += [0.0] * (len(ids) - len(loss))
    return np.asarray(ids, np.int32), np.asarray(loss, np.float32)


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, parse_special=True, text_start=False)
