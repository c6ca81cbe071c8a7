"""Rendering conversations with the chat template that came with a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ._budget import (
    BASE_UNITS,
    CURRENT,
    UNITS_PER_INPUT_CHARACTER,
    Budget,
    BudgetExceeded,
    input_characters,
)
from ._sandbox import compile_template
from ._vocabulary import Vocabulary

Message = Mapping[str, Any]

_TOKEN_VARIABLES = ("bos", "eos", "unk", "sep", "pad", "mask")


class ChatTemplateError(ValueError):
    """Say why a chat template could not be compiled or rendered."""


def render_chat(
    vocabulary: Vocabulary,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool,
    **variables: Any,
) -> str:
    """Render a conversation as transformers would, within bounds.

    Args:
        vocabulary: One with a chat template.
        messages: ``{"role": ..., "content": ...}`` in order.
        add_generation_prompt: Whether to open the assistant's next turn.
        **variables: Further variables of plain data; ``tools`` and
            ``documents`` are None unless given.

    Returns:
        The prompt.

    Raises:
        ValueError: A message is malformed or a variable is not plain data.
        ChatTemplateError: The template is unusable or refused the messages.
    """
    data = _plain(dict(variables), "variables")
    data["messages"] = _checked_messages(messages)
    data["add_generation_prompt"] = bool(add_generation_prompt)
    for name in _TOKEN_VARIABLES:
        token_id = getattr(vocabulary, f"{name}_id")
        if token_id is not None:
            # A name left undefined prints as nothing, None would print as "None".
            data.setdefault(f"{name}_token", vocabulary.tokens[token_id])
    data = {"tools": None, "documents": None, **data}
    units = BASE_UNITS + UNITS_PER_INPUT_CHARACTER * input_characters(data)
    token = CURRENT.set(Budget(units))
    try:
        return compile_template(vocabulary.chat_template or "").render(data)
    except BudgetExceeded as error:
        raise ChatTemplateError(
            f"the chat template was stopped because {error}; use another template."
        ) from error
    except RecursionError as error:
        raise ChatTemplateError(
            "the chat template was stopped because it recurses too deep; use another"
            " template."
        ) from error
    except Exception as error:
        # A template is a program by a stranger: it can raise anything.
        line = getattr(error, "lineno", None)
        place = f" in line {line}" if line else ""
        raise ChatTemplateError(
            f"the chat template failed{place}: {type(error).__name__}: {error}"
        ) from error
    finally:
        CURRENT.reset(token)


def _checked_messages(messages: Sequence[Message]) -> list[Any]:
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise ValueError(
            f"messages is a {type(messages).__name__}; give a list of"
            ' {"role": ..., "content": ...}.'
        )
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ValueError(
                f"messages[{i}]={message!r} is no mapping with a string 'role'; give"
                ' {"role": "user", "content": "..."}.'
            )
    return [_plain(message, f"messages[{i}]") for i, message in enumerate(messages)]


def _plain(value: Any, where: str) -> Any:
    """Copy plain data, so that templates meet no object with methods of its own."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(v, f"{where}[{k!r}]") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise ValueError(
        f"{where} is a {type(value).__name__}; chat templates take strings, numbers,"
        " booleans, None, lists and mappings."
    )
