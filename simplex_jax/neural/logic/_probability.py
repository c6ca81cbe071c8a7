"""Logic on probabilities: 0 is false, 1 is true, between them it is smooth.

Corners are exact for every t-norm. A concrete probability outside [0, 1] is a
ValueError; a traced one gives NaN.
"""

from functools import partial

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ..._checks import probability_or_nan
from ._tnorm import TNorm


def _pair(
    a: Float[ArrayLike, "..."], b: Float[ArrayLike, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    return probability_or_nan("a", a), probability_or_nan("b", b)


def not_(a: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Return 1 - a.

    Args:
        a: probabilities.

    Returns:
        Probabilities of a's shape.

    Raises:
        ValueError: outside [0, 1], where concrete.

    Differentiable: jvp, vjp and vmap.
    """
    return 1 - probability_or_nan("a", a)


def and_(
    a: Float[ArrayLike, "..."],
    b: Float[ArrayLike, "..."],
    tnorm: TNorm = TNorm.PRODUCT,
) -> Float[Array, "..."]:
    """Return the t-norm of a and b.

    Args:
        a: probabilities.
        b: probabilities; broadcast with a.
        tnorm: see ``TNorm``.

    Returns:
        Probabilities of the common shape.

    Raises:
        ValueError: outside [0, 1], where concrete.

    Differentiable: jvp, vjp and vmap; at a kink the mean of both sides. Precision: a
    few ulp of 1.
    """
    a, b = _pair(a, b)
    if tnorm is TNorm.PRODUCT:
        return a * b
    if tnorm is TNorm.LUKASIEWICZ:
        return jnp.maximum(a + b - 1, 0)
    return jnp.minimum(a, b)


def or_(
    a: Float[ArrayLike, "..."],
    b: Float[ArrayLike, "..."],
    tnorm: TNorm = TNorm.PRODUCT,
) -> Float[Array, "..."]:
    """Return NOT (NOT a AND NOT b).

    Product: a + b - a b; Lukasiewicz: min(1, a + b); Goedel: max(a, b).

    Args:
        a: probabilities.
        b: probabilities; broadcast with a.
        tnorm: see ``TNorm``.

    Returns:
        Probabilities of the common shape.

    Raises:
        ValueError: outside [0, 1], where concrete.

    Differentiable: as ``and_``.
    """
    a, b = _pair(a, b)
    if tnorm is TNorm.PRODUCT:
        # In this order rounding cannot lift the sum above 1.
        return b + a * (1 - b)
    if tnorm is TNorm.LUKASIEWICZ:
        return jnp.minimum(a + b, 1)
    return jnp.maximum(a, b)


def xor(
    a: Float[ArrayLike, "..."],
    b: Float[ArrayLike, "..."],
    tnorm: TNorm = TNorm.PRODUCT,
) -> Float[Array, "..."]:
    """Return whether one alone is true; see ``TNorm`` for the formulas.

    Args:
        a: probabilities.
        b: probabilities; broadcast with a.
        tnorm: see ``TNorm``.

    Returns:
        Probabilities of the common shape.

    Raises:
        ValueError: outside [0, 1], where concrete.

    Differentiable: as ``and_``; Lukasiewicz has a kink at a = b. Source: Simplex's
    ``SoftLogic.xor``.
    """
    a, b = _pair(a, b)
    if tnorm is TNorm.PRODUCT:
        return a * (1 - b) + (1 - a) * b
    if tnorm is TNorm.LUKASIEWICZ:
        return jnp.abs(a - b)
    return jnp.maximum(jnp.minimum(a, 1 - b), jnp.minimum(1 - a, b))


def implies(
    a: Float[ArrayLike, "..."],
    b: Float[ArrayLike, "..."],
    tnorm: TNorm = TNorm.PRODUCT,
) -> Float[Array, "..."]:
    """Return NOT a OR b.

    Args:
        a: probabilities.
        b: probabilities; broadcast with a.
        tnorm: see ``TNorm``.

    Returns:
        Probabilities of the common shape.

    Raises:
        ValueError: outside [0, 1], where concrete.

    Differentiable: as ``and_``.
    """
    a, b = _pair(a, b)
    return or_(1 - a, b, tnorm)


def iff(
    a: Float[ArrayLike, "..."],
    b: Float[ArrayLike, "..."],
    tnorm: TNorm = TNorm.PRODUCT,
) -> Float[Array, "..."]:
    """Return NOT (a XOR b).

    Args:
        a: probabilities.
        b: probabilities; broadcast with a.
        tnorm: see ``TNorm``.

    Returns:
        Probabilities of the common shape.

    Raises:
        ValueError: outside [0, 1], where concrete.

    Differentiable: as ``xor``. Source: Simplex's ``SoftLogic.iff``; deviation: smooth
    for the product, where the original has 1 - abs(a - b).
    """
    return 1 - xor(a, b, tnorm)


def nand(
    a: Float[ArrayLike, "..."],
    b: Float[ArrayLike, "..."],
    tnorm: TNorm = TNorm.PRODUCT,
) -> Float[Array, "..."]:
    """Return NOT (a AND b).

    Args:
        a: probabilities.
        b: probabilities; broadcast with a.
        tnorm: see ``TNorm``.

    Returns:
        Probabilities of the common shape.

    Raises:
        ValueError: outside [0, 1], where concrete.

    Differentiable: as ``and_``. Source: Simplex's ``SoftLogic.nand``; deviation: no
    second sigmoid, so NAND of true and true is 0.
    """
    return 1 - and_(a, b, tnorm)


def nor(
    a: Float[ArrayLike, "..."],
    b: Float[ArrayLike, "..."],
    tnorm: TNorm = TNorm.PRODUCT,
) -> Float[Array, "..."]:
    """Return NOT (a OR b).

    Args:
        a: probabilities.
        b: probabilities; broadcast with a.
        tnorm: see ``TNorm``.

    Returns:
        Probabilities of the common shape.

    Raises:
        ValueError: outside [0, 1], where concrete.

    Differentiable: as ``and_``. Source: as ``nand``.
    """
    return 1 - or_(a, b, tnorm)


def and_all(
    p: Float[ArrayLike, "..."], axis: int = -1, tnorm: TNorm = TNorm.PRODUCT
) -> Float[Array, "..."]:
    """Return the AND of all along an axis; of none, 1.

    Args:
        p: probabilities.
        axis: what to join.
        tnorm: see ``TNorm``.

    Returns:
        Probabilities of p's shape without the axis.

    Raises:
        ValueError: outside [0, 1], where concrete.

    Differentiable: as ``and_``, where p holds zeros too.
    """
    p = probability_or_nan("p", p)
    if tnorm is TNorm.PRODUCT:
        return jnp.prod(p, axis)
    if tnorm is TNorm.LUKASIEWICZ:
        return jnp.maximum(1 - jnp.sum(1 - p, axis), 0)
    return jnp.min(p, axis, initial=1)


def or_all(
    p: Float[ArrayLike, "..."], axis: int = -1, tnorm: TNorm = TNorm.PRODUCT
) -> Float[Array, "..."]:
    """Return the OR of all along an axis; of none, 0.

    Args:
        p: probabilities.
        axis: what to join.
        tnorm: see ``TNorm``.

    Returns:
        Probabilities of p's shape without the axis.

    Raises:
        ValueError: outside [0, 1], where concrete.

    Differentiable: as ``and_all``.
    """
    return 1 - and_all(1 - probability_or_nan("p", p), axis, tnorm)


def xor_all(
    p: Float[ArrayLike, "..."], axis: int = -1, tnorm: TNorm = TNorm.PRODUCT
) -> Float[Array, "..."]:
    """Return whether an odd number is true along an axis; of none, 0.

    ``xor`` from left to right. The order matters between the corners, apart from the
    product, for which it is the parity of independent events.

    Args:
        p: probabilities.
        axis: what to join.
        tnorm: see ``TNorm``.

    Returns:
        Probabilities of p's shape without the axis.

    Raises:
        ValueError: outside [0, 1], where concrete.

    Differentiable: as ``xor``.
    """
    p = jnp.moveaxis(probability_or_nan("p", p), axis, 0)
    step = partial(xor, tnorm=tnorm)
    odd = jnp.zeros_like(p, shape=p.shape[1:])
    for each in p:
        odd = step(odd, each)
    return odd
