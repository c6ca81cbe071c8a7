"""What a generator and a verifier are, and what a verifier finds."""

import math
import re
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from ..data import Example
from ._posterior import Solution

Split: TypeAlias = Literal["train", "heldout"]
"""Which templates to draw from; no template is in both."""

_NUMBER = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?|\.\d+)\s*(%?)(?!\w)")


@dataclass(frozen=True)
class Verification:
    """What a verifier found in a response.

    Attributes:
        parsed: whether an answer could be read at all.
        correct: whether it is the expected one; False where not parsed.
        score: the share of the answer that is right, from 0 to 1: fields of a
            document, otherwise 0 or 1.
        answer: the answer read, None where not parsed.
        confidence: the confidence stated, from 0 to 1; None where there is none.
        expected: the most probable truth, recomputed from the prompt.
        expected_confidence: its exact posterior probability.
    """

    parsed: bool
    correct: bool
    score: float
    answer: str | None
    confidence: float | None
    expected: str
    expected_confidence: float


@runtime_checkable
class Generator(Protocol):
    """A pure function from a seed and an index to an example."""

    def __call__(self, seed: int, index: int, split: Split) -> Example:
        """Draw one example; the same arguments give the same bytes."""
        ...


@runtime_checkable
class Verifier(Protocol):
    """A pure function that judges a response by the prompt's text alone."""

    def __call__(self, prompt: str, response: str) -> Verification:
        """Recompute the answer from the prompt and compare the response."""
        ...


def verdict(
    solution: Solution,
    answer: str | None,
    confidence: float | None,
    score: float | None = None,
) -> Verification:
    """Compare what was read from a response with the solution.

    Args:
        solution: the expected answer.
        answer: the answer read, in canonical text; None where unreadable.
        confidence: the confidence read.
        score: the share that is right; by default 1 for the expected answer
            and 0 for any other.

    Returns:
        The verification.
    """
    correct = answer == solution.answer
    return Verification(
        parsed=answer is not None,
        correct=correct,
        score=float(correct) if score is None else score,
        answer=answer,
        confidence=confidence if answer is not None else None,
        expected=solution.answer,
        expected_confidence=float(solution.posterior),
    )


def read_confidence(text: str) -> float | None:
    """Read the last number of a text as a probability.

    Args:
        text: such as ``(0.93)``, ``confidence: 93%`` or ``.9``.

    Returns:
        A number from 0 to 1, or None where there is none.
    """
    found = _NUMBER.findall(text)
    if not found:
        return None
    number, percent = found[-1]
    value = float(number) / (100 if percent else 1)
    return value if math.isfinite(value) and 0 <= value <= 1 else None
