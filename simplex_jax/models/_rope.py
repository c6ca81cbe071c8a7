"""Rotary position embedding, half-split form, with linear, llama3 and YaRN scaling."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ._config import DecoderConfig, RopeScaling, llama3_divisors


def rope_frequencies(config: DecoderConfig) -> tuple[np.ndarray, float]:
    r"""Return the angular frequencies and the factor on cos and sin.

    Plain: $f_d = \theta^{-2d/H}$, $d < H/2$, factor 1. Linear: $f_d / s$. Llama 3:
    see ``llama3_divisors``. YaRN: with $r(n) = H \ln(C / 2\pi n) / 2\ln\theta$, ramp
    $\gamma_d = \mathrm{clip}((d - \lfloor r(\beta_f)\rfloor) /
    (\lceil r(\beta_s)\rceil - \lfloor r(\beta_f)\rfloor), 0, 1)$,
    $f_d (\gamma_d / s + 1 - \gamma_d)$ and factor $0.1 \ln s + 1$.

    Args:
        config: head width, theta and scaling are read from it.

    Returns:
        float64 array of shape (head_dim / 2,), radians per token, and the factor.
    """
    width, theta = config.head_width, config.rope_theta
    d = np.arange(width // 2, dtype=np.float64)
    frequencies = theta ** (-2 * d / width)
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies, 1.0
    match scaling.rope_type:
        case "linear":
            return frequencies / scaling.factor, 1.0
        case "llama3":
            return frequencies / np.array(llama3_divisors(scaling, width, theta)), 1.0
        case "divisors":
            return frequencies / np.array(scaling.divisors), 1.0
        case _:
            blend = _yarn_ramp(scaling, width, theta)
            stretched = frequencies * (blend / scaling.factor + 1 - blend)
            factor = scaling.attention_factor
            if factor is None:
                factor = yarn_attention_factor(scaling.factor)
            return stretched, factor


def yarn_attention_factor(factor: float) -> float:
    """Return YaRN's default factor on cos and sin, ``0.1 ln(factor) + 1``."""
    return 0.1 * math.log(factor) + 1.0


def _yarn_ramp(scaling: RopeScaling, width: int, theta: float) -> np.ndarray:
    context = scaling.original_max_position_embeddings
    assert context is not None

    def dimension(rotations: float) -> float:
        return (
            width * math.log(context / (rotations * 2 * math.pi)) / 2 / math.log(theta)
        )

    low = max(math.floor(dimension(scaling.beta_fast)), 0)
    high = min(math.ceil(dimension(scaling.beta_slow)), width - 1)
    # Equal bounds would divide by zero; a step of this width is a step.
    span = max(high - low, 1e-3)
    return np.clip((np.arange(width // 2) - low) / span, 0, 1)


def rope_tables(
    config: DecoderConfig, positions: Int[Array, "B T"], dtype
) -> tuple[Float[Array, "B T half"], Float[Array, "B T half"]]:
    """Return cos and sin of every position's angles.

    Args:
        config: gives the frequencies.
        positions: token positions, >= 0.
        dtype: of the tables; angles are taken in it, so float32 is exact to about
            1e-7 times the angle, and bfloat16 must not be passed.

    Returns:
        Two arrays (B, T, head_dim / 2) in ``dtype``, YaRN's factor included.
    """
    frequencies, factor = rope_frequencies(config)
    row = jnp.asarray(frequencies, dtype)[None, None, :]
    angles = positions[..., None].astype(dtype) * row
    return jnp.cos(angles) * factor, jnp.sin(angles) * factor


def apply_rope(
    x: Float[Array, "B T heads H"],
    tables: tuple[Float[Array, "B T half"], Float[Array, "B T half"]],
) -> Float[Array, "B T heads H"]:
    r"""Rotate each pair $(x_d, x_{d+H/2})$ by its position's angle.

    Args:
        x: queries or keys.
        tables: cos and sin of ``rope_tables``.

    Returns:
        The rotated array in the dtype of ``x``; computed in the tables' dtype.
    """
    cos, sin = (t[:, :, None, :] for t in tables)
    first, second = jnp.split(x.astype(cos.dtype), 2, axis=-1)
    rotated = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)
