r"""Logic on log-odds, for any real number: $\log p - \log(1 - p)$ in and out.

Each equals the logit of its namesake on probabilities, without passing through them:
it is finite for all logits below half of the largest float. The t-norms are the product
and Goedel's. Lukasiewicz has none: its AND is exactly false for all p + q <= 1, the
logit of which is -inf.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ._tnorm import TNorm


def _is_product(tnorm: TNorm) -> bool:
    if tnorm is TNorm.LUKASIEWICZ:
        raise ValueError(
            "tnorm is LUKASIEWICZ, which has no finite logits; give PRODUCT or GODEL, "
            "or use the functions of probabilities"
        )
    return tnorm is TNorm.PRODUCT


def not_logits(a: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Return -a.

    Args:
        a: logits.

    Returns:
        Logits of a's shape.

    Differentiable: jvp, vjp and vmap.
    """
    return -jnp.asarray(a)


def and_logits(
    a: Float[ArrayLike, "..."],
    b: Float[ArrayLike, "..."],
    tnorm: TNorm = TNorm.PRODUCT,
) -> Float[Array, "..."]:
    r"""Return the logit of AND: $-\log(e^{-a} + e^{-b} + e^{-a-b})$, or min(a, b).

    Args:
        a: logits.
        b: logits; broadcast with a.
        tnorm: PRODUCT or GODEL.

    Returns:
        Logits of the common shape.

    Raises:
        ValueError: for Lukasiewicz's.

    Differentiable: jvp, vjp and vmap. Precision: a few ulp of the result or of 1.
    """
    return -or_logits(-jnp.asarray(a), -jnp.asarray(b), tnorm)


def or_logits(
    a: Float[ArrayLike, "..."],
    b: Float[ArrayLike, "..."],
    tnorm: TNorm = TNorm.PRODUCT,
) -> Float[Array, "..."]:
    r"""Return the logit of OR: $\log(e^a + e^b + e^{a+b})$, or max(a, b).

    Args:
        a: logits.
        b: logits; broadcast with a.
        tnorm: PRODUCT or GODEL.

    Returns:
        Logits of the common shape.

    Raises:
        ValueError: for Lukasiewicz's.

    Differentiable: as ``and_logits``.
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    if _is_product(tnorm):
        return jnp.logaddexp(jnp.logaddexp(a, b), a + b)
    return jnp.maximum(a, b)


def xor_logits(
    a: Float[ArrayLike, "..."],
    b: Float[ArrayLike, "..."],
    tnorm: TNorm = TNorm.PRODUCT,
) -> Float[Array, "..."]:
    r"""Return the logit of XOR: $\log(1 + e^{a-b}) - \log(1 + e^{a+b}) + b$.

    That is $\log((e^a + e^b) / (1 + e^{a+b}))$. Goedel's: max(min(a, -b), min(-a, b)).

    Args:
        a: logits.
        b: logits; broadcast with a.
        tnorm: PRODUCT or GODEL.

    Returns:
        Logits of the common shape, no larger than the smaller of abs(a) and abs(b).

    Raises:
        ValueError: for Lukasiewicz's.

    Differentiable: as ``and_logits``. Precision: a few ulp of the larger of 1, abs(a)
    and abs(b).
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    if _is_product(tnorm):
        return jax.nn.softplus(a - b) - jax.nn.softplus(a + b) + b
    return jnp.maximum(jnp.minimum(a, -b), jnp.minimum(-a, b))


def implies_logits(
    a: Float[ArrayLike, "..."],
    b: Float[ArrayLike, "..."],
    tnorm: TNorm = TNorm.PRODUCT,
) -> Float[Array, "..."]:
    """Return the logit of NOT a OR b.

    Args:
        a: logits.
        b: logits; broadcast with a.
        tnorm: PRODUCT or GODEL.

    Returns:
        Logits of the common shape.

    Raises:
        ValueError: for Lukasiewicz's.

    Differentiable: as ``and_logits``.
    """
    return or_logits(-jnp.asarray(a), b, tnorm)


def iff_logits(
    a: Float[ArrayLike, "..."],
    b: Float[ArrayLike, "..."],
    tnorm: TNorm = TNorm.PRODUCT,
) -> Float[Array, "..."]:
    """Return the logit of NOT (a XOR b).

    Args:
        a: logits.
        b: logits; broadcast with a.
        tnorm: PRODUCT or GODEL.

    Returns:
        Logits of the common shape.

    Raises:
        ValueError: for Lukasiewicz's.

    Differentiable: as ``and_logits``. Precision: as ``xor_logits``.
    """
    return -xor_logits(a, b, tnorm)


def nand_logits(
    a: Float[ArrayLike, "..."],
    b: Float[ArrayLike, "..."],
    tnorm: TNorm = TNorm.PRODUCT,
) -> Float[Array, "..."]:
    """Return the logit of NOT (a AND b).

    Args:
        a: logits.
        b: logits; broadcast with a.
        tnorm: PRODUCT or GODEL.

    Returns:
        Logits of the common shape.

    Raises:
        ValueError: for Lukasiewicz's.

    Differentiable: as ``and_logits``.
    """
    return -and_logits(a, b, tnorm)


def nor_logits(
    a: Float[ArrayLike, "..."],
    b: Float[ArrayLike, "..."],
    tnorm: TNorm = TNorm.PRODUCT,
) -> Float[Array, "..."]:
    """Return the logit of NOT (a OR b).

    Args:
        a: logits.
        b: logits; broadcast with a.
        tnorm: PRODUCT or GODEL.

    Returns:
        Logits of the common shape.

    Raises:
        ValueError: for Lukasiewicz's.

    Differentiable: as ``and_logits``.
    """
    return -or_logits(a, b, tnorm)


def and_all_logits(
    z: Float[Array, "..."], axis: int = -1, tnorm: TNorm = TNorm.PRODUCT
) -> Float[Array, "..."]:
    """Return the logit of the AND of all along an axis.

    Args:
        z: logits, at least one along the axis.
        axis: what to join.
        tnorm: PRODUCT or GODEL.

    Returns:
        Logits of z's shape without the axis.

    Raises:
        ValueError: for Lukasiewicz's, or for nothing along the axis: +inf is no logit.

    Differentiable: as ``and_logits``.
    """
    return -or_all_logits(-z, axis, tnorm)


def or_all_logits(
    z: Float[Array, "..."], axis: int = -1, tnorm: TNorm = TNorm.PRODUCT
) -> Float[Array, "..."]:
    """Return the logit of the OR of all along an axis.

    Args:
        z: logits, at least one along the axis.
        axis: what to join.
        tnorm: PRODUCT or GODEL.

    Returns:
        Logits of z's shape without the axis.

    Raises:
        ValueError: for Lukasiewicz's, or for nothing along the axis: -inf is no logit.

    Differentiable: as ``and_logits``.
    """
    return _fold(or_logits, z, axis, tnorm)


def xor_all_logits(
    z: Float[Array, "..."], axis: int = -1, tnorm: TNorm = TNorm.PRODUCT
) -> Float[Array, "..."]:
    """Return the logit of an odd number being true along an axis.

    Args:
        z: logits, at least one along the axis.
        axis: what to join, from left to right.
        tnorm: PRODUCT or GODEL.

    Returns:
        Logits of z's shape without the axis.

    Raises:
        ValueError: for Lukasiewicz's, or for nothing along the axis: -inf is no logit.

    Differentiable: as ``and_logits``. Precision: as ``xor_logits``.
    """
    return _fold(xor_logits, z, axis, tnorm)


def _fold(op, z: Float[Array, "..."], axis: int, tnorm: TNorm) -> Float[Array, "..."]:
    if z.shape[axis] == 0:
        raise ValueError(f"z has nothing along axis {axis}; give at least one logit")
    first, *rest = jnp.moveaxis(z, axis, 0)
    for each in rest:
        first = op(first, each, tnorm)
    return first
