"""Values that no gate can use: an error that names them, or NaN under ``jit``."""

import jax.core
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float


def probability(name: str, p: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Return p as an array; outside [0, 1] a ValueError, or NaN where traced."""
    p = jnp.asarray(p)
    return _refused(name, p, (p < 0) | (p > 1), "give probabilities in [0, 1]")


def positive(name: str, x: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Return x as an array; 0 and below a ValueError, or NaN where traced."""
    x = jnp.asarray(x)
    return _refused(name, x, x <= 0, "give a number above 0")


def _refused(
    name: str, x: Float[Array, "..."], bad: Bool[Array, "..."], fix: str
) -> Float[Array, "..."]:
    if isinstance(bad, jax.core.Tracer):
        return jnp.where(bad, jnp.nan, x)
    if bad.any():
        raise ValueError(f"{name} has the value {x[bad][0]}; {fix}")
    return x


def spread(x: Float[Array, "..."], like: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return x with as many axes as ``like``, new ones in front."""
    return x.reshape((1,) * (like.ndim - x.ndim) + x.shape) if x.ndim else x
