"""Whether stated confidences are met by the share of answers that are right."""

from dataclasses import dataclass

import numpy as np

from .._checks import at_least
from ._vectors import Vector, same_length, shares, truths


@dataclass(frozen=True)
class Bin:
    """The answers whose confidence lies in one stretch of [0, 1].

    Attributes:
        low: lower edge, included.
        high: upper edge, included in the last bin only.
        count: how many answers.
        confidence: their mean confidence; None where there are none.
        accuracy: the share that is right; None where there are none.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


def reliability(confidence: Vector, correct: Vector, bins: int = 10) -> tuple[Bin, ...]:
    """Sort answers into bins of equal width by their confidence.

    Args:
        confidence: stated probability that the answer is right, 1-D, from 0 to 1.
        correct: whether it is, as booleans or 0 and 1, of the same length.
        bins: how many, >= 1.

    Returns:
        The bins from 0 to 1, empty ones too.

    Raises:
        ValueError: an argument is out of range, empty or of another length.
    """
    confidence, correct = _columns(confidence, correct)
    at_least("bins", bins)
    # Divided rather than stepped, so that a stated 0.3 equals the edge 3/10.
    edges = np.arange(bins + 1) / bins
    place = np.minimum(np.searchsorted(edges, confidence, side="right") - 1, bins - 1)
    found = []
    for i in range(bins):
        inside = place == i
        some = bool(inside.any())
        found.append(
            Bin(
                low=float(edges[i]),
                high=float(edges[i + 1]),
                count=int(inside.sum()),
                confidence=float(confidence[inside].mean()) if some else None,
                accuracy=float(correct[inside].mean()) if some else None,
            )
        )
    return tuple(found)


def expected_calibration_error(
    confidence: Vector, correct: Vector, bins: int = 10
) -> float:
    """Average the distance between confidence and accuracy over all answers.

    It is biased upwards where bins hold few answers.

    Args:
        confidence: as for ``reliability``.
        correct: as for ``reliability``.
        bins: as for ``reliability``.

    Returns:
        The mean of the bins' distances, weighted by their counts, from 0 to 1.

    Raises:
        ValueError: as for ``reliability``.
    """
    gaps, counts = _gaps(reliability(confidence, correct, bins))
    return float(gaps @ counts / counts.sum())


def maximum_calibration_error(
    confidence: Vector, correct: Vector, bins: int = 10
) -> float:
    """Return the largest distance between a bin's confidence and its accuracy.

    Args:
        confidence: as for ``reliability``.
        correct: as for ``reliability``.
        bins: as for ``reliability``.

    Returns:
        The distance, from 0 to 1; a bin of one answer counts like any other.

    Raises:
        ValueError: as for ``reliability``.
    """
    gaps, _ = _gaps(reliability(confidence, correct, bins))
    return float(gaps.max())


def brier_score(confidence: Vector, correct: Vector) -> float:
    """Return the mean squared distance between confidence and outcome.

    Args:
        confidence: as for ``reliability``.
        correct: as for ``reliability``.

    Returns:
        From 0, best, to 1; always saying 0.5 gives 0.25.

    Raises:
        ValueError: as for ``reliability``.
    """
    confidence, correct = _columns(confidence, correct)
    return float(np.square(confidence - correct).mean())


def _columns(confidence: Vector, correct: Vector) -> tuple[np.ndarray, np.ndarray]:
    columns = shares("confidence", confidence), truths("correct", correct)
    same_length(confidence=columns[0], correct=columns[1])
    return columns


def _gaps(bins: tuple[Bin, ...]) -> tuple[np.ndarray, np.ndarray]:
    kept = [
        (abs(b.confidence - b.accuracy), b.count)
        for b in bins
        if b.confidence is not None and b.accuracy is not None
    ]
    gaps, counts = np.array(kept, np.float64).T
    return gaps, counts
