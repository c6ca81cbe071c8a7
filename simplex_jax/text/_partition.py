"""Cutting whole tokens out of a text before the rest is merged."""

from __future__ import annotations

from collections.abc import Sequence


def partition(text: str, whole: Sequence[tuple[str, int]]) -> list[str | int]:
    """Cut every occurrence of whole tokens out of a text.

    Each token in turn cuts what those before it left, so with the longest
    first a longer token wins wherever it stands, as in llama.cpp (the leftmost
    would win in ``tokenizers``).

    Args:
        text: The text.
        whole: Token texts and ids, longest first.

    Returns:
        Runs of text, never empty, and token ids, in order.
    """
    parts: list[str | int] = [text] if text else []
    for token, token_id in whole:
        if token not in text:
            continue
        cut: list[str | int] = []
        for part in parts:
            if isinstance(part, int):
                cut.append(part)
                continue
            first, *others = part.split(token)
            if first:
                cut.append(first)
            for run in others:
                cut.append(token_id)
                if run:
                    cut.append(run)
        parts = cut
    return parts
