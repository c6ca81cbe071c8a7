"""Who puts the token that begins a sequence there: the template or the tokenizer."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from ._chat import render_chat
from ._vocabulary import Vocabulary

_MUTE = "{%- set bos_token = '' -%}"
_PROBE = [{"role": "user", "content": "x"}]

V = TypeVar("V", bound=Vocabulary)


def template_writes_bos(vocabulary: Vocabulary) -> bool:
    """Tell whether a rendered conversation begins with the BOS text.

    Args:
        vocabulary: A vocabulary; without a chat template or BOS, False.

    Returns:
        Whether it does.

    Raises:
        ChatTemplateError: The chat template cannot be rendered.
    """
    if vocabulary.chat_template is None or not vocabulary.bos_token:
        return False
    return _probe(vocabulary).startswith(vocabulary.bos_token)


def mute_bos(vocabulary: V) -> V:
    """Silence a chat template's BOS where the tokenizer adds one itself.

    Args:
        vocabulary: The vocabulary.

    Returns:
        One whose template writes no BOS if ``add_bos`` is set; the same one
        where there is nothing to silence.

    Raises:
        ValueError: The template spells BOS out instead of using ``bos_token``.
    """
    if not (vocabulary.add_bos and template_writes_bos(vocabulary)):
        return vocabulary
    wanted = _probe(vocabulary).removeprefix(vocabulary.bos_token)
    # The tag's closing dash would also eat white space that the template begins
    # with; an empty expression in between keeps it.
    for prefix in (_MUTE, _MUTE + "{{ '' }}"):
        source = f"{prefix}{vocabulary.chat_template}"
        muted = dataclasses.replace(vocabulary, chat_template=source)
        if _probe(muted) == wanted:
            return muted
    raise ValueError(
        f"the chat template writes BOS {vocabulary.bos_token!r} as literal text and"
        " add_bos is set, so chats would begin with two; use bos_token in the template"
        " or dataclasses.replace(tokenizer, add_bos=False)."
    )


def _probe(vocabulary: Vocabulary) -> str:
    return render_chat(vocabulary, _PROBE, add_generation_prompt=True)
