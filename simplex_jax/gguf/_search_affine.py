"""The search for a group's scale and minimum, in llama.cpp's order.

Arrays are position-major, float32 (n, G): n values of each of G groups; what a
group has once is (G,). Products associate to the left, so w q x is (w q) x.
"""

import numpy as np

from ._arithmetic import first_of_least, nearest_int, ordered_sum
from ._layout import aligned_empty

# Below this magnitude nearest_int and np.rint agree.
_ROUNDABLE = np.float32(4e6)


def search_scale_and_min(
    x: np.ndarray,
    weights: np.ndarray,
    top: int,
    start: float,
    step: float,
    tries: int,
    *,
    absolute: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit x = s q - m with q in 0..top and m >= 0, by weighted least squares.

    Before the tries, lo = min(0, min x), hi = max x, a = top / (hi - lo),
    s = 1 / a and m = -lo. Try k = 0..tries has the codes
    q = clip(round(a (x - lo)), 0, top) of a = (start + step k + top) / (hi - lo),
    and with W, X, Sq, Sqq, Sqx the sums of w, w x, w q, w q q and w q x::

        D = W Sqq - Sq^2,  s = (W Sqx - X Sq) / D,  -m = (Sqq X - Sq Sqx) / D

    or m = 0 and s = Sqx / Sqq where that -m is above 0. If D > 0 and the sum
    of w (s q - m - x)^2 is below the least so far, s, m and q are taken, and
    lo is -m in the tries that follow.

    Args:
        x: float32 (n, G).
        weights: float32 (n, G).
        top: the largest code.
        start: codes added to the range at try 0.
        step: codes added from try to try.
        tries: the number of the last try.
        absolute: compare sums of w |s q - m - x| instead of squares.

    Returns:
        s (G,), m (G,) and q (n, G), all float32. Where hi = lo, s = 0, q = 0.
    """
    last = np.float32(top)
    least, high = first_of_least(x), x.max(axis=0)
    low = np.where(least > 0, np.float32(0), least)
    flat = high == low
    # Any other upper end gives an empty range code 0 at every try.
    high = np.where(flat, (low == 0).astype(np.float32), high)
    codes, terms, products = (aligned_empty(x.shape) for _ in range(3))
    sum_w = ordered_sum(weights)
    sum_x = ordered_sum(np.multiply(weights, x, out=terms))

    def set_codes(inverse: np.ndarray, low: np.ndarray) -> None:
        np.subtract(x, low, out=codes)
        np.multiply(codes, inverse, out=codes)
        # lo may have moved above min x, or next to hi.
        reach = np.maximum(np.abs(high - low), np.abs(least - low))
        if (np.abs(inverse) * reach < _ROUNDABLE).all():
            np.rint(codes, out=codes)
        else:
            codes[:] = nearest_int(codes)
        np.clip(codes, np.float32(0), last, out=codes)

    def error(scale: np.ndarray, low: np.ndarray) -> np.ndarray:
        np.multiply(codes, scale, out=terms)
        np.add(terms, low, out=terms)
        np.subtract(terms, x, out=terms)
        if absolute:
            np.abs(terms, out=terms)
        else:
            np.multiply(terms, terms, out=terms)
        np.multiply(terms, weights, out=terms)
        return ordered_sum(terms)

    inverse = last / (high - low)
    scale = np.float32(1) / inverse
    set_codes(inverse, low)
    best = error(scale, low)
    # Codes are not kept, but computed anew from the a and lo that they had.
    kept_inverse, kept_low = inverse, low.copy()
    for k in range(tries + 1):
        range_codes = np.float32(start) + np.float32(step) * np.float32(k) + last
        inverse = range_codes / (high - low)
        set_codes(inverse, low)
        np.multiply(weights, codes, out=terms)
        sum_q = ordered_sum(terms)
        sum_qx = ordered_sum(np.multiply(terms, x, out=products))
        sum_qq = ordered_sum(np.multiply(terms, codes, out=products))
        determinant = sum_w * sum_qq - sum_q * sum_q
        new_scale = (sum_w * sum_qx - sum_x * sum_q) / determinant
        new_low = (sum_qq * sum_x - sum_q * sum_qx) / determinant
        above = new_low > 0
        np.copyto(new_scale, sum_qx / sum_qq, where=above)
        np.copyto(new_low, np.float32(0), where=above)
        new_error = error(new_scale, new_low)
        better = (determinant > 0) & (new_error < best)
        np.copyto(kept_inverse, inverse, where=better)
        np.copyto(kept_low, low, where=better)
        np.copyto(best, new_error, where=better)
        np.copyto(scale, new_scale, where=better)
        np.copyto(low, new_low, where=better)
    set_codes(kept_inverse, kept_low)
    scale[flat] = 0
    return scale, -low, codes
