"""Ways into and out of numbers with tangents."""

from typing import Any

import jax
import jax.numpy as jnp

from ._arguments import floating
from ._dual import Dual, MultiDual
from ._lift import is_perturbed, lift


def constant(x: Any) -> Dual:
    r"""Return $x + 0\,\epsilon$.

    Plain arrays mix with Duals as they are; wrap one where the structure must be that
    of a Dual, as in a ``scan`` carry.

    Args:
        x: a float or a floating array of any shape; a Dual goes one level deeper.

    Returns:
        A Dual with a zero tangent.

    Raises:
        ValueError: for an integer x.

    Differentiable: jvp, vjp and vmap.
    """
    x = floating("x", x)
    return Dual(x, lift(jnp.zeros_like)(x))


def variable(x: Any) -> Dual:
    r"""Return $x + 1\,\epsilon$, the variable that a derivative is taken by.

    Every element of an array is seeded with 1, which gives the derivative along the
    direction (1, ..., 1); for the partial derivatives see ``multi_variable``.

    Args:
        x: a float or a floating array of any shape; a Dual goes one level deeper.

    Returns:
        A Dual with a tangent of ones.

    Raises:
        ValueError: for an integer x.

    Differentiable: jvp, vjp and vmap.
    """
    x = floating("x", x)
    return Dual(x, lift(jnp.ones_like)(x))


def variable_at(values: Any, index: int | tuple[int, ...]) -> Dual:
    r"""Return an array in which one element is the variable.

    Args:
        values: a floating array of any shape, or a Dual of one.
        index: of the element: an integer, or one per axis.

    Returns:
        A Dual whose tangent is 1 at the index and 0 elsewhere.

    Raises:
        ValueError: for integer values or an index outside the array.

    Differentiable: jvp, vjp and vmap.
    """
    values = floating("values", values)
    place = index if isinstance(index, tuple) else (index,)
    inside = len(place) == values.ndim and all(
        -n <= i < n for i, n in zip(place, values.shape, strict=True)
    )
    if not inside:
        raise ValueError(
            f"index is {index}, which is no element of shape {values.shape}"
        )
    seed = lift(lambda v: jnp.zeros_like(v).at[place].set(1))
    return Dual(values, seed(values))


def multi_variable(values: Any) -> MultiDual:
    r"""Return an array in which every element is a variable of its own.

    $x_i + \epsilon_i$: the tangents are the identity, so the tangents of f(x) are the
    gradient, or the Jacobian.

    Args:
        values: n elements in a floating array of any shape, or a Dual of one.

    Returns:
        A MultiDual with n tangents.

    Raises:
        ValueError: for integer values.

    Differentiable: jvp, vjp and vmap. Cost: n tangents are carried through every
    operation in one vectorised pass.
    """
    values = floating("values", values)
    identity = lift(lambda v: jnp.eye(v.size, dtype=v.dtype).reshape(*v.shape, v.size))
    return MultiDual(values, identity(values))


def from_values(values: Any, tangents: Any) -> Dual:
    """Make a Dual of plain numbers.

    Where ``Dual`` is strict, this converts: integers become floats, and both parts get
    one common dtype.

    Args:
        values: a number, a nested sequence of numbers, or an array.
        tangents: the same, of the same shape.

    Returns:
        A Dual in the common floating dtype.

    Raises:
        ValueError: for shapes that differ.

    Differentiable: jvp, vjp and vmap.
    """
    primal, tangent = jnp.asarray(values), jnp.asarray(tangents)
    dtype = jnp.promote_types(jnp.result_type(primal, tangent), jnp.float16)
    if not jnp.issubdtype(jnp.result_type(primal, tangent), jnp.floating):
        dtype = jnp.result_type(float)
    return Dual(primal.astype(dtype), tangent.astype(dtype))


def detach(tree: Any) -> Any:
    """Return a pytree with every number replaced by its plain value.

    All levels of a nested number are dropped. A transformation of JAX around it still
    sees through; ``jax.lax.stop_gradient`` is what stops those.

    Args:
        tree: a pytree of Duals, MultiDuals and anything else.

    Returns:
        The pytree with plain arrays.

    Differentiable: jvp, vjp and vmap, in the plain values.
    """

    def plain(x: Any) -> Any:
        return plain(x.val) if is_perturbed(x) else x

    return jax.tree.map(plain, tree, is_leaf=is_perturbed)
