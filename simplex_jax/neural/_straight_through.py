"""A hard value with a soft one's derivative."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float


def straight_through(
    hard: Float[ArrayLike, "*shape"], soft: Float[ArrayLike, "*shape"]
) -> Float[Array, "*shape"]:
    r"""Return ``hard`` with the derivative of ``soft``.

    $y = \bar h + (s - \bar s)$, where a bar stops derivatives; y equals h to the bit.

    Args:
        hard: what the result is worth.
        soft: finite, what the result's derivatives are those of.

    Returns:
        An array like both.

    Differentiable: jvp, vjp and vmap, any number of times; by ``hard`` it is 0.
    Source: Simplex's straight-through estimator; deviation: forward mode crosses it.
    """
    soft = jnp.asarray(soft)
    smooth = soft - jax.lax.stop_gradient(soft)
    return jnp.asarray(jax.lax.stop_gradient(hard) + smooth)


def straight_through_step(
    x: Float[ArrayLike, "*shape"],
    threshold: float | Float[Array, ""] = 0.5,
    low: float = 0.0,
    high: float = 1.0,
) -> Float[Array, "*shape"]:
    r"""Return ``high`` where x reaches the threshold, else ``low``, with derivative 1.

    Args:
        x: any finite value.
        threshold: where the step is; it belongs to ``high``.
        low: the value below it.
        high: the value from it on.

    Returns:
        An array like x.

    Differentiable: jvp, vjp and vmap; the identity's derivative by x, a surrogate of
    one that is 0, and 0 by the threshold. Source: Simplex's
    ``StraightThroughEstimator``.
    """
    x = jnp.asarray(x)
    return straight_through(jnp.where(x >= threshold, high, low).astype(x.dtype), x)
