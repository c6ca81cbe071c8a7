"""Modelfiles for Ollama, with the chat template as a Go template."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from ._turns import ROLES, Turns, derive_turns
from ._vocabulary import TokenType, Vocabulary

# Name to type, smallest and largest value.
_PARAMETERS: dict[str, tuple[type, float, float]] = {
    "num_ctx": (int, 1, math.inf),
    "num_predict": (int, -2, math.inf),
    "temperature": (float, 0, math.inf),
    "top_k": (int, 0, math.inf),
    "top_p": (float, 0, 1),
    "min_p": (float, 0, 1),
    "repeat_penalty": (float, 0, math.inf),
    "seed": (int, -math.inf, math.inf),
}


def go_template(tokenizer: Vocabulary) -> str:
    """Translate the chat template into a Go template for Ollama.

    Found by rendering probes and checked on further conversations. Contents
    are written as they are, also where the chat template trims them; BOS is
    left out where the runtime adds it.

    Args:
        tokenizer: A tokenizer with a chat template.

    Returns:
        Source for Go's text/template over ``.Messages`` with ``.Role`` and
        ``.Content``.

    Raises:
        ValueError: There is no chat template, or none of this form gives the
            same text.
    """
    return _source(derive_turns(tokenizer))


def modelfile(
    tokenizer: Vocabulary,
    gguf_name: str,
    *,
    parameters: Mapping[str, int | float | str | list[str]] | None = None,
    system: str | None = None,
) -> str:
    """Write an Ollama Modelfile.

    Args:
        tokenizer: A tokenizer with a chat template.
        gguf_name: File name of the model, in the Modelfile's folder.
        parameters: ``num_ctx``, ``num_predict``, ``temperature``, ``top_k``,
            ``top_p``, ``min_p``, ``repeat_penalty``, ``seed``, and ``stop``: a
            text or a list of texts besides those of the chat template.
        system: Default system message.

    Returns:
        The file's text.

    Raises:
        ValueError: A parameter is unknown or out of range, a text cannot be
            quoted, or the chat template has no equivalent Go template.
    """
    if not gguf_name or re.search(r"[\r\n\"/\\]", gguf_name):
        raise ValueError(
            f"gguf_name={gguf_name!r} is no plain file name; give the name of a file"
            " in the Modelfile's folder."
        )
    turns = derive_turns(tokenizer)
    if system is not None and "system" not in turns.before:
        raise ValueError(
            "system is set but the chat template refuses system messages; leave it out."
        )
    chosen = dict(parameters or {})
    more = chosen.pop("stop", [])
    extra = [more] if isinstance(more, str) else more
    if not isinstance(extra, list) or not all(isinstance(s, str) and s for s in extra):
        raise ValueError(
            f"parameters['stop']={more!r} must be a text or a list of non-empty texts."
        )
    stops = [*_stops(tokenizer, turns), *extra]
    lines = [f"FROM ./{gguf_name}", f'TEMPLATE """{_source(turns)}"""']
    if turns.trims:
        lines.insert(
            1, "# The model's template strips white space around contents; this cannot."
        )
    if system is not None:
        lines.append(f"SYSTEM {_quoted(system, 'system')}")
    for stop in dict.fromkeys(stops):
        lines.append(f"PARAMETER stop {_quoted(stop, 'stop')}")
    for name, value in chosen.items():
        lines.append(f"PARAMETER {name} {_checked(name, value)}")
    return "\n".join(lines) + "\n"


def _source(turns: Turns) -> str:
    branches = [
        f'{{{{ {"else " if i else ""}if eq $m.Role "{role}" }}}}'
        f"{_literal(turns.before[role])}{{{{ $m.Content }}}}"
        f"{_literal(turns.after[role])}"
        for i, role in enumerate(role for role in ROLES if role in turns.before)
    ]
    default = ""
    if turns.default_system:
        condition = '{{ if and (eq $i 0) (ne $m.Role "system") }}'
        default = f"{condition}{_literal(turns.default_system)}{{{{ end }}}}"
    return (
        f"{_literal(turns.opening)}{{{{ range $i, $m := .Messages }}}}{default}"
        f"{''.join(branches)}{{{{ end }}}}{{{{ end }}}}{_literal(turns.generation)}"
    )


def _literal(text: str) -> str:
    # Braces would open an action, alone at the end together with the next one;
    # quotes could end the Modelfile's string; its reader may drop returns.
    return re.sub(
        r'\{{2,}|\{+\Z|"+|\r', lambda m: f"{{{{ {json.dumps(m[0])} }}}}", text
    )


def _stops(tokenizer: Vocabulary, turns: Turns) -> list[str]:
    written = "".join((*turns.before.values(), *turns.after.values()))
    own = (tokenizer.eos_id, tokenizer.eot_id, tokenizer.eom_id)
    ends = [
        tokenizer.tokens[i]
        for i in sorted(tokenizer.eog_ids)
        if i in own or tokenizer.tokens[i] in written
    ]
    user = turns.before["user"]
    control = [
        token
        for token, kind in zip(
            tokenizer.tokens, tokenizer.token_types.tolist(), strict=True
        )
        if kind == TokenType.CONTROL and token in user
    ]
    starts = [min(control, key=user.index)] if control else [user.strip()]
    return [text for text in (*starts, *ends) if text]


def _quoted(text: str, what: str) -> str:
    if '"""' in text:
        raise ValueError(
            f'{what}={text!r} contains """, which a Modelfile cannot quote; remove it.'
        )
    plain = not re.search(r'["\r\n]', text)
    return f'"{text}"' if plain else f'"""{text}"""'


def _checked(name: str, value: Any) -> float | int:
    if name not in _PARAMETERS:
        near = difflib.get_close_matches(name, [*_PARAMETERS, "stop"], 1, 0.0)[0]
        raise ValueError(
            f"parameters has no {name!r} in Ollama; did you mean {near!r}?"
        )
    kind, low, high = _PARAMETERS[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (math.isfinite(value) and low <= value <= high):
        raise ValueError(
            f"parameters[{name!r}]={value!r} must be a number in [{low}, {high}]."
        )
    if kind is int and value != int(value):
        raise ValueError(f"parameters[{name!r}]={value!r} must be a whole number.")
    return kind(value)
