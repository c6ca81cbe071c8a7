"""Decode blocks inside a traced function."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, UInt8

from .._types import GGMLType, block_size, tensor_nbytes
from ._bits import unpack_planes
from ._forms import form_of, scale_and_offset, split_fields


@partial(jax.jit, static_argnames=("type", "shape"))
def dequantize(
    blocks: UInt8[Array, "..."], type: GGMLType | str, shape: tuple[int, ...]
) -> Float32[Array, "..."]:
    """Convert the bytes of a tensor type to floats, inside a traced function.

    With q the codes, y = d q, d q + m, d s q or d s q - dmin m; see
    ``gguf.quantize_array``.

    Args:
        blocks: uint8 of any shape, the bytes in order.
        type: static; a name or ``GGMLType``: Q8_0, Q4_0, Q4_1, Q5_0, Q5_1,
            Q2_K, Q3_K, Q4_K, Q5_K or Q6_K.
        shape: static; NumPy order.

    Returns:
        float32 of ``shape``. There is no derivative by bytes.

    Raises:
        ValueError: another type, or ``blocks`` has another size than shape
            and type ask for.

    Precision: the bits of ``gguf.dequantize_array``, the payload of a NaN
    set aside: every product is exact in float32 and at most one sum is
    rounded, so that neither a fused multiply-add nor the order matters, and
    no result is subnormal.
    """
    kind, form = form_of(type)
    elements, block_nbytes = block_size(kind)
    nbytes = tensor_nbytes(shape, kind)
    if blocks.size != nbytes:
        raise ValueError(
            f"blocks has {blocks.size} bytes; {kind.name} of shape {shape} has {nbytes}"
        )
    fields = split_fields(blocks.reshape(-1, block_nbytes), kind, form)
    scale, offset = scale_and_offset(fields, form)
    bits, length = form.low
    planes, inner = 8 // bits, min(form.group, length)
    chunks, groups = elements // (planes * length), length // inner
    low = fields["low"].reshape(-1, chunks, groups, inner)
    if form.high:
        high = unpack_planes(fields["high"], *form.high)
        high = high.reshape(-1, chunks, planes, groups, inner)

    def spread(v: Array, plane: int) -> Array:
        if form.scales is None:
            return v.reshape(-1, 1, 1, 1)
        return v.reshape(-1, chunks, planes, groups, 1)[:, :, plane]

    # One plane at a time: with all of them in one expression, XLA's CPU compiler
    # takes the place of every element apart to find its byte, and is slower.
    parts = []
    for plane in range(planes):
        codes = (low >> (bits * plane) & (2**bits - 1)).astype(jnp.int32)
        if form.high:
            codes |= high[:, :, plane] << bits
        if form.bits == 8:
            codes ^= 128  # two's complement
        part = spread(scale, plane) * (codes - form.zero).astype(jnp.float32)
        parts.append(part if offset is None else part + spread(offset, plane))
    return jnp.stack(parts, axis=2).reshape(shape)
