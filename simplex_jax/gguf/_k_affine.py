"""Super-blocks of 256 with minima: y = d s q - dmin m, Q2_K, Q4_K and Q5_K."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ._arithmetic import nearest_int, ordered_sum
from ._layout import aligned_empty, block_major, pack_planes, position_major, store_half
from ._search_affine import search_scale_and_min
from ._search_scale import search_positive_scale

_ELEMENTS = 256


def _pack_nibbles(s: np.ndarray, m: np.ndarray, out: np.ndarray) -> None:
    """Pack s into low and m into high nibbles."""
    np.bitwise_or(s, m << 4, out=out)


def _unpack_nibbles(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return packed & 15, packed >> 4


def _pack_six_bits(s: np.ndarray, m: np.ndarray, out: np.ndarray) -> None:
    """Pack eight s and eight m (B, 8): four in bytes, four spread over the rest."""
    out[:, :4] = s[:, :4] | s[:, 4:] >> 4 << 6
    out[:, 4:8] = m[:, :4] | m[:, 4:] >> 4 << 6
    out[:, 8:] = s[:, 4:] & 15 | m[:, 4:] << 4


def _pack_up_to_63(s: np.ndarray, m: np.ndarray, out: np.ndarray) -> None:
    """Pack as above, what does not fit as 63: Q5_K alone does so."""
    _pack_six_bits(np.minimum(s, 63), np.minimum(m, 63), out)


def _unpack_six_bits(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    s, m, rest = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    return (
        np.hstack([s & 63, rest & 15 | s >> 6 << 4]),
        np.hstack([m & 63, rest >> 4 | m >> 6 << 4]),
    )


@dataclass(frozen=True)
class _Form:
    """A type's numbers.

    Attributes:
        size: elements of a group.
        top: the largest q.
        scale_top: the largest s and m.
        start: of ``search_scale_and_min`` without an importance matrix.
        tries: likewise.
        absolute: likewise; weights are then |x|, else sqrt(mean x^2) + |x|.
        pack: stores s and m, uint8 (B, groups), in a block's bytes.
        unpack: reads them as a decoder does.
    """

    size: int
    top: int
    scale_top: int
    start: float
    tries: int
    absolute: bool
    pack: Callable[[np.ndarray, np.ndarray, np.ndarray], None]
    unpack: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


_Q2_K = _Form(16, 3, 15, -0.5, 15, True, _pack_nibbles, _unpack_nibbles)
_Q4_K = _Form(32, 15, 63, -1.0, 20, False, _pack_six_bits, _unpack_six_bits)
_Q5_K = _Form(32, 31, 63, -0.5, 15, False, _pack_up_to_63, _unpack_six_bits)


def quantize_q2_k(x: np.ndarray, weights: np.ndarray | None, out: np.ndarray) -> None:
    """Quantize to two bits in 16 groups with four-bit s and m; see ``_quantize``.

    Args:
        x: float32 (B, 256), finite.
        weights: float32 (B, 256), or None for |x|.
        out: uint8 (B, 84), filled: s and m, q, d, dmin.

    Raises:
        OverflowError: d or dmin is beyond float16.
    """
    q = _quantize(x, weights, _Q2_K, halves=out[:, 80:], packed=out[:, :16])
    out[:, 16:80] = pack_planes(q, 2, 32)


def quantize_q4_k(x: np.ndarray, weights: np.ndarray | None, out: np.ndarray) -> None:
    """Quantize to four bits in 8 groups with six-bit s and m; see ``_quantize``.

    Args:
        x: float32 (B, 256), finite.
        weights: float32 (B, 256), or None for sqrt(mean x^2 of a group) + |x|.
        out: uint8 (B, 144), filled: d, dmin, s and m, q.

    Raises:
        OverflowError: d or dmin is beyond float16.
    """
    q = _quantize(x, weights, _Q4_K, halves=out[:, :4], packed=out[:, 4:16])
    out[:, 16:] = pack_planes(q, 4, 32)


def quantize_q5_k(x: np.ndarray, weights: np.ndarray | None, out: np.ndarray) -> None:
    """Quantize to five bits in 8 groups with six-bit s and m; see ``_quantize``.

    Args:
        x: float32 (B, 256), finite.
        weights: float32 (B, 256), or None for sqrt(mean x^2 of a group) + |x|.
        out: uint8 (B, 176), filled: d, dmin, s and m, high bits and low bits of q.

    Raises:
        OverflowError: d or dmin is beyond float16.
    """
    q = _quantize(x, weights, _Q5_K, halves=out[:, :4], packed=out[:, 4:16])
    out[:, 16:48] = pack_planes(q >> 4, 1, 32)
    out[:, 48:] = pack_planes(q & 15, 4, 32)


def _quantize(
    x: np.ndarray,
    weights: np.ndarray | None,
    form: _Form,
    halves: np.ndarray,
    packed: np.ndarray,
) -> np.ndarray:
    """Store d and dmin in halves, s and m packed, and return q (B, 256).

    Without weights d = max scale / top of s and s = round(scale / d), dmin and
    m likewise; given weights, both are fitted to the scales and minima, with
    each group's sum of weights. Then q = clip(round((x + dmin m) / (d s)))
    under what a decoder reads of them, where d s is not 0.
    """
    groups, count = position_major(x, form.size), _ELEMENTS // form.size
    if weights is None:
        w = np.abs(groups, out=aligned_empty(groups.shape))
        if not form.absolute:
            w += np.sqrt(ordered_sum(groups * groups) / np.float32(form.size))
        scale, minimum, codes = search_scale_and_min(
            groups, w, form.top, form.start, 0.1, form.tries, absolute=form.absolute
        )
        d, s = _codes_by_largest(position_major(scale, count), form.scale_top)
        dmin, m = _codes_by_largest(position_major(minimum, count), form.scale_top)
    else:
        w = position_major(weights, form.size)
        scale, minimum, codes = search_scale_and_min(
            groups, w, form.top, -0.9, 0.05, 36
        )
        w = position_major(ordered_sum(w), count)
        scale, minimum = position_major(scale, count), position_major(minimum, count)
        d, s = search_positive_scale(scale, w, form.scale_top)
        dmin, m = search_positive_scale(minimum, w, form.scale_top)
    form.pack(block_major(s, count), block_major(m, count), packed)
    s, m = form.unpack(packed)
    scale = (store_half(d, halves[:, :2])[:, None] * s.astype(np.float32)).reshape(-1)
    minimum = store_half(dmin, halves[:, 2:])[:, None] * m.astype(np.float32)
    q = nearest_int((groups + minimum.reshape(-1)) / scale)
    return block_major(np.where(scale != 0, np.clip(q, 0, form.top), codes), _ELEMENTS)


def _codes_by_largest(values: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Return max v / top (B,) and round(v top / max v), for v (groups, B)."""
    largest = np.maximum(values.max(axis=0), np.float32(0))
    inverse = np.where(largest > 0, np.float32(top) / largest, np.float32(0))
    codes = np.minimum(nearest_int(inverse * values).astype(np.uint8), top)
    return largest / np.float32(top), codes
