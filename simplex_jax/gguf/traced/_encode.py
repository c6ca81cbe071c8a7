"""Encode floats inside a traced function."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Float32, UInt8

from .._types import GGMLType, block_size, tensor_nbytes
from ._bits import pack_planes, store_half
from ._forms import Form, form_of, scale_and_offset

# Where the search of a type with minima starts, and its last try.
_SEARCH = {
    GGMLType.Q2_K: (-0.5, 15),
    GGMLType.Q4_K: (-1.0, 20),
    GGMLType.Q5_K: (-0.5, 15),
}


@partial(jax.jit, static_argnames=("type",))
def quantize(x: Float[Array, "..."], type: GGMLType | str) -> UInt8[Array, "..."]:
    """Convert floats to the bytes of a tensor type, inside a traced function.

    A group's scale, and minimum, are searched by llama.cpp's objectives, as
    ``gguf.quantize_array`` does without importances; then
    q = clip(round((x - b) / a)) with the a and b that a decoder reads.

    Args:
        x: floats of any shape, finite; the last axis is cut into blocks.
        type: static; a name or ``GGMLType``: Q8_0, Q4_0, Q4_1, Q5_0, Q5_1,
            Q2_K, Q3_K, Q4_K, Q5_K or Q6_K.

    Returns:
        uint8 of shape (..., bytes per row). There is no derivative.

    Raises:
        ValueError: another type, or rows that do not divide into blocks.

    Precision: over a tensor of normal, Laplace or outlying weights the root
    mean square error is at most 1.02 times that of ``gguf.quantize_array``;
    of weights that are nearly all 0, 1.04 times, since fits of equal error
    are many and rounding chooses among them. The bytes differ: sums run in
    another order, and legacy types take their codes from the rounded scale.
    Nothing is checked: a scale beyond float16 is stored as infinity, and what
    is not finite spoils its block. ``gguf.quantize_array`` refuses both.
    """
    kind, form = form_of(type)
    tensor_nbytes(x.shape, kind)
    elements, _ = block_size(kind)
    groups = x.astype(jnp.float32).reshape(-1, elements // form.group, form.group)
    fields = _fit(groups, kind, form)
    scale, offset = scale_and_offset(fields, form)
    shifted = groups if offset is None else groups - offset[:, :, None]
    q = jnp.rint(shifted / _nonzero(scale)[:, :, None])
    q = jnp.where(scale[:, :, None] == 0, 0, q)
    codes = jnp.clip(q.astype(jnp.int32) + form.zero, 0, 2**form.bits - 1)
    codes = codes.reshape(-1, elements)
    if form.bits == 8:
        codes ^= 128  # two's complement
    fields["low"] = pack_planes(codes, *form.low)
    if form.high:
        fields["high"] = pack_planes(codes >> form.low[0], *form.high)
    blocks = jnp.concatenate([fields[name] for name in form.fields], axis=1)
    width = x.shape[-1]
    return blocks.reshape(*x.shape[:-1], tensor_nbytes((width,), kind))


def _fit(groups: Array, kind: GGMLType, form: Form) -> dict[str, Array]:
    """Return the fields d, m and scales of blocks (B, G, n)."""
    top = 2**form.bits - 1
    if form.scales is None and "m" in form.fields:
        low = groups.min(axis=(1, 2))
        return {
            "d": store_half((groups.max(axis=(1, 2)) - low) / top),
            "m": store_half(low),
        }
    if form.scales is None:
        # Q8_0 uses as many codes on either side, the others one more below 0.
        reach = 127 if form.bits == 8 else -form.zero
        return {"d": store_half(_largest(groups[:, 0], axis=1) / reach)}
    if "m" in form.fields:
        scale, minimum = _search_affine(groups, kind, top)
        d = jnp.maximum(scale.max(axis=1), 0) / form.scales.most
        dmin = jnp.maximum(minimum.max(axis=1), 0) / form.scales.most
        s, m = (
            jnp.clip(jnp.rint(v / _nonzero(step)[:, None]), 0, form.scales.most)
            for v, step in ((scale, d), (minimum, dmin))
        )
        packed = form.scales.pack(s.astype(jnp.int32), m.astype(jnp.int32))
        return {"d": store_half(d), "m": store_half(dmin), "scales": packed}
    search = _descend_signed if kind == GGMLType.Q3_K else _search_signed
    scale = search(groups, form.zero)
    d = _largest(scale, axis=1) / form.scales.least
    s = jnp.rint(scale / _nonzero(d)[:, None])
    s = jnp.clip(s, form.scales.least, form.scales.most).astype(jnp.int32)
    return {"d": store_half(d), "scales": form.scales.pack(s)}


def _search_affine(x: Array, kind: GGMLType, top: int) -> tuple[Array, Array]:
    """Return s and m (B, G) of x (B, G, n) = s q - m by llama.cpp's tries, m >= 0.

    The objective and the tries are those of the NumPy search.
    """
    start, last = _SEARCH[kind]
    squared = kind != GGMLType.Q2_K
    w = jnp.abs(x)
    if squared:
        w += jnp.sqrt(jnp.mean(x * x, axis=-1, keepdims=True))
    high = x.max(axis=-1, keepdims=True)
    least = jnp.minimum(x.min(axis=-1, keepdims=True), 0)

    def total(terms: Array) -> Array:
        return jnp.sum(terms, axis=-1, keepdims=True)

    def codes(range_codes: Array, low: Array) -> Array:
        return jnp.clip(
            jnp.rint(range_codes / _nonzero(high - low) * (x - low)), 0, top
        )

    def error(scale: Array, q: Array, low: Array) -> Array:
        gap = scale * q + low - x
        return total(w * (gap * gap if squared else jnp.abs(gap)))

    sum_w, sum_x = total(w), total(w * x)

    def attempt(k: Array, kept: tuple[Array, Array, Array]) -> tuple[Array, ...]:
        scale, low, best = kept
        q = codes(start + 0.1 * k.astype(jnp.float32) + top, low)
        sum_q, sum_qq, sum_qx = total(w * q), total(w * q * q), total(w * q * x)
        determinant = sum_w * sum_qq - sum_q * sum_q
        new_low = (sum_qq * sum_x - sum_q * sum_qx) / _nonzero(determinant)
        new_scale = jnp.where(
            new_low > 0,
            sum_qx / _nonzero(sum_qq),
            (sum_w * sum_qx - sum_x * sum_q) / _nonzero(determinant),
        )
        new_low = jnp.minimum(new_low, 0)
        new = new_scale, new_low, error(new_scale, q, new_low)
        better = (determinant > 0) & (new[2] < best)
        return tuple(jnp.where(better, a, b) for a, b in zip(new, kept, strict=True))

    scale = (high - least) / top
    kept = scale, least, error(scale, codes(jnp.float32(top), least), least)
    scale, low, _ = lax.fori_loop(0, last + 1, attempt, kept)
    return scale[..., 0], -low[..., 0]


def _search_signed(x: Array, half: int) -> Array:
    """Return s (B, G) of x (B, G, n) = s q by llama.cpp's tries, with weights x^2."""
    largest, w = _nonzero(_largest(x, axis=-1))[..., None], x * x
    # The plain try comes first: of equal ones the first is kept.
    tries = jnp.array([0, *range(-9, 0), *range(1, 10)], jnp.float32)

    def attempt(k: Array, kept: tuple[Array, Array]) -> tuple[Array, ...]:
        q = jnp.rint(-(half + 0.1 * tries[k]) / largest * x)
        q = jnp.clip(q, -half, half - 1)
        sum_qx, sum_qq = jnp.sum(w * x * q, axis=-1), jnp.sum(w * q * q, axis=-1)
        scale = sum_qx / _nonzero(sum_qq)
        better = scale * sum_qx > kept[1]
        return tuple(
            jnp.where(better, a, b)
            for a, b in zip((scale, scale * sum_qx), kept, strict=True)
        )

    nothing = jnp.zeros(x.shape[:-1], jnp.float32)
    return lax.fori_loop(0, len(tries), attempt, (nothing, nothing))[0]


def _descend_signed(x: Array, half: int) -> Array:
    """Return s (B, G) of x (B, G, n) = s q with weights x^2, one q at a time."""
    # A position's values of all groups lie side by side.
    x = jnp.moveaxis(x, -1, 0)
    w = x * x
    q = jnp.rint(-half / _nonzero(_largest(x, axis=0))[None] * x)
    q = jnp.clip(q, -half, half - 1)

    def improve(k: Array, kept: tuple[Array, Array, Array]) -> tuple[Array, ...]:
        q, sum_qx, sum_qq = kept
        x_i, w_i, q_i = (v[k % len(x)] for v in (x, w, q))
        rest_qx, rest_qq = sum_qx - w_i * x_i * q_i, sum_qq - w_i * q_i * q_i
        new = jnp.rint(x_i * rest_qq / _nonzero(rest_qx))
        new = jnp.clip(new, -half, half - 1)
        new_qx, new_qq = rest_qx + w_i * x_i * new, rest_qq + w_i * new * new
        better = (rest_qx > 0) & (new_qq > 0)
        better &= new_qx * new_qx * sum_qq > sum_qx * sum_qx * new_qq
        return (
            q.at[k % len(x)].set(jnp.where(better, new, q_i)),
            jnp.where(better, new_qx, sum_qx),
            jnp.where(better, new_qq, sum_qq),
        )

    kept = q, jnp.sum(w * x * q, axis=0), jnp.sum(w * q * q, axis=0)
    _, sum_qx, sum_qq = lax.fori_loop(0, 5 * len(x), improve, kept)
    return sum_qx / _nonzero(sum_qq)


def _largest(x: Array, axis: int) -> Float32[Array, "..."]:
    """Return the value of the largest magnitude along an axis."""
    high, low = x.max(axis=axis), x.min(axis=axis)
    return jnp.where(high >= -low, high, low)


def _nonzero(x: Array) -> Array:
    """Return x with 1 for 0: what is divided by it comes out as 0, or is unused."""
    return jnp.where(x == 0, 1, x)
