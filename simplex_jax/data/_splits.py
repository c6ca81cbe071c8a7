"""Hold out a share of the user's own examples."""

import hashlib
from collections.abc import Sequence

from ._example import Example, prompt_hash


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
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}; give a number between 0 and 1")
    places = [_place(example, seed) for example in examples]
    distinct = sorted(set(places))
    if len(distinct) < 2:
        raise ValueError(
            f"examples have {len(distinct)} distinct prompts; splitting needs at "
            "least 2"
        )
    border = min(max(fraction, distinct[0]), distinct[-2])
    train = [e for e, place in zip(examples, places, strict=True) if place > border]
    heldout = [e for e, place in zip(examples, places, strict=True) if place <= border]
    return train, heldout


def _place(example: Example, seed: int) -> float:
    text = f"{seed}:{prompt_hash(example)}"
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
