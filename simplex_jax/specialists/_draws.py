"""Random draws that give the same values on every machine and version."""

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draws:
    """A stream of draws that a few words determine.

    Only ``random.Random.random`` is used, the one method whose sequence
    Python promises to keep from version to version.
    """

    def __init__(self, *words: object):
        """Start the stream.

        Args:
            words: what determines it, a seed, a name and an index say; their
                text is hashed with SHA-256.
        """
        text = "\x1f".join(map(str, words))
        digest = hashlib.sha256(text.encode()).digest()
        self._random = random.Random(int.from_bytes(digest, "big")).random

    def below(self, n: int) -> int:
        """Return an integer from 0 to ``n - 1``, each as likely."""
        return int(self._random() * n)

    def choice(self, values: Sequence[T]) -> T:
        """Return one of the values, each as likely."""
        return values[self.below(len(values))]

    def percent(self, chance: int) -> bool:
        """Return True in ``chance`` of 100 cases."""
        return self.below(100) < chance

    def weighted(self, values: Sequence[T], weights: Sequence[int]) -> T:
        """Return one of the values, as likely as its whole-number weight."""
        rest = self.below(sum(weights))
        for value, weight in zip(values, weights, strict=True):
            rest -= weight
            if rest < 0:
                return value
        raise AssertionError("the weights do not add up")
