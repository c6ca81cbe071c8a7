"""How blocks lie in memory: groups, float16 scales and bit planes."""

import math

import numpy as np

# Elements per step: intermediate arrays stay in the processor's cache.
STEP_ELEMENTS = 1 << 16

_LINE = 64
_HALF = np.dtype("<f2")


def aligned_empty(shape: tuple[int, ...]) -> np.ndarray:
    """Return a float32 array that begins at a cache line.

    NumPy's own arrays begin 16 bytes after one, so that every vector load
    crosses a line, and sums and products take twice as long.

    Args:
        shape: of the array.

    Returns:
        An uninitialised array.
    """
    nbytes = math.prod(shape) * 4
    memory = np.empty(nbytes + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + nbytes].view(np.float32).reshape(shape)


def position_major(blocks: np.ndarray, size: int) -> np.ndarray:
    """Cut blocks into groups and put the groups side by side.

    Sums over positions then run along rows, while NumPy's loops run over the
    groups.

    Args:
        blocks: float32 (B, elements), or one value a group (G,).
        size: elements of a group.

    Returns:
        float32 (size, G), a new array, with G = B * elements / size.
    """
    groups = blocks.reshape(-1, size).T
    out = aligned_empty(groups.shape)
    out[:] = groups
    return out


def block_major(codes: np.ndarray, elements: int) -> np.ndarray:
    """Undo ``position_major``.

    Args:
        codes: (size, G), whole numbers from 0 to 255.
        elements: elements of a block.

    Returns:
        uint8 (B, elements).
    """
    return np.ascontiguousarray(codes.astype(np.uint8).T).reshape(-1, elements)


def store_half(values: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Store one float16 a block, rounded to nearest, ties to even.

    Args:
        values: float32 (B,).
        out: uint8 (B, 2), filled.

    Returns:
        float32 (B,), the rounded values.

    Raises:
        OverflowError: a value is beyond float16.
    """
    half = values.astype(_HALF)
    lost = values[~np.isfinite(half)]
    if lost.size:
        raise OverflowError(f"{lost[0]:.6g} is beyond 65504")
    out[:] = half[:, None].view(np.uint8)
    return half.astype(np.float32)


def load_half(stored: np.ndarray) -> np.ndarray:
    """Read one float16 a block.

    Args:
        stored: uint8 (B, 2).

    Returns:
        float32 (B, 1).
    """
    return np.ascontiguousarray(stored).view(_HALF).astype(np.float32)


def pack_planes(codes: np.ndarray, bits: int, length: int) -> np.ndarray:
    """Pack codes of a few bits, so that neighbours stay neighbours.

    A byte holds 8 / bits codes that lie ``length`` apart, the first of them
    in the low bits::

        byte[c length + l] = sum_k code[(8 / bits) c length + k length + l] << bits k

    Args:
        codes: uint8 (B, elements), below 2^bits.
        bits: 1, 2 or 4.
        length: bytes of a chunk.

    Returns:
        uint8 (B, elements * bits / 8).
    """
    planes = codes.reshape(len(codes), -1, 8 // bits, length)
    packed = planes[:, :, 0].copy()
    for k in range(1, 8 // bits):
        packed |= planes[:, :, k] << np.uint8(bits * k)
    return packed.reshape(len(codes), -1)
