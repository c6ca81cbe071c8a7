"""Continue a prompt with a model from any source."""

import os
from collections.abc import Iterable, Iterator
from typing import Any

import jax

from .. import models
from ._source import open_model


def complete(
    source: str | os.PathLike,
    prompt: str,
    *,
    chat: bool = False,
    system: str | None = None,
    seed: int = 0,
    max_new_tokens: int = 64,
    stop: Iterable[str] = (),
    **sampling: Any,
) -> Iterator[str]:
    """Return the continuation of a prompt as an iterator of pieces of text.

    Args:
        source: as for ``models.load``, or the folder of a finished run.
        prompt: the text to continue, or with ``chat`` the user's message.
        chat: whether to wrap the prompt in the model's chat template.
        system: system message; needs ``chat``.
        seed: of the draws.
        max_new_tokens: at most this many.
        stop: strings that end the text.
        **sampling: fields of ``models.Sampling``.

    Returns:
        An iterator; the model is loaded before it is returned.

    Raises:
        ValueError: on arguments that do not fit the model or each other.
    """
    if system is not None and not chat:
        raise ValueError("system (--system) needs chat (--chat)")
    model, tokenizer = open_model(source)
    if chat:
        messages = [{"role": "user", "content": prompt}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        ids = tokenizer.encode_chat(messages)
    else:
        ids = tokenizer.encode(prompt, add_special=True)
    return models.stream(
        model,
        tokenizer,
        ids,
        max_new_tokens=max_new_tokens,
        key=jax.random.key(seed),
        stop=stop,
        **sampling,
    )
