"""Blocks of 32: Q8_0, Q4_0, Q5_0, Q4_1 and Q5_1, in float32 as llama.cpp.

Each function takes a batch of blocks and fills a batch of blocks:
float32 (B, 32) on one side, uint8 (B, bytes of a block) on the other.
Stored scales are little-endian float16.
"""

import numpy as np

from ._arithmetic import first_of_least
from ._layout import block_major, load_half, pack_planes, position_major, store_half
from ._search_affine import search_scale_and_min
from ._search_scale import search_signed_scale

_SIZE = 32


def quantize_q8_0(x: np.ndarray, weights: np.ndarray | None, out: np.ndarray) -> None:
    """Quantize to eight bits: d = max|x| / 127, q = round(x / d).

    Args:
        x: float32 (B, 32), finite.
        weights: without effect.
        out: uint8 (B, 34), filled: d and q.

    Raises:
        OverflowError: d is beyond float16.

    Precision: q comes from the unrounded d; ties round away from zero. A block
    so small that 1/d overflows has q = 0 throughout.
    """
    scale = np.abs(x).max(axis=1) / np.float32(127)
    store_half(scale, out[:, :2])
    y = x * _inverse(scale)[:, None]
    # floor(a + 0.5) would round 0.49999997 up: the sum itself is rounded.
    magnitude = np.abs(y)
    whole = np.floor(magnitude)
    whole += (magnitude - whole) >= np.float32(0.5)
    out[:, 2:] = np.copysign(whole, y).astype(np.int8).view(np.uint8)


def dequantize_q8_0(blocks: np.ndarray, out: np.ndarray) -> None:
    """Decode y = d q.

    Args:
        blocks: uint8 (B, 34).
        out: float32 (B, 32), filled.
    """
    np.multiply(blocks[:, 2:].view(np.int8), load_half(blocks[:, :2]), out=out)


def quantize_q4_0(x: np.ndarray, weights: np.ndarray | None, out: np.ndarray) -> None:
    """Quantize to four bits around 8; see ``_fit_signed``.

    Args:
        x: float32 (B, 32), finite.
        weights: float32 (B, 32), or None for d = -m / 8.
        out: uint8 (B, 18), filled: d and q + 8.

    Raises:
        OverflowError: d is beyond float16.
    """
    scale, codes = _fit_signed(x, weights, 8)
    store_half(scale, out[:, :2])
    out[:, 2:] = pack_planes(codes, 4, 16)


def dequantize_q4_0(blocks: np.ndarray, out: np.ndarray) -> None:
    """Decode y = d (q - 8).

    Args:
        blocks: uint8 (B, 18).
        out: float32 (B, 32), filled.
    """
    _nibbles(blocks[:, 2:], out)
    out -= np.float32(8)
    out *= load_half(blocks[:, :2])


def quantize_q5_0(x: np.ndarray, weights: np.ndarray | None, out: np.ndarray) -> None:
    """Quantize to five bits around 16; see ``_fit_signed``.

    Args:
        x: float32 (B, 32), finite.
        weights: float32 (B, 32), or None for d = -m / 16.
        out: uint8 (B, 22), filled: d, high bits and low bits of q + 16.

    Raises:
        OverflowError: d is beyond float16.
    """
    scale, codes = _fit_signed(x, weights, 16)
    store_half(scale, out[:, :2])
    _pack_five_bits(codes, out[:, 2:])


def quantize_q4_1(x: np.ndarray, weights: np.ndarray | None, out: np.ndarray) -> None:
    """Quantize to four bits above a minimum; see ``_fit_affine``.

    Args:
        x: float32 (B, 32), finite.
        weights: float32 (B, 32), or None for d = (max x - min x) / 15.
        out: uint8 (B, 20), filled: d, m and q.

    Raises:
        OverflowError: d or m is beyond float16.
    """
    scale, low, codes = _fit_affine(x, weights, 15)
    store_half(scale, out[:, :2])
    store_half(low, out[:, 2:4])
    out[:, 4:] = pack_planes(codes, 4, 16)


def dequantize_q4_1(blocks: np.ndarray, out: np.ndarray) -> None:
    """Decode y = d q + m.

    Args:
        blocks: uint8 (B, 20).
        out: float32 (B, 32), filled.
    """
    _nibbles(blocks[:, 4:], out)
    out *= load_half(blocks[:, :2])
    out += load_half(blocks[:, 2:4])


def quantize_q5_1(x: np.ndarray, weights: np.ndarray | None, out: np.ndarray) -> None:
    """Quantize to five bits above a minimum; see ``_fit_affine``.

    Args:
        x: float32 (B, 32), finite.
        weights: float32 (B, 32), or None for d = (max x - min x) / 31.
        out: uint8 (B, 24), filled: d, m, high bits and low bits of q.

    Raises:
        OverflowError: d or m is beyond float16.
    """
    scale, low, codes = _fit_affine(x, weights, 31)
    store_half(scale, out[:, :2])
    store_half(low, out[:, 2:4])
    _pack_five_bits(codes, out[:, 4:])


def _fit_signed(
    x: np.ndarray, weights: np.ndarray | None, half: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return d (B,) and q + half (B, 32), for y = d q and -half <= q < half.

    Without weights d = -m / half, with m the first x of the largest magnitude,
    and q + half = min(2 half - 1, trunc(x / d + half + 0.5)): the side of m
    reaches half d, the other one d less. An all-zero block has d = -0 and
    q = 0; one so small that 1/d overflows has q = -half throughout.
    """
    if weights is not None:
        scale, codes = search_signed_scale(
            position_major(x, _SIZE), position_major(weights, _SIZE), half
        )
        return scale, block_major(codes, _SIZE)
    largest = np.abs(x).argmax(axis=1)
    # Adding zero turns -0 into +0: the search for m starts from +0.
    scale = (x[np.arange(len(x)), largest] + np.float32(0)) / np.float32(-half)
    inverse = _inverse(scale)
    y = x * inverse[:, None] + np.float32(half + 0.5)
    codes = np.minimum(y, np.float32(2 * half - 1)).astype(np.uint8)
    codes[(inverse == 0) & (scale != 0)] = 0
    return scale, codes


def _fit_affine(
    x: np.ndarray, weights: np.ndarray | None, top: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return d (B,), m (B,) and q (B, 32), for y = d q + m and 0 <= q <= top.

    Without weights m = min x, d = (max x - m) / top and
    q = min(top, trunc((x - m) / d + 0.5)), 0 where d = 0 or 1/d overflows.
    """
    columns = position_major(x, _SIZE)
    if weights is not None:
        scale, minimum, codes = search_scale_and_min(
            columns, position_major(weights, _SIZE), top, -0.9, 0.05, 36
        )
        return scale, -minimum, block_major(codes, _SIZE)
    low = first_of_least(columns)
    # Adding zero keeps a difference of unlike zeros from being -0.
    scale = (columns.max(axis=0) - low + np.float32(0)) / np.float32(top)
    columns -= low
    columns *= _inverse(scale)
    columns += np.float32(0.5)
    return scale, low, block_major(np.minimum(columns, np.float32(top)), _SIZE)


def _inverse(scale: np.ndarray) -> np.ndarray:
    """Return 1/d, or 0 where d is zero or so small that 1/d overflows."""
    inverse = np.float32(1) / scale
    inverse[np.isinf(inverse)] = 0
    return inverse


def _pack_five_bits(codes: np.ndarray, out: np.ndarray) -> None:
    """Pack the fifth bits in order of position, then the nibbles."""
    out[:, :4] = pack_planes(codes.reshape(-1, 8) >> 4, 1, 1).reshape(-1, 4)
    out[:, 4:] = pack_planes(codes & 15, 4, 16)


def _nibbles(packed: np.ndarray, out: np.ndarray) -> None:
    out[:, :16] = packed & 15
    out[:, 16:] = packed >> 4
