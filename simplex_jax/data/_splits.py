"""Hold out a share of the user's own data."""

import hashlib
from collections.abc import Sequence

from .._checks import within
from ._example import Example, prompt_hash
from ._plain_text import Document


def split_by_hash(
    examples: Sequence[Example], fraction: float = 0.1, *, seed: int = 0
) -> tuple[list[Example], list[Example]]:
    """Split examples by the hash of their prompt.

    All examples with one prompt go to one side, and where a prompt goes
    depends on nothing but the prompt and the seed, so it stays there when the
    data grows. Only if a side would be empty is the prompt nearest to the
    border moved there.

    Args:
        examples: with at least two distinct prompts.
        fraction: the share to hold out, above 0 and below 1; met on average.
        seed: any integer.

    Returns:
        The training examples and the held-out ones, each in the given order.

    Raises:
        ValueError: the fraction is out of range, or there are fewer than two
            distinct prompts.
    """
    hashes = [prompt_hash(example) for example in examples]
    held = _held_out(hashes, fraction, seed, "examples have {} distinct prompts")
    pairs = list(zip(examples, held, strict=True))
    return [e for e, out in pairs if not out], [e for e, out in pairs if out]


def split_documents(
    documents: Sequence[Document], fraction: float = 0.1, *, seed: int = 0
) -> tuple[list[Document], list[Document]]:
    """Split documents by the hash of their text, as ``split_by_hash`` does.

    Args:
        documents: at least two distinct texts.
        fraction: the share of documents, not of their length, to hold out, above 0
            and below 1; met on average.
        seed: any integer.

    Returns:
        The training documents and the held-out ones, each in the given order.

    Raises:
        ValueError: the fraction is out of range, or there are fewer than two
            distinct texts.
    """
    hashes = [document.sha256 for document in documents]
    held = _held_out(hashes, fraction, seed, "documents have {} distinct texts")
    pairs = list(zip(documents, held, strict=True))
    return [d for d, out in pairs if not out], [d for d, out in pairs if out]


def _held_out(
    hashes: Sequence[str], fraction: float, seed: int, too_few: str
) -> list[bool]:
    within("fraction", fraction, "(0, 1)")
    places = [_place(text, seed) for text in hashes]
    distinct = sorted(set(places))
    if len(distinct) < 2:
        raise ValueError(f"{too_few.format(len(distinct))}; splitting needs at least 2")
    border = min(max(fraction, distinct[0]), distinct[-2])
    return [place <= border for place in places]


def _place(text: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}:{text}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
