"""Conversations and documents as token ids, and which of them are to be learned."""

import numpy as np

from ..data import Example
from ._tokenizer import Tokenizer

# Texts that end a document in the base models' own training.
_ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>")


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


def document_tokens(text: str, tokenizer: Tokenizer) -> np.ndarray:
    """Encode a whole document, with the token that ends it.

    It begins with BOS where the tokenizer adds one, otherwise with the token that ends
    the document before, so that its first token has something to be predicted from.

    Args:
        text: special tokens spelled out in it stay text.
        tokenizer: with a token that ends a text.

    Returns:
        Ids int32 (T,).

    Raises:
        ValueError: where no token ends a text.
    """
    known = (tokenizer.ids_by_token.get(text) for text in _ENDS)
    end = next((i for i in known if i is not None), tokenizer.eos_id)
    if end is None:
        raise ValueError(
            "the tokenizer has no token that ends a text; set eos_id with "
            "dataclasses.replace(tokenizer, eos_id=...)"
        )
    begin = tokenizer.bos_id if tokenizer.add_bos else end
    return np.asarray([begin, *tokenizer.encode(text), end], np.int32)


def token_windows(ids: np.ndarray, length: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut a document into pieces for ``data.pack``; no token is a target twice.

    Args:
        ids: of the document, (T,), T >= 2.
        length: the most cells that a piece fills, >= 1.

    Returns:
        Ids and loss of each piece, both of at most ``length + 1`` tokens. A piece
        begins with the last token of the one before it, which it does not predict.
    """
    pieces = [ids[at : at + length + 1] for at in range(0, len(ids) - 1, length)]
    return [(piece, np.ones(len(piece), np.float32)) for piece in pieces]


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, parse_special=True, text_start=False)
