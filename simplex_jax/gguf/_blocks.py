"""The arithmetic of single blocks, in float32 and in llama.cpp's order.

Each function takes a batch of blocks and fills a batch of blocks:
float32 (B, 32) on one side, uint8 (B, bytes of a block) on the other.
Stored scales are little-endian float16.
"""

import numpy as np

_HALF = np.dtype("<f2")


def quantize_q8_0(x: np.ndarray, out: np.ndarray) -> None:
    """Quantize to eight bits: d = max|x| / 127, q = round(x / d).

    Args:
        x: float32 (B, 32), finite.
        out: uint8 (B, 34), filled with d and q.

    Raises:
        ValueError: d overflows float16.

    Precision: q comes from the unrounded d; ties round away from zero. A block
    so small that 1/d overflows has q = 0 throughout.
    """
    scale = np.abs(x).max(axis=1) / np.float32(127)
    out[:, :2] = _stored_scale(scale, "Q8_0", 127)
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
    np.multiply(blocks[:, 2:].view(np.int8), _scale(blocks, 0), out=out)


def quantize_q4_0(x: np.ndarray, out: np.ndarray) -> None:
    """Quantize to four bits: d = -m / 8, q = min(15, trunc(x / d + 8.5)).

    Args:
        x: float32 (B, 32), finite.
        out: uint8 (B, 18), filled with d and pairs of q.

    Raises:
        ValueError: d overflows float16.

    Precision: m is the first x of the largest magnitude, so the side it lies
    on reaches 8 d and the other 7 d. An all-zero block stores d = -0 and
    q = 8; a block so small that 1/d overflows has q = 0 throughout.
    """
    largest = np.abs(x).argmax(axis=1)
    # Adding zero turns -0 into +0: the search for m starts from +0.
    scale = (x[np.arange(len(x)), largest] + np.float32(0)) / np.float32(-8)
    out[:, :2] = _stored_scale(scale, "Q4_0", 8)
    inverse = _inverse(scale)
    y = x * inverse[:, None] + np.float32(8.5)
    codes = np.minimum(y, np.float32(15)).astype(np.uint8)
    codes[(inverse == 0) & (scale != 0)] = 0
    np.bitwise_or(codes[:, :16], codes[:, 16:] << 4, out=out[:, 2:])


def dequantize_q4_0(blocks: np.ndarray, out: np.ndarray) -> None:
    """Decode y = d (q - 8).

    Args:
        blocks: uint8 (B, 18).
        out: float32 (B, 32), filled.
    """
    _nibbles(blocks[:, 2:], out)
    out -= np.float32(8)
    out *= _scale(blocks, 0)


def dequantize_q4_1(blocks: np.ndarray, out: np.ndarray) -> None:
    """Decode y = d q + m.

    Args:
        blocks: uint8 (B, 20).
        out: float32 (B, 32), filled.
    """
    _nibbles(blocks[:, 4:], out)
    out *= _scale(blocks, 0)
    out += _scale(blocks, 2)


def round_to_bf16(x: np.ndarray) -> np.ndarray:
    """Round to bfloat16, ties to even; a NaN stays one, quiet.

    Args:
        x: float32.

    Returns:
        uint16 of the same shape, little endian.
    """
    bits = x.view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    quiet = (bits >> 16) | 64
    return np.where(np.isnan(x), quiet, rounded).astype("<u2")


def widen_bf16(brain: np.ndarray) -> np.ndarray:
    """Widen bfloat16 to float32, exactly.

    Args:
        brain: uint16.

    Returns:
        float32 of the same shape.
    """
    return (brain.astype(np.uint32) << 16).view(np.float32)


def _stored_scale(scale: np.ndarray, name: str, codes: int) -> np.ndarray:
    with np.errstate(over="ignore", under="ignore"):
        half = scale.astype(_HALF)
    if np.isinf(half).any():
        largest = codes * float(np.abs(scale).max())
        raise ValueError(
            f"a value of magnitude {largest:.6g} overflows the float16 scale of "
            f"{name}; use BF16 or F32, or scale the weights"
        )
    return half[:, None].view(np.uint8)


def _inverse(scale: np.ndarray) -> np.ndarray:
    """Return 1/d, or 0 where d is zero or so small that 1/d overflows."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / scale
    inverse[np.isinf(inverse)] = 0
    return inverse


def _scale(blocks: np.ndarray, at: int) -> np.ndarray:
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(_HALF).astype(np.float32)


def _nibbles(packed: np.ndarray, out: np.ndarray) -> None:
    out[:, :16] = packed & 15
    out[:, 16:] = packed >> 4
