"""Digits as a scan shows them: some are taken for others.

Within each pair of ``CONFUSABLE`` a digit turns into the other one with a
known chance, each printed copy by itself; every other digit stays.
"""

import itertools
from collections.abc import Iterable

from .._draws import Draws

CONFUSABLE = {"1": "7", "7": "1", "3": "8", "8": "3", "5": "6", "6": "5"}
DENOMINATOR = 100


def corrupt(draws: Draws, text: str, chance: int) -> str:
    """Return the text as the scan shows it.

    Args:
        draws: the stream of draws.
        text: what is printed.
        chance: of each confusable digit to turn, in percent.

    Returns:
        A text of the same length.
    """
    return "".join(
        CONFUSABLE[c] if c in CONFUSABLE and draws.percent(chance) else c for c in text
    )


def likelihood(truth: str, seen: str, chance: int) -> int:
    """Return p(seen | truth) times 100 to the number of confusable digits.

    Args:
        truth: what is printed.
        seen: what the scan shows.
        chance: of each confusable digit to turn, in percent.

    Returns:
        A whole number; 0 where ``truth`` cannot look like ``seen``.
    """
    if len(truth) != len(seen):
        return 0
    weight = 1
    for printed, shown in zip(truth, seen, strict=True):
        if printed == shown:
            weight *= DENOMINATOR - chance if printed in CONFUSABLE else 1
        elif CONFUSABLE.get(printed) == shown:
            weight *= chance
        else:
            return 0
    return weight


def truths(seen: str) -> Iterable[str]:
    """Yield every text that can look like ``seen``, ``seen`` itself first."""
    choices = [(c, CONFUSABLE[c]) if c in CONFUSABLE else (c,) for c in seen]
    return map("".join, itertools.product(*choices))


def copies(shown: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Weigh the values that several copies may be of.

    Every value is as likely beforehand. That holds for digits drawn one by
    one, and for a range of numbers that confusions do not leave.

    Args:
        shown: what each copy looks like, and its chance in percent.

    Returns:
        The likelihood of each value that the first copy allows.
    """
    seen = list(shown)
    weights = {}
    for truth in truths(seen[0][0]):
        weight = 1
        for text, chance in seen:
            weight *= likelihood(truth, text, chance)
        weights[truth] = weight
    return weights
