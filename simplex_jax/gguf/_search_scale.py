"""The searches for a group's scale alone, in llama.cpp's order.

Arrays are position-major, float32 (n, G): n values of each of G groups; what a
group has once is (G,). Products associate to the left, so w q x is (w q) x.
"""

import numpy as np

from ._arithmetic import first_of_largest_magnitude, nearest_int, ordered_sum
from ._layout import aligned_empty

# A group whose largest magnitude is below this is stored as nothing.
_LEAST = np.float32(1e-15)


def search_signed_scale(
    x: np.ndarray, weights: np.ndarray, half: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fit x = s q with q in -half..half-1, by weighted least squares.

    With m the first x of the largest magnitude, try t = 0, -9..-1, 1..9 has
    the codes q = clip(round(a x), -half, half - 1) of a = -(half + 0.1 t) / m,
    and s = P / Q with P = sum w x q, Q = sum w q q. A larger P^2 / Q is taken.

    Args:
        x: float32 (n, G).
        weights: float32 (n, G).
        half: the magnitude of the lowest code.

    Returns:
        s (G,) and q + half (n, G), float32; both 0 where |m| < 1e-15.
    """
    largest = first_of_largest_magnitude(x)
    nothing = np.abs(largest) < _LEAST
    largest[nothing] = 1
    weighted = np.multiply(weights, x, out=aligned_empty(x.shape))
    codes, terms = aligned_empty(x.shape), aligned_empty(x.shape)

    def set_codes(inverse: np.ndarray) -> None:
        np.multiply(x, inverse, out=codes)
        np.rint(codes, out=codes)
        np.clip(codes, np.float32(-half), np.float32(half - 1), out=codes)

    def sums() -> tuple[np.ndarray, np.ndarray]:
        sum_qx = ordered_sum(np.multiply(weighted, codes, out=terms))
        np.multiply(weights, codes, out=terms)
        return sum_qx, ordered_sum(np.multiply(terms, codes, out=terms))

    kept_inverse = np.float32(-half) / largest
    set_codes(kept_inverse)
    sum_qx, sum_qq = sums()
    scale = np.where(sum_qq != 0, sum_qx / sum_qq, np.float32(0))
    best = scale * sum_qx
    for t in (*range(-9, 0), *range(1, 10)):
        inverse = -(np.float32(half) + np.float32(0.1) * np.float32(t)) / largest
        set_codes(inverse)
        sum_qx, sum_qq = sums()
        better = (sum_qq > 0) & (sum_qx * sum_qx > best * sum_qq)
        new_scale = sum_qx / sum_qq
        np.copyto(kept_inverse, inverse, where=better)
        np.copyto(scale, new_scale, where=better)
        np.copyto(best, new_scale * sum_qx, where=better)
    set_codes(kept_inverse)
    codes += np.float32(half)
    scale[nothing] = 0
    codes[:, nothing] = 0
    return scale, codes


def descend_signed_scale(x: np.ndarray, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit x = s q with q in -half..half-1 and weights x^2, code by code.

    Starts from the codes of a = -half / m, m the first x of the largest
    magnitude, and ends after ``_descend``.

    Args:
        x: float32 (n, G).
        half: the magnitude of the lowest code.

    Returns:
        s (G,) and q + half (n, G), float32; both 0 where |m| < 1e-15.
    """
    largest = first_of_largest_magnitude(x)
    nothing = np.abs(largest) < _LEAST
    largest[nothing] = 1
    codes = np.rint(np.float32(-half) / largest * x)
    np.clip(codes, np.float32(-half), np.float32(half - 1), out=codes)
    scale = _descend(x, x * x, codes, -half, half - 1)
    codes += np.float32(half)
    scale[nothing] = 0
    codes[:, nothing] = 0
    return scale, codes


def search_positive_scale(
    x: np.ndarray, weights: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fit x = s q with q in 0..top, by weighted least squares.

    Try t = 0, -4..-1, 1..4 has the codes q = min(round(a x), top) of
    a = (0.1 t + top) / max x; the least sum of w (x - q / a)^2 is taken, then
    ``_descend`` follows. x is meant to be 0 or more. Where it is not (a scale
    that one or two weights of a group leave open), the reference's codes are
    negative where it computes them and bytes where it reads them back, modulo
    256, and so they are here.

    Args:
        x: float32 (n, G).
        weights: float32 (n, G).
        top: the largest code.

    Returns:
        s (G,) and q (n, G), float32; both 0 where max x < 1e-15.
    """
    high = x.max(axis=0)
    nothing = high < _LEAST
    high[nothing] = 1

    def codes_of(inverse: np.ndarray) -> np.ndarray:
        return np.minimum(nearest_int(inverse * x), top).astype(np.float32)

    def error(inverse: np.ndarray, codes: np.ndarray) -> np.ndarray:
        difference = x - np.float32(1) / inverse * codes
        return ordered_sum(weights * difference * difference)

    kept_inverse = np.float32(top) / high
    best = error(kept_inverse, _as_bytes(nearest_int(kept_inverse * x)))
    for t in (-4, -3, -2, -1, 1, 2, 3, 4):
        inverse = (np.float32(0.1) * np.float32(t) + np.float32(top)) / high
        new_error = error(inverse, codes_of(inverse))
        better = new_error < best
        np.copyto(kept_inverse, inverse, where=better)
        np.copyto(best, new_error, where=better)
    codes = codes_of(kept_inverse)
    scale = _descend(x, weights, codes, None, top)
    scale[nothing] = 0
    codes[:, nothing] = 0
    return scale, codes


def _as_bytes(codes: np.ndarray) -> np.ndarray:
    return (codes.astype(np.int32, copy=False) & 255).astype(np.float32)


def _descend(
    x: np.ndarray, weights: np.ndarray, codes: np.ndarray, bottom: int | None, top: int
) -> np.ndarray:
    """Improve codes one position at a time, and return s = P / Q.

    With P = sum w x q and Q = sum w q q over all positions, and P', Q' over
    all but one, the code of that one becomes q = clip(round(x Q' / P')) if
    P' > 0 and P^2 / Q grows. Ends after five passes, or one without change.

    Without a bottom codes are bytes, and Q' > 0 is asked for too.
    """
    sum_qx = ordered_sum(weights * x * codes)
    sum_qq = ordered_sum(weights * codes * codes)
    if bottom is None:
        codes[:] = _as_bytes(codes)
    for _ in range(5):
        changed = False
        for x_i, w_i, q_i in zip(x, weights, codes, strict=True):
            weighted = w_i * x_i
            rest_qx = sum_qx - weighted * q_i
            rest_qq = sum_qq - w_i * q_i * q_i
            new = nearest_int(x_i * rest_qq / rest_qx)
            new = np.clip(new, bottom, top).astype(np.float32)
            new_qx = rest_qx + weighted * new
            new_qq = rest_qq + w_i * new * new
            better = (rest_qx > 0) & (new != q_i) & (new_qq > 0)
            better &= new_qx * new_qx * sum_qq > sum_qx * sum_qx * new_qq
            if bottom is None:
                better &= rest_qq > 0
                new = _as_bytes(new)
            np.copyto(q_i, new, where=better)
            np.copyto(sum_qx, new_qx, where=better)
            np.copyto(sum_qq, new_qq, where=better)
            changed |= bool(better.any())
        if not changed:
            break
    return np.where(sum_qq > 0, sum_qx / sum_qq, np.float32(0))
