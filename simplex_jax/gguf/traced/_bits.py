"""Bit planes and float16, between bytes and arrays."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float32, Int32, UInt8


def unpack_planes(
    packed: UInt8[Array, "B nbytes"], bits: int, length: int
) -> Int32[Array, "B n"]:
    """Undo ``pack_planes``.

    Args:
        packed: uint8 (B, nbytes).
        bits: of a code: 1, 2, 4 or 8.
        length: bytes of a chunk.

    Returns:
        int32 (B, 8 nbytes / bits), codes from 0 to 2^bits - 1.
    """
    count, nbytes = packed.shape
    chunks = packed.reshape(count, nbytes // length, 1, length)
    shifts = jnp.arange(0, 8, bits, dtype=jnp.uint8).reshape(1, 1, -1, 1)
    codes = (chunks >> shifts) & jnp.uint8(2**bits - 1)
    return codes.reshape(count, nbytes * 8 // bits).astype(jnp.int32)


def pack_planes(
    codes: Int32[Array, "B n"], bits: int, length: int
) -> UInt8[Array, "B nbytes"]:
    """Pack codes that lie ``length`` apart into one byte, the first lowest.

    Args:
        codes: int32 (B, n); their low ``bits`` bits are kept.
        bits: of a code: 1, 2, 4 or 8.
        length: bytes of a chunk.

    Returns:
        uint8 (B, n bits / 8).
    """
    count, nbytes = len(codes), codes.shape[1] * bits // 8
    chunks = codes & (2**bits - 1)
    chunks = chunks.reshape(count, nbytes // length, 8 // bits, length)
    shifts = jnp.arange(0, 8, bits, dtype=jnp.int32).reshape(1, 1, -1, 1)
    packed = jnp.sum(chunks << shifts, axis=2)
    return packed.reshape(count, nbytes).astype(jnp.uint8)


def load_half(stored: UInt8[Array, "B 2"]) -> Float32[Array, "B 1"]:
    """Widen a float16 to float32, exactly, whatever the device does to subnormals.

    Args:
        stored: uint8 (B, 2), little endian.

    Returns:
        float32 (B, 1); a NaN keeps its payload.
    """
    half = stored[:, :1].astype(jnp.uint32) | stored[:, 1:].astype(jnp.uint32) << 8
    magnitude, sign = half & 0x7FFF, (half & 0x8000) << 16
    small = lax.bitcast_convert_type(
        magnitude.astype(jnp.float32) * jnp.float32(2.0**-24), jnp.uint32
    )
    # 112 more is float32's bias of the exponent, 224 more its infinity.
    bias = jnp.where(magnitude < 0x7C00, jnp.uint32(112 << 23), jnp.uint32(224 << 23))
    bits = jnp.where(magnitude < 0x400, small, (magnitude << 13) + bias)
    return lax.bitcast_convert_type(bits | sign, jnp.float32)


def store_half(values: Float32[Array, " B"]) -> UInt8[Array, "B 2"]:
    """Round to float16, beyond its range to infinity.

    Args:
        values: float32 (B,).

    Returns:
        uint8 (B, 2), little endian.
    """
    half = lax.bitcast_convert_type(values.astype(jnp.float16), jnp.uint16)
    return jnp.stack([half & 0xFF, half >> 8], axis=1).astype(jnp.uint8)
