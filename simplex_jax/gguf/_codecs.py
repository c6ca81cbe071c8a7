"""Convert arrays to and from the bytes of a tensor type."""

from collections.abc import Callable, Iterator, Sequence

import gguf as gguf_py
import numpy as np

from . import _blocks, _k_affine, _k_signed
from ._bf16 import round_to_bf16, widen_bf16
from ._importance import check_importance, value_weights
from ._layout import STEP_ELEMENTS
from ._types import GGMLType, as_type, block_size, tensor_nbytes

_PLAIN = {
    GGMLType.F32: np.dtype("<f4"),
    GGMLType.F16: np.dtype("<f2"),
    GGMLType.F64: np.dtype("<f8"),
    GGMLType.I8: np.dtype("<i1"),
    GGMLType.I16: np.dtype("<i2"),
    GGMLType.I32: np.dtype("<i4"),
    GGMLType.I64: np.dtype("<i8"),
}

_QUANTIZE: dict[
    GGMLType, Callable[[np.ndarray, np.ndarray | None, np.ndarray], None]
] = {
    GGMLType.Q4_0: _blocks.quantize_q4_0,
    GGMLType.Q4_1: _blocks.quantize_q4_1,
    GGMLType.Q5_0: _blocks.quantize_q5_0,
    GGMLType.Q5_1: _blocks.quantize_q5_1,
    GGMLType.Q8_0: _blocks.quantize_q8_0,
    GGMLType.Q2_K: _k_affine.quantize_q2_k,
    GGMLType.Q3_K: _k_signed.quantize_q3_k,
    GGMLType.Q4_K: _k_affine.quantize_q4_k,
    GGMLType.Q5_K: _k_affine.quantize_q5_k,
    GGMLType.Q6_K: _k_signed.quantize_q6_k,
}
_DEQUANTIZE = {
    GGMLType.Q8_0: _blocks.dequantize_q8_0,
    GGMLType.Q4_0: _blocks.dequantize_q4_0,
    GGMLType.Q4_1: _blocks.dequantize_q4_1,
}

ENCODABLE = frozenset({GGMLType.F32, GGMLType.F16, GGMLType.BF16, *_QUANTIZE})


def encodable_names() -> str:
    """Return the types that ``quantize_array`` writes, for a message.

    Returns:
        Their names, in the order of their ids.
    """
    return ", ".join(type.name for type in sorted(ENCODABLE))


def quantize_array(
    array: np.ndarray, type: GGMLType | str, importance: np.ndarray | None = None
) -> np.ndarray:
    """Convert floats to the bytes of a tensor type.

    F16 and BF16 round to nearest, ties to even. The other types cut rows into
    blocks, whose whole numbers q share the scales d, s and the minima m::

        32 a block:   Q8_0, Q4_0, Q5_0   y = d q
                      Q4_1, Q5_1         y = d q + m
        256 a block:  Q3_K, Q6_K         y = d s q,           s for every 16
                      Q2_K               y = d s q - dmin m,  s, m for every 16
                      Q4_K, Q5_K         y = d s q - dmin m,  s, m for every 32

    Args:
        array: floats of any shape; converted to float32 first. The last axis
            is the one cut into blocks.
        type: a ``GGMLType`` or its name: F32, F16, BF16, or one of the above.
        importance: float32 (columns,), the mean square of what each column is
            multiplied by. Quantized types other than Q8_0 weigh the errors of
            the search by it; the rest ignore it.

    Returns:
        uint8 of shape (..., bytes per row).

    Raises:
        ValueError: another type, an array that is not of floats, rows that do
            not divide into blocks, a value that the type cannot hold (finite,
            and infinite in F16, BF16 or float32), a value that is not finite
            in a quantized type, a scale beyond float16, or importances of
            another shape, not finite or negative.

    Precision: the bytes equal those of llama.cpp's reference quantizers on
    x86-64, whose arithmetic is float32; only the payload of a NaN in F16
    differs, and where the reference stores a scale that is not finite, or
    drops a block whose sums overflow, this raises.
    """
    kind = as_type(type)
    if kind not in ENCODABLE:
        raise ValueError(
            f"type {kind.name} cannot be encoded; use one of {encodable_names()}"
        )
    values = _as_float32(array)
    tensor_nbytes(values.shape, kind)
    width = values.shape[-1] if values.ndim else 1
    if importance is not None:
        importance = check_importance(importance, width)
    flat = np.ascontiguousarray(values).reshape(-1)
    if kind == GGMLType.F32:
        raw = flat.astype("<f4", copy=False).view(np.uint8)
    elif kind == GGMLType.F16:
        with np.errstate(over="ignore", under="ignore"):
            half = flat.astype("<f2")
        _check_overflow(flat, half, kind.name)
        raw = half.view(np.uint8)
    elif kind == GGMLType.BF16:
        brain = round_to_bf16(flat)
        _check_overflow(flat, widen_bf16(brain), kind.name)
        raw = brain.view(np.uint8)
    else:
        raw = _quantize(flat.reshape(-1, max(1, width)), kind, importance)
    return raw.reshape(*values.shape[:-1], tensor_nbytes((width,), kind))


def dequantize_array(
    blocks: np.ndarray, type: GGMLType | str, shape: Sequence[int]
) -> np.ndarray:
    """Convert the bytes of a tensor type to floats.

    Args:
        blocks: uint8 of any shape, the bytes in order.
        type: a ``GGMLType`` or its name, that can be decoded: the plain ones, and
            every block type that the gguf package dequantizes.
        shape: NumPy order.

    Returns:
        float32 of ``shape``, a new array.

    Raises:
        ValueError: ``blocks`` has another size than shape and type ask for,
            or the type cannot be decoded.

    Precision: exact up to float32 rounding of the type's formula; F64, I32 and
    I64 are rounded to float32, beyond its range to infinity.
    """
    kind = as_type(type)
    nbytes = tensor_nbytes(shape, kind)
    if blocks.size != nbytes or blocks.dtype != np.uint8:
        raise ValueError(
            f"blocks is {blocks.dtype} of {blocks.size} elements; {kind.name} of shape "
            f"{tuple(shape)} is uint8 of {nbytes}"
        )
    raw = np.ascontiguousarray(blocks).reshape(-1)
    # Bytes from a file can spell any float, signalling NaN included.
    with np.errstate(all="ignore"):
        if kind in _PLAIN:
            values = raw.view(_PLAIN[kind]).astype(np.float32)
        elif kind == GGMLType.BF16:
            values = widen_bf16(raw.view("<u2"))
        else:
            values = _dequantize(raw, kind)
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


def _quantize(
    rows: np.ndarray, type: GGMLType, importance: np.ndarray | None
) -> np.ndarray:
    elements, nbytes = block_size(type)
    values = rows.reshape(-1, elements)
    weights = value_weights(rows, importance, type)
    out = np.empty((len(values), nbytes), np.uint8)
    for step in _steps(len(values), elements):
        x = values[step]
        if not np.isfinite(x).all():
            bad = x[~np.isfinite(x)]
            raise ValueError(
                f"{bad.size} or more values are not finite, such as {bad[0]!r}, and "
                f"{type.name} cannot hold them; the weights have diverged"
            )
        # Where a search divides by zero or overflows, the reference does so too.
        with np.errstate(all="ignore"):
            try:
                _QUANTIZE[type](x, weights(step), out[step])
            except OverflowError as error:
                raise ValueError(
                    f"a float16 scale of {type.name} overflows: {error}; use BF16 or "
                    "F32, or scale the weights"
                ) from None
    return out


def _steps(blocks: int, elements: int) -> Iterator[slice]:
    size = STEP_ELEMENTS // elements
    for start in range(0, blocks, size):
        yield slice(start, start + size)


def _dequantize(raw: np.ndarray, type: GGMLType) -> np.ndarray:
    elements, nbytes = block_size(type)
    rows = raw.reshape(-1, nbytes)
    out = np.empty((len(rows), elements), np.float32)
    into = _DEQUANTIZE.get(type) or _by_gguf_py(type)
    for step in _steps(len(rows), elements):
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
