"""Functions whose derivatives stay finite where JAX's own give NaN or infinity.

The value is the plain function's. Where no derivative exists 0 stands in for it: the
argument is replaced before the plain function, and its result after it, so that no NaN
enters either mode.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ._lift import lift


@lift
def safe_sqrt(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    r"""Return $\sqrt{x}$ with derivative 0 at x = 0.

    Args:
        x: floating, any shape, or a number; below 0 the result is NaN, as ``jnp.sqrt``.

    Returns:
        An array like x.

    Differentiable: jvp, vjp and vmap, any number of times. Precision: ``jnp.sqrt``'s.
    """
    zero = jnp.equal(x, 0)
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, x)))


@lift
def safe_norm(
    x: Float[ArrayLike, "..."], axis: int | tuple[int, ...] | None = None
) -> Float[Array, "..."]:
    r"""Return $\sqrt{\sum_i x_i^2}$ with derivative 0 where the norm is 0.

    Args:
        x: floating, any shape, or a number.
        axis: the axis or axes to sum over; None for all.

    Returns:
        An array like x without those axes.

    Differentiable: jvp, vjp and vmap, any number of times. Precision: squares overflow
    beyond the root of the largest float, as in ``jnp.linalg.norm``.
    """
    return safe_sqrt(jnp.sum(jnp.square(x), axis=axis))


@lift
def safe_power(
    x: Float[ArrayLike, "..."], y: Float[ArrayLike, "..."]
) -> Float[Array, "..."]:
    r"""Return $x^y$ with finite derivatives wherever the value is finite.

    $\partial_x x^y = y\,x^{y-1}$, also at x = 0 and for negative x with integer y,
    to any order; 0 at x = 0 for y < 1. $\partial_y x^y = x^y \ln x$ for x > 0, else 0.

    Args:
        x: floating, or a number.
        y: floating, or a number; broadcasts with x.

    Returns:
        An array of the common shape and dtype; NaN for negative x with y no integer.

    Differentiable: jvp, vjp and vmap, any number of times. Precision: ``jnp.power``'s.
    """
    dtype = jnp.result_type(x, y)
    x, y = jnp.broadcast_arrays(jnp.asarray(x, dtype), jnp.asarray(y, dtype))
    return _power(x, y)


@jax.custom_jvp
def _power(x, y):
    return jnp.power(x, y)


@_power.defjvp
def _power_jvp(primals, tangents):
    x, y = primals
    flat = (x == 0) & (y < 1)
    by_x = jnp.where(flat, 0, y * _power(jnp.where(flat, 1, x), y - 1))
    positive = x > 0
    base = jnp.where(positive, x, 1)
    by_y = jnp.where(positive, _power(base, y) * jnp.log(base), 0)
    return _power(x, y), by_x * tangents[0] + by_y * tangents[1]


@lift
def safe_xlogy(
    x: Float[ArrayLike, "..."], y: Float[ArrayLike, "..."]
) -> Float[Array, "..."]:
    r"""Return $x \ln y$, 0 with derivatives 0 where both are 0.

    Args:
        x: floating, or a number.
        y: floating, >= 0, or a number; broadcasts with x.

    Returns:
        An array of the common shape and dtype.

    Differentiable: jvp, vjp and vmap, any number of times; by x it is ln y, by y x / y.
    Precision: ``jnp.log``'s.
    """
    both = jnp.equal(x, 0) & jnp.equal(y, 0)
    return jnp.multiply(x, jnp.log(jnp.where(both, 1, y)))


@lift
def safe_arctan2(
    y: Float[ArrayLike, "..."], x: Float[ArrayLike, "..."]
) -> Float[Array, "..."]:
    r"""Return the angle of (x, y) with derivatives 0 at the origin.

    Args:
        y: floating, or a number.
        x: floating, or a number; broadcasts with y.

    Returns:
        Angles from -pi to pi, of the common shape and dtype.

    Differentiable: jvp, vjp and vmap, any number of times. Precision:
    ``jnp.arctan2``'s.
    """
    origin = jnp.equal(x, 0) & jnp.equal(y, 0)
    there = jax.lax.stop_gradient(jnp.arctan2(y, x))
    return jnp.where(origin, there, jnp.arctan2(y, jnp.where(origin, 1, x)))


@lift
def safe_logsumexp(
    x: Float[ArrayLike, "..."], axis: int | tuple[int, ...] | None = None
) -> Float[Array, "..."]:
    r"""Return $\ln \sum_i e^{x_i}$ with derivative 0 where all $x_i$ are -inf.

    Args:
        x: floating, any shape, or a number.
        axis: the axis or axes to sum over; None for all.

    Returns:
        An array like x without those axes; -inf where all elements are.

    Differentiable: jvp, vjp and vmap, any number of times. Precision:
    ``jax.nn.logsumexp``'s.
    """
    empty = jnp.all(jnp.equal(x, -jnp.inf), axis=axis, keepdims=True)
    total = jax.nn.logsumexp(jnp.where(empty, 0, x), axis=axis, keepdims=True)
    return jnp.squeeze(jnp.where(empty, -jnp.inf, total), axis=axis)
