"""Where a token stands, for attention: what Flax has no layer for."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._checks import above, at_least, refuse


def sinusoidal_positions(
    positions: Int[Array, "*rows"], features: int, *, theta: float = 10000.0
) -> Float[Array, "*rows D"]:
    r"""Return sines and cosines of each position, to be added to embeddings.

    With $f_d = \theta^{-2d/D}$ for d < D/2, the first half is $\sin(p f_d)$, the
    second $\cos(p f_d)$.

    Args:
        positions: p, tokens from the start.
        features: D, even and at least 2.
        theta: base of the wavelengths, > 0.

    Returns:
        float32 in [-1, 1].

    Raises:
        ValueError: where ``features`` is odd or below 2, or ``theta`` is not positive.

    Source: Vaswani et al. 2017, with sines and cosines side by side instead of in turn.
    """
    angles = _angles(positions, "features", features, theta)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def rotary(
    x: Float[Array, "*batch T heads H"],
    positions: Int[Array, "*batch T"],
    *,
    theta: float = 10000.0,
) -> Float[Array, "*batch T heads H"]:
    r"""Rotate each pair $(x_d, x_{d+H/2})$ by $p\,\theta^{-2d/H}$, p the position.

    A query's product with a key then depends on the distance of their positions alone.

    Args:
        x: queries or keys; H even.
        positions: p, tokens from the start.
        theta: base of the wavelengths, > 0.

    Returns:
        Like x; angles are taken in float32, or x's dtype if wider.

    Raises:
        ValueError: where H is odd, or ``theta`` is not positive.

    Differentiable in x by jvp and vjp; it keeps lengths. Source: Su et al. 2021, the
    pairs as Llama's files have them.
    """
    angles = _angles(positions, "head width", x.shape[-1], theta)
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    angles = angles.astype(dtype)[..., None, :]
    first, second = jnp.split(x.astype(dtype), 2, axis=-1)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


def alibi_bias(heads: int, queries: int, keys: int) -> Float[Array, "N T S"]:
    r"""Return the bias $-m_n\,|t - s|$ on scores, by which nearer keys count more.

    $m_n = 2^{-8 (n+1) / N}$ where N is a power of two; otherwise the slopes of the
    power below, then every second one of the power above.

    Args:
        heads: N >= 1.
        queries: T; query t stands where key t stands.
        keys: S.

    Returns:
        float32, at most 0; for ``temperature_attention``'s ``bias``.

    Raises:
        ValueError: where ``heads`` is below 1.

    Source: Press et al. 2022.
    """
    at_least("heads", heads)
    power = 2 ** (heads.bit_length() - 1)
    slopes = 2.0 ** (-8 * np.arange(1, power + 1) / power)
    more = 2.0 ** (-4 * np.arange(1, 2 * power, 2) / power)
    slopes = np.concatenate([slopes, more])[:heads]
    distance = np.abs(np.arange(queries)[:, None] - np.arange(keys))
    return jnp.asarray(-slopes[:, None, None] * distance, jnp.float32)


def _angles(
    positions: Int[Array, "*rows"], name: str, features: int, theta: float
) -> Float[Array, "*rows half"]:
    if features < 2 or features % 2:
        refuse(name, features, "give an even number, at least 2")
    above("theta", theta, 0)
    frequencies = theta ** (-2 * np.arange(features // 2) / features)
    wide = jnp.result_type(float)
    angles = positions[..., None].astype(wide) * jnp.asarray(frequencies, wide).reshape(
        (1,) * positions.ndim + (-1,)
    )
    return angles
