"""Derivatives of functions, exact and in forward mode."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ._arguments import floating_tree, scalar, smooth, smooth_scalar, tangent_tree
from ._lift import lift


def derivative(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    r"""Make the function $x \mapsto f'(x)$ of one scalar.

        >>> float(dual.derivative(lambda x: x**2)(3.0))
        6.0

    Args:
        f: a function of a floating scalar that returns floating arrays of any shape,
            in a pytree or alone.

    Returns:
        A function of the same argument; its output has f's structure and shapes.

    Raises:
        ValueError: when called, for an x that is no floating scalar or an f that
            returns nothing, or integers.

    Differentiable: any number of times, also nested in itself. Exact: one pass with
    seed 1.
    """
    both = value_and_derivative(f)
    return lambda x: both(x)[1]


def value_and_derivative(f: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, Any]]:
    r"""Make the function $x \mapsto (f(x), f'(x))$ of one scalar.

    Args:
        f: as for ``derivative``.

    Returns:
        A function of the same argument that returns value and derivative from one pass.

    Raises:
        ValueError: as for ``derivative``.

    Differentiable: as ``derivative``.
    """

    def run(x: Any) -> tuple[Any, Any]:
        x = scalar("x", x)
        return jax.jvp(smooth(f), (x,), (jnp.ones_like(x),))

    return lift(run)


def directional_derivative(f: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    r"""Make the function $(x, v) \mapsto \nabla f(x) \cdot v$; f may be vector-valued.

    ``jax.jvp`` is the form that returns the value as well.

    Args:
        f: a function of one pytree of floating arrays that returns floating arrays.

    Returns:
        A function of x and a direction v like x, which is not normalised; its output
        has f's structure and shapes.

    Raises:
        ValueError: when called, for a v of another structure, shape or dtype than x,
            integers, or an f that returns nothing.

    Differentiable: any number of times, in x and in v. Cost: one pass with one tangent.
    """

    def run(x: Any, v: Any) -> Any:
        x = floating_tree("x", x)
        v = tangent_tree("v", v, x)
        return jax.jvp(smooth(f), (x,), (v,))[1]

    return lift(run)


def gradient(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    r"""Make the function $x \mapsto \nabla f(x)$ in one vectorised forward pass.

        >>> dual.gradient(lambda x: x[0] * x[1])(jnp.array([2.0, 3.0])).tolist()
        [3.0, 2.0]

    Args:
        f: a function of one pytree of floating arrays that returns a scalar.

    Returns:
        A function of the same argument; its output has the structure, shapes and dtypes
        of x.

    Raises:
        ValueError: when called, for integers in x or an f that returns no floating
            scalar.

    Differentiable: any number of times. Cost: n tangents for the n elements of x at
    once, so memory and time grow with n, and do not grow with the length of a loop;
    for n beyond a few hundred ``jax.grad`` is the better tool.
    """
    both = value_and_gradient(f)
    return lambda x: both(x)[1]


def value_and_gradient(f: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, Any]]:
    r"""Make the function $x \mapsto (f(x), \nabla f(x))$.

    Args:
        f: as for ``gradient``.

    Returns:
        A function of the same argument that returns value and gradient from one pass.

    Raises:
        ValueError: as for ``gradient``.

    Differentiable: as ``gradient``.
    """
    return value_and_jacobian(smooth_scalar(f))


def jacobian(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    r"""Make the function $x \mapsto \partial f_i / \partial x_j$.

    Args:
        f: a function of one pytree of floating arrays that returns floating arrays.

    Returns:
        A function of the same argument. For an output of shape ``(*m,)`` and an x of
        shape ``(*n,)`` it returns ``(*m, *n)``; for pytrees f's structure with x's in
        every leaf, as ``jax.jacfwd``.

    Raises:
        ValueError: when called, for integers, or an f that returns nothing.

    Differentiable: any number of times. Cost: as ``gradient``.
    """
    both = value_and_jacobian(f)
    return lambda x: both(x)[1]


def value_and_jacobian(f: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, Any]]:
    r"""Make the function $x \mapsto (f(x), J(x))$.

    Args:
        f: as for ``jacobian``.

    Returns:
        A function of the same argument that returns value and Jacobian from one pass.

    Raises:
        ValueError: as for ``jacobian``.

    Differentiable: as ``jacobian``.
    """
    checked = smooth(f)

    def twice(x: Any) -> tuple[Any, Any]:
        out = checked(x)
        return out, out

    def run(x: Any) -> tuple[Any, Any]:
        slopes, value = jax.jacfwd(twice, has_aux=True)(floating_tree("x", x))
        return value, slopes

    return lift(run)


def hvp(f: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    r"""Make the function $(x, v) \mapsto \nabla^2 f(x)\, v$, without the Hessian.

    Args:
        f: a function of one pytree of floating arrays that returns a scalar.

    Returns:
        A function of x and a vector v like x; its output is like x.

    Raises:
        ValueError: when called, for a v of another structure, shape or dtype than x,
            integers, or an f that returns no floating scalar.

    Differentiable: any number of times. Forward over reverse: the cost is that of a few
    evaluations of f whatever its dimension. Where f has no reverse mode
    (``while_loop``), ``directional_derivative(gradient(f))`` is the same, in forward
    mode.
    """

    def run(x: Any, v: Any) -> Any:
        x = floating_tree("x", x)
        v = tangent_tree("v", v, x)
        return jax.jvp(jax.jacrev(smooth_scalar(f)), (x,), (v,))[1]

    return lift(run)


def hessian(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    r"""Make the function $x \mapsto \partial^2 f / \partial x_i \partial x_j$.

    Args:
        f: a function of one pytree of floating arrays that returns a scalar.

    Returns:
        A function of the same argument. For an x of shape ``(*n,)`` its output has
        shape ``(*n, *n)``; for pytrees it is nested as ``jax.hessian``.

    Raises:
        ValueError: when called, for integers in x or an f that returns no floating
            scalar.

    Differentiable: any number of times. Forward over reverse: n Hessian-vector products
    at once. Where f has no reverse mode (``while_loop``), ``jacobian(gradient(f))`` is
    the same, in forward mode with n^2 tangents.
    """

    def run(x: Any) -> Any:
        return jax.jacfwd(jax.jacrev(smooth_scalar(f)))(floating_tree("x", x))

    return lift(run)
