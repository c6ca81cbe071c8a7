"""Sums along a row that begin anew with each document."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def running_sum(
    x: Float[Array, "B T K"], fresh: Bool[Array, "B T"]
) -> Float[Array, "B T K"]:
    """Return the sum of each token's number and of those before it in its document.

    Args:
        x: numbers.
        fresh: True for the first token of a document.

    Returns:
        As many sums. Differentiable; a sum does not depend on other documents at all,
        where a difference of two sums over the row would, by its rounding.
    """

    def join(left, right):
        began, total = right
        return left[0] | began, jnp.where(began, total, left[1] + total)

    starts = jnp.broadcast_to(fresh[..., None], x.shape)
    return jax.lax.associative_scan(join, (starts, x), axis=1)[1]
