"""Rounding, sums and extremes whose bits equal llama.cpp's."""

import numpy as np


def nearest_int(x: np.ndarray) -> np.ndarray:
    """Round to the nearest integer, ties to even, as llama.cpp does.

    Args:
        x: float32.

    Returns:
        int32 of the same shape, the low bits of x + 3 * 2^22. Where |x| is
        above 2^22, or not finite, they hold something else, which the
        reference goes on with all the same.
    """
    bits = np.asarray(x + np.float32(3 << 22)).view(np.int32)
    bits &= (1 << 23) - 1
    bits -= 1 << 22
    return bits


def ordered_sum(terms: np.ndarray) -> np.ndarray:
    """Sum over the first axis, from its first term to its last.

    Args:
        terms: float32 (n, G), rows contiguous.

    Returns:
        float32 (G,).
    """
    if terms.shape[1] == 1:
        # NumPy adds rows in order, but sums a lone column pairwise.
        return np.add.accumulate(terms, axis=0)[-1]
    return np.add.reduce(terms, axis=0)


def first_of_largest_magnitude(x: np.ndarray) -> np.ndarray:
    """Return each group's value of the largest magnitude, the first on ties.

    Args:
        x: float32 (n, G).

    Returns:
        float32 (G,), a new array.
    """
    high, low = x.max(axis=0), x.min(axis=0)
    largest = np.where(high > -low, high, low)
    # argmax is slow along this axis, and ties are rare.
    ties = np.flatnonzero(high == -low)
    first = np.abs(x[:, ties]).argmax(axis=0)
    largest[ties] = x[first, ties]
    return largest


def first_of_least(x: np.ndarray) -> np.ndarray:
    """Return each group's least value; of +0 and -0, the first.

    Args:
        x: float32 (n, G).

    Returns:
        float32 (G,), a new array.
    """
    least = x.min(axis=0)
    zeros = np.flatnonzero(least == 0)
    first = (x[:, zeros] == 0).argmax(axis=0)
    least[zeros] = x[first, zeros]
    return least
