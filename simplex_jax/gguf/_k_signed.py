"""Super-blocks of 16 groups of 16 without minima: y = d s q, Q3_K and Q6_K."""

import numpy as np

from ._arithmetic import first_of_largest_magnitude, nearest_int, ordered_sum
from ._layout import block_major, pack_planes, position_major, store_half
from ._search_scale import descend_signed_scale, search_signed_scale

_SIZE = _GROUPS = 16
_LEAST = np.float32(1e-15)


def quantize_q3_k(x: np.ndarray, weights: np.ndarray | None, out: np.ndarray) -> None:
    """Quantize to three bits, -4 <= q < 4, under six-bit scales, -32 <= s < 32.

    With g the first group scale of the largest magnitude, s = round(scale / d)
    and d = -g / 32; given weights, s and d are fitted to the scales as q and
    the scale are to x. Then q = clip(round(x / (d s))), where d s is not 0.

    Args:
        x: float32 (B, 256), finite.
        weights: float32 (B, 256), or None for x^2.
        out: uint8 (B, 110), filled: high bits and low bits of q + 4, s + 32, d.

    Raises:
        OverflowError: d is beyond float16.
    """
    groups = position_major(x, _SIZE)
    if weights is None:
        scale, codes = descend_signed_scale(groups, 4)
        scales = position_major(scale, _GROUPS)
        largest = first_of_largest_magnitude(scales)
        nothing = largest == 0
        largest[nothing] = 1
        inverse = np.float32(-32) / largest
        scale_codes = np.clip(nearest_int(inverse * scales), -32, 31) + 32
        scale_codes[:, nothing] = 0
        d = np.float32(1) / inverse
        d[nothing] = 0
    else:
        w = position_major(weights, _SIZE)
        scale, codes = search_signed_scale(groups, w, 4)
        scales = position_major(scale, _GROUPS)
        group_weights = position_major(ordered_sum(w), _GROUPS)
        d, scale_codes = search_signed_scale(scales, group_weights, 32)
    stored = block_major(scale_codes, _GROUPS)
    d = store_half(d, out[:, 108:])
    q = _requantize(groups, d, stored.astype(np.float32) - 32, codes, 4)
    out[:, :32] = pack_planes(q >> 2, 1, 32)
    out[:, 32:96] = pack_planes(q & 3, 2, 32)
    out[:, 96:104] = pack_planes(stored & 15, 4, 8)
    out[:, 104:108] = pack_planes(stored >> 4, 2, 4)


def quantize_q6_k(x: np.ndarray, weights: np.ndarray | None, out: np.ndarray) -> None:
    """Quantize to six bits, -32 <= q < 32, under eight-bit scales s.

    With g the first group scale of the largest magnitude,
    s = min(127, round(scale / d)) and d = -g / 128. Then
    q = clip(round(x / (d s))), where d s is not 0.

    Args:
        x: float32 (B, 256), finite.
        weights: float32 (B, 256), or None for x^2.
        out: uint8 (B, 210), filled: low bits and high bits of q + 32, s, d;
            all zero where |g| < 1e-15.

    Raises:
        OverflowError: d is beyond float16.
    """
    groups = position_major(x, _SIZE)
    w = position_major(x * x if weights is None else weights, _SIZE)
    scale, codes = search_signed_scale(groups, w, 32)
    scales = position_major(scale, _GROUPS)
    largest = first_of_largest_magnitude(scales)
    nothing = np.abs(largest) < _LEAST
    largest[nothing] = 1
    inverse = np.float32(-128) / largest
    scale_codes = np.minimum(nearest_int(inverse * scales), 127).T.astype(np.int8)
    d = store_half(np.float32(1) / inverse, out[:, 208:])
    q = _requantize(groups, d, scale_codes.astype(np.float32), codes, 32)
    out[:, :128] = pack_planes(q & 15, 4, 64)
    out[:, 128:192] = pack_planes(q >> 4, 2, 32)
    out[:, 192:208] = scale_codes.view(np.uint8)
    out[nothing] = 0


def _requantize(
    groups: np.ndarray,
    d: np.ndarray,
    scale_codes: np.ndarray,
    codes: np.ndarray,
    half: int,
) -> np.ndarray:
    """Return q + half (B, 256) under the rounded scales, or codes where d s is 0."""
    scale = (d[:, None] * scale_codes).reshape(-1)
    q = np.clip(nearest_int(groups / scale), -half, half - 1) + half
    return block_major(np.where(scale != 0, q, codes), _SIZE * _GROUPS)
