"""Examples in files of one JSON object a line."""

import json
import os
from collections.abc import Iterable

from .._files import replacing
from ._example import Example, Turn

_FIELDS = {"prompt", "response", "messages", "metadata", "weight"}


def read_jsonl(path: str | os.PathLike[str]) -> list[Example]:
    """Read examples, one JSON object a line.

    A line is ``{"prompt": ..., "response": ...}`` or ``{"messages": [{"role":
    ..., "content": ...}, ...]}``, with optional ``metadata`` (an object) and
    ``weight``. Other keys move into the metadata. Blank lines are skipped.

    Args:
        path: the file, UTF-8.

    Returns:
        The examples in the file's order; at least one.

    Raises:
        ValueError: a line is not an example, or there is none; the message
            names file and line.
        OSError: the file cannot be read.
    """
    examples = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                examples.append(_example(_parse(line)))
            except ValueError as error:
                where = f"{os.fspath(path)}, line {number}"
                raise ValueError(f"{where}: {error}") from error
    if not examples:
        raise ValueError(
            f"{os.fspath(path)}: no example in the file; write one JSON object a "
            'line, {"prompt": ..., "response": ...} or {"messages": [...]}'
        )
    return examples


def write_jsonl(path: str | os.PathLike[str], examples: Iterable[Example]) -> None:
    """Write examples, one JSON object a line, whole or not at all.

    One question with its answer becomes ``prompt`` and ``response``, every
    other conversation ``messages``. ``read_jsonl`` gives the same examples
    back.

    Args:
        path: the file to create or replace.
        examples: at least one.

    Raises:
        ValueError: there is no example, or metadata is not JSON.
        OSError: the file cannot be written; ``filename`` says which.
    """
    lines = []
    for i, example in enumerate(examples):
        try:
            lines.append(_line(example))
        except (TypeError, ValueError) as error:
            raise ValueError(f"example {i}: metadata is not JSON: {error}") from error
    if not lines:
        raise ValueError("examples is empty; nothing to write")
    with replacing(path) as put:
        put("".join(lines).encode())


def _line(example: Example) -> str:
    record: dict[str, object]
    if example.is_pair:
        record = {"prompt": example.prompt, "response": example.response}
    else:
        record = {"messages": example.chat()}
    if example.metadata:
        record["metadata"] = dict(example.metadata)
    if example.weight != 1:
        record["weight"] = example.weight
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def _parse(line: bytes) -> dict[str, object]:
    try:
        record = json.loads(
            line.decode(), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except UnicodeDecodeError as error:
        raise ValueError(
            f"not UTF-8 at byte {error.start}; save the file as UTF-8"
        ) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("not an example: JSON nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError(f"the line is a {_kind(record)}; write a JSON object")
    return record


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r} occurs twice")
    return record


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is not a number that JSON knows; remove it")


def _example(record: dict[str, object]) -> Example:
    weight = record.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)):
        raise ValueError(f"weight is a {_kind(weight)}; give a number above 0")
    try:
        weight = float(weight)
    except OverflowError:
        raise ValueError("weight is too large; give a finite number") from None
    return Example(_turns(record), _metadata(record), weight)


def _turns(record: dict[str, object]) -> tuple[Turn, ...]:
    pair = [key for key in ("prompt", "response") if key in record]
    if "messages" in record:
        if pair:
            raise ValueError(f'has both "messages" and "{pair[0]}"; keep one form')
        messages = record["messages"]
        if not isinstance(messages, list):
            raise ValueError(f"messages is a {_kind(messages)}; give a list of turns")
        return tuple(_turn(i, message) for i, message in enumerate(messages))
    if len(pair) < 2:
        found = ", ".join(map(repr, record)) or "no key"
        raise ValueError(f'found {found}; give "prompt" and "response", or "messages"')
    return (
        Turn("user", _text(record["prompt"], "prompt")),
        Turn("assistant", _text(record["response"], "response")),
    )


def _turn(i: int, message: object) -> Turn:
    if not isinstance(message, dict) or set(message) != {"role", "content"}:
        found = sorted(message) if isinstance(message, dict) else _kind(message)
        raise ValueError(
            f'messages[{i}] is {found}; give an object with "role" and "content" only'
        )
    role = _text(message["role"], f"messages[{i}].role")
    content = _text(message["content"], f"messages[{i}].content")
    try:
        return Turn(role, content)
    except ValueError as error:
        raise ValueError(f"messages[{i}]: {error}") from None


def _metadata(record: dict[str, object]) -> dict[str, object]:
    metadata = record.get("metadata", {})
    if not isinstance(metadata, dict):
        raise ValueError(f"metadata is a {_kind(metadata)}; give a JSON object")
    others = {key: value for key, value in record.items() if key not in _FIELDS}
    both = sorted(set(others) & set(metadata))
    if both:
        raise ValueError(f"{both[0]!r} stands both beside and inside the metadata")
    return {**metadata, **others}


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is a {_kind(value)}; give a string")
    return value


def _kind(value: object) -> str:
    kinds = {dict: "object", list: "list", str: "string", bool: "boolean"}
    if value is None:
        return "null"
    return kinds.get(type(value), "number")
