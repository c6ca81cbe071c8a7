"""Convert arrays to and from the bytes of a tensor type."""

from collections.abc import Callable, Sequence

import gguf as gguf_py
import numpy as np

from . import _blocks as blocks
from ._types import GGMLType, block_size, tensor_nbytes

_PLAIN = {
    GGMLType.F32: np.dtype("<f4"),
    GGMLType.F16: np.dtype("<f2"),
    GGMLType.F64: np.dtype("<f8"),
    GGMLType.I8: np.dtype("<i1"),
    GGMLType.I16: np.dtype("<i2"),
    GGMLType.I32: np.dtype("<i4"),
    GGMLType.I64: np.dtype("<i8"),
}

# Blocks per step: intermediate arrays stay in the processor's cache.
_STEP_BLOCKS = 4096

_QUANTIZE = {
    GGMLType.Q8_0: blocks.quantize_q8_0,
    GGMLType.Q4_0: blocks.quantize_q4_0,
}
_DEQUANTIZE = {
    GGMLType.Q8_0: blocks.dequantize_q8_0,
    GGMLType.Q4_0: blocks.dequantize_q4_0,
    GGMLType.Q4_1: blocks.dequantize_q4_1,
}

ENCODABLE = frozenset({GGMLType.F32, GGMLType.F16, GGMLType.BF16, *_QUANTIZE})


def encodable_names() -> str:
    """Return the types that ``encode`` writes, for a message.

    Returns:
        Their names, in the order of their ids.
    """
    return ", ".join(type.name for type in sorted(ENCODABLE))


def encode(array: np.ndarray, type: GGMLType) -> np.ndarray:
    """Convert floats to the bytes of a tensor type.

    F16 and BF16 round to nearest, ties to even. Q8_0 and Q4_0 cut rows into
    blocks of 32 that share a float16 scale d::

        Q8_0: d = max|x| / 127,       q = round(x / d),           y = d q
        Q4_0: d = -x[argmax|x|] / 8,  q = min(15, [x / d + 8.5]),  y = d (q - 8)

    Args:
        array: floats of any shape; converted to float32 first. The last axis
            is the one cut into blocks.
        type: F32, F16, BF16, Q8_0 or Q4_0.

    Returns:
        uint8 of shape (nbytes,).

    Raises:
        ValueError: another type, an array that is not of floats, rows that do
            not divide into blocks, a value that the type cannot hold (finite,
            and infinite in F16, BF16 or float32), or a value that is not
            finite in a quantized type.

    Precision: the bytes equal those of llama.cpp's reference quantizers, whose
    arithmetic is float32; only the payload of a NaN in F16 differs.
    """
    if type not in ENCODABLE:
        raise ValueError(
            f"type {type.name} cannot be encoded; use one of {encodable_names()}"
        )
    values = _as_float32(array)
    tensor_nbytes(values.shape, type)
    flat = np.ascontiguousarray(values).reshape(-1)
    if type == GGMLType.F32:
        return flat.astype("<f4", copy=False).view(np.uint8)
    if type == GGMLType.F16:
        with np.errstate(over="ignore", under="ignore"):
            half = flat.astype("<f2")
        _check_overflow(flat, half, type.name)
        return half.view(np.uint8)
    if type == GGMLType.BF16:
        brain = blocks.round_to_bf16(flat)
        _check_overflow(flat, blocks.widen_bf16(brain), type.name)
        return brain.view(np.uint8)
    return _quantize(flat, type)


def decode(raw: np.ndarray, type: GGMLType, shape: Sequence[int]) -> np.ndarray:
    """Convert the bytes of a tensor type to floats.

    Args:
        raw: uint8 of shape (nbytes,).
        type: any type that can be decoded: the plain ones, and every block
            type that the gguf package dequantizes.
        shape: NumPy order.

    Returns:
        float32 of ``shape``, a new array.

    Raises:
        ValueError: ``raw`` has another length than shape and type ask for, or
            the type cannot be decoded.

    Precision: exact up to float32 rounding of the type's formula; F64, I32 and
    I64 are rounded to float32, beyond its range to infinity.
    """
    nbytes = tensor_nbytes(shape, type)
    if raw.shape != (nbytes,) or raw.dtype != np.uint8:
        raise ValueError(
            f"raw is {raw.dtype} of shape {raw.shape}; {type.name} of shape "
            f"{tuple(shape)} is uint8 of shape ({nbytes},)"
        )
    # Bytes from a file can spell any float, signalling NaN included.
    with np.errstate(all="ignore"):
        if type in _PLAIN:
            values = raw.view(_PLAIN[type]).astype(np.float32)
        elif type == GGMLType.BF16:
            values = blocks.widen_bf16(raw.view("<u2"))
        else:
            values = _dequantize(raw, type)
    return values.reshape(shape)


def _as_float32(array: np.ndarray) -> np.ndarray:
    # "V" is what NumPy calls the bfloat16 of ml_dtypes.
    if array.dtype.kind not in "fV":
        raise ValueError(f"array has dtype {array.dtype}; convert it to float32 first")
    with np.errstate(over="ignore", under="ignore"):
        values = array.astype(np.float32, copy=False)
    if values.dtype.itemsize < array.dtype.itemsize:
        _check_overflow(array, values, "float32")
    return values


def _check_overflow(before: np.ndarray, after: np.ndarray, name: str) -> None:
    lost = np.isinf(after) & np.isfinite(before)
    if lost.any():
        raise ValueError(
            f"{np.count_nonzero(lost)} values overflow {name}, such as "
            f"{before[lost][0]!r}; use BF16 or F32, or scale the weights"
        )


def _quantize(flat: np.ndarray, type: GGMLType) -> np.ndarray:
    elements, nbytes = block_size(type)
    rows = flat.reshape(-1, elements)
    out = np.empty((len(rows), nbytes), np.uint8)
    for start in range(0, len(rows), _STEP_BLOCKS):
        step = slice(start, start + _STEP_BLOCKS)
        if not np.isfinite(rows[step]).all():
            bad = rows[step][~np.isfinite(rows[step])]
            raise ValueError(
                f"{bad.size} or more values are not finite, such as {bad[0]!r}, and "
                f"{type.name} cannot hold them; the weights have diverged"
            )
        _QUANTIZE[type](rows[step], out[step])
    return out.reshape(-1)


def _dequantize(raw: np.ndarray, type: GGMLType) -> np.ndarray:
    elements, nbytes = block_size(type)
    rows = raw.reshape(-1, nbytes)
    out = np.empty((len(rows), elements), np.float32)
    into = _DEQUANTIZE.get(type) or _by_gguf_py(type)
    for start in range(0, len(rows), _STEP_BLOCKS):
        step = slice(start, start + _STEP_BLOCKS)
        into(rows[step], out[step])
    return out


def _by_gguf_py(type: GGMLType) -> Callable[[np.ndarray, np.ndarray], None]:
    def into(rows: np.ndarray, out: np.ndarray) -> None:
        try:
            out[:] = gguf_py.dequantize(rows.reshape(1, -1), type).reshape(out.shape)
        except NotImplementedError:
            raise ValueError(
                f"type {type.name} cannot be decoded by the installed gguf package"
            ) from None

    return into
