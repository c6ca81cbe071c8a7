"""One table of the ten types, and how a block's fields become scales."""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float32, Int32, UInt8

from .._types import GGMLType, block_size
from ._bits import load_half, pack_planes, unpack_planes

ScaleCodes = tuple[Int32[Array, "B G"], Int32[Array, "B G"] | None]


@dataclass(frozen=True)
class ScaleCodec:
    """How a super-block stores its groups' s, and m where it has minima.

    Attributes:
        nbytes: of the field.
        least: the least s.
        most: the largest s, and m.
        pack: from s, and m, int32 (B, G), to uint8 (B, nbytes).
        unpack: back; m is None where there is none.
    """

    nbytes: int
    least: int
    most: int
    pack: Callable[..., Array]
    unpack: Callable[[Array], ScaleCodes]


def _unpack_nibbles(packed: Array) -> ScaleCodes:
    codes = packed.astype(jnp.int32)
    return codes & 15, codes >> 4


def _pack_six_bits(s: Array, m: Array) -> Array:
    parts = [
        s[:, :4] | s[:, 4:] >> 4 << 6,
        m[:, :4] | m[:, 4:] >> 4 << 6,
        s[:, 4:] & 15 | (m[:, 4:] & 15) << 4,
    ]
    return jnp.concatenate(parts, axis=1).astype(jnp.uint8)


def _unpack_six_bits(packed: Array) -> ScaleCodes:
    s, m, rest = jnp.split(packed.astype(jnp.int32), 3, axis=1)
    return (
        jnp.concatenate([s & 63, rest & 15 | s >> 6 << 4], axis=1),
        jnp.concatenate([m & 63, rest >> 4 | m >> 6 << 4], axis=1),
    )


def _pack_around_32(s: Array) -> Array:
    codes = s + 32
    return jnp.concatenate(
        [pack_planes(codes & 15, 4, 8), pack_planes(codes >> 4, 2, 4)], axis=1
    )


def _unpack_around_32(packed: Array) -> ScaleCodes:
    low, high = packed[:, :8], packed[:, 8:]
    return (unpack_planes(low, 4, 8) | unpack_planes(high, 2, 4) << 4) - 32, None


_NIBBLES = ScaleCodec(
    16, 0, 15, lambda s, m: (s | m << 4).astype(jnp.uint8), _unpack_nibbles
)
_SIX_BITS = ScaleCodec(12, 0, 63, _pack_six_bits, _unpack_six_bits)
_AROUND_32 = ScaleCodec(12, -32, 31, _pack_around_32, _unpack_around_32)
_SIGNED_BYTES = ScaleCodec(
    16,
    -128,
    127,
    lambda s: s.astype(jnp.uint8),
    lambda packed: (lax.bitcast_convert_type(packed, jnp.int8).astype(jnp.int32), None),
)


@dataclass(frozen=True)
class Form:
    """A type: y = d s q - dmin m, or d q + m, or the same without a minimum.

    Attributes:
        fields: in the order of the bytes.
        low: bits and chunk length of the low bits of the codes.
        high: likewise of the high ones, or None.
        zero: the stored code of q = 0.
        group: elements that share a scale.
        scales: of a super-block, or None.
    """

    fields: tuple[str, ...]
    low: tuple[int, int]
    high: tuple[int, int] | None
    zero: int
    group: int
    scales: ScaleCodec | None = None

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return self.low[0] + (self.high[0] if self.high else 0)

    def sizes(self, elements: int) -> dict[str, int]:
        """Return the bytes of each field, in order."""
        known = {
            "d": 2,
            "m": 2,
            "low": elements * self.low[0] // 8,
            "high": elements * self.high[0] // 8 if self.high else 0,
            "scales": self.scales.nbytes if self.scales else 0,
        }
        return {name: known[name] for name in self.fields}


_FORMS = {
    GGMLType.Q8_0: Form(("d", "low"), (8, 32), None, 128, 32),
    GGMLType.Q4_0: Form(("d", "low"), (4, 16), None, 8, 32),
    GGMLType.Q4_1: Form(("d", "m", "low"), (4, 16), None, 0, 32),
    GGMLType.Q5_0: Form(("d", "high", "low"), (4, 16), (1, 1), 16, 32),
    GGMLType.Q5_1: Form(("d", "m", "high", "low"), (4, 16), (1, 1), 0, 32),
    GGMLType.Q2_K: Form(
        ("scales", "low", "d", "m"), (2, 32), None, 0, 16, scales=_NIBBLES
    ),
    GGMLType.Q3_K: Form(
        ("high", "low", "scales", "d"), (2, 32), (1, 32), 4, 16, scales=_AROUND_32
    ),
    GGMLType.Q4_K: Form(
        ("d", "m", "scales", "low"), (4, 32), None, 0, 32, scales=_SIX_BITS
    ),
    GGMLType.Q5_K: Form(
        ("d", "m", "scales", "high", "low"), (4, 32), (1, 32), 0, 32, scales=_SIX_BITS
    ),
    GGMLType.Q6_K: Form(
        ("low", "high", "scales", "d"), (4, 64), (2, 32), 32, 16, scales=_SIGNED_BYTES
    ),
}


def form_of(type: GGMLType | str) -> tuple[GGMLType, Form]:
    """Return a type and its row of the table.

    Args:
        type: a name or ``GGMLType``.

    Returns:
        The type and its form.

    Raises:
        ValueError: a type that the table lacks.
    """
    for kind, form in _FORMS.items():
        if type in (kind, kind.name):
            return kind, form
    raise ValueError(
        f"type is {getattr(type, 'name', type)!r}; the traced codecs know "
        f"{', '.join(kind.name for kind in _FORMS)}: use the NumPy ones for the others"
    )


def split_fields(
    blocks: UInt8[Array, "B nbytes"], kind: GGMLType, form: Form
) -> dict[str, Array]:
    """Cut blocks into their fields.

    Args:
        blocks: uint8 (B, bytes of a block).
        kind: the type.
        form: its row of the table.

    Returns:
        uint8 (B, bytes of the field) by name.
    """
    fields, start = {}, 0
    for name, nbytes in form.sizes(block_size(kind)[0]).items():
        fields[name] = blocks[:, start : start + nbytes]
        start += nbytes
    return fields


def scale_and_offset(
    fields: dict[str, Array], form: Form
) -> tuple[Float32[Array, "B G"], Float32[Array, "B G"] | None]:
    """Return a and b of y = a q + b, as a decoder computes them.

    Args:
        fields: of blocks.
        form: of their type.

    Returns:
        float32 (B, groups) each; b is None in a type without minima.
    """
    d = load_half(fields["d"])
    if form.scales is None:
        return d, load_half(fields["m"]) if "m" in fields else None
    s, m = form.scales.unpack(fields["scales"])
    scale = d * s.astype(jnp.float32)
    return scale, None if m is None else -(
        load_half(fields["m"]) * m.astype(jnp.float32)
    )
