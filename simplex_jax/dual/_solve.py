"""Roots and minima by Newton's method: what exact derivatives are good for."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ._arguments import floating, smooth, smooth_scalar
from ._transforms import hessian, value_and_gradient, value_and_jacobian


class Status(enum.IntEnum):
    """How a search ended.

    Attributes:
        CONVERGED: the tolerance was met.
        MAX_STEPS: it was not, within the steps allowed.
        NOT_FINITE: f or its derivative stopped being finite, or was singular.
    """

    CONVERGED = 0
    MAX_STEPS = 1
    NOT_FINITE = 2


class Solution(NamedTuple):
    """The end of a search.

    Attributes:
        x: the last point, of the start's shape and dtype.
        value: f at x.
        steps: how many were taken.
        status: a ``Status``, as an array: ``Status(int(solution.status)).name``.
    """

    x: Float[Array, "*shape"]
    value: Float[Array, "..."]
    steps: Int[Array, ""]
    status: Int[Array, ""]


class _Search(NamedTuple):
    x: Array
    memory: Any
    steps: Array
    status: Array


def newton(
    f: Callable[[Any], Any],
    x0: ArrayLike,
    *,
    tolerance: float | None = None,
    max_steps: int = 50,
) -> Solution:
    r"""Find a root: $x \leftarrow x - J(x)^{-1} f(x)$.

        >>> f"{dual.newton(lambda x: x**2 - 2, 1.0).x:.5f}"
        '1.41421'

    Args:
        f: takes a floating array of x0's shape and returns one of as many elements.
        x0: the start, a float or a floating array.
        tolerance: the search ends after the first step that is no longer than this
            times 1 + max|x|; the root of the dtype's epsilon where None, after which a
            simple root is exact to rounding.
        max_steps: after so many it gives up.

    Returns:
        The root. Nothing is raised for a search that fails: see ``status``.

    Raises:
        ValueError: while tracing, for an integer x0 or an f with another number of
            elements.

    Differentiable: jvp, vjp and vmap, in the arrays that f closes over, by the implicit
    function theorem at the root; meaningless where it did not converge. x0 has no
    derivative.
    Precision: that of f near the root, over its slope. Source: Simplex's
    ``newton_raphson``; deviation: many variables.
    """
    start = floating("x0", x0)
    flat = _flattened(smooth(f), start)
    within = _tolerance(tolerance, start)

    def step(x: Array, memory: None) -> tuple[Array, None, Array]:
        value, slopes = value_and_jacobian(flat)(x)
        move = _solved(slopes, value)
        x = x - move
        done = jnp.max(jnp.abs(move)) <= within * (1 + jnp.max(jnp.abs(x)))
        return x, memory, done

    return _search(f, flat, step, start, None, max_steps)


def minimize(
    f: Callable[[Any], Any],
    x0: ArrayLike,
    *,
    tolerance: float | None = None,
    max_steps: int = 200,
) -> Solution:
    r"""Find a minimum: $x \leftarrow x - (H(x) + \lambda I)^{-1} \nabla f(x)$.

    A step that does not lower f is refused and the damping $\lambda$ raised tenfold;
    one that does is taken and the damping lowered.

    Args:
        f: takes a floating array of x0's shape and returns a scalar.
        x0: the start, a float or a floating array of n elements.
        tolerance: the search ends where $\max|\nabla f|$ is no larger; the root of the
            dtype's epsilon where None.
        max_steps: after so many, refused ones included, it gives up.

    Returns:
        The minimum. Nothing is raised for a search that fails: see ``status``.

    Raises:
        ValueError: while tracing, for an integer x0 or an f that is no scalar.

    Differentiable: jvp, vjp and vmap, in the arrays that f closes over, by the implicit
    function theorem at the minimum; meaningless where it did not converge. x0 has no
    derivative.
    Cost: an n by n Hessian a step. Source: Simplex's ``newton_minimize``; deviations:
    many variables, and damping where it falls back to gradient steps.
    """
    start = floating("x0", x0)
    f = smooth_scalar(f)
    within = _tolerance(tolerance, start)

    def flat(x: Array) -> Array:
        return f(x.reshape(start.shape))

    def step(x: Array, damping: Array) -> tuple[Array, Array, Array]:
        value, slope = value_and_gradient(flat)(x)
        damped = hessian(flat)(x) + damping * jnp.eye(x.size, dtype=x.dtype)
        trial = x - _solved(damped, slope)
        lower = flat(trial) < value
        done = jnp.max(jnp.abs(slope)) <= within
        finite = jnp.isfinite(value) & jnp.isfinite(slope).all()
        x = jnp.where(lower & ~done, trial, x)
        damping = damping * jnp.where(lower, 0.1, 10)
        return jnp.where(finite, x, jnp.nan), damping, done

    damping = jnp.asarray(1e-3, start.dtype)
    return _search(f, jax.grad(flat), step, start, damping, max_steps)


def _flattened(f: Callable, start: Array) -> Callable[[Array], Array]:
    out = jax.tree.leaves(jax.eval_shape(f, start))
    if len(out) != 1 or out[0].size != start.size:
        raise ValueError(
            f"f returned {out} for an x0 of shape {start.shape}; a root needs as many "
            "equations as unknowns"
        )
    return lambda x: f(x.reshape(start.shape)).ravel()


def _tolerance(tolerance: float | None, start: Array) -> float:
    if tolerance is None:
        return float(jnp.finfo(start.dtype).eps) ** 0.5
    return tolerance


def _solved(matrix: Array, vector: Array) -> Array:
    # One unknown, as along a curve, needs no LAPACK.
    return vector / matrix[0] if vector.size == 1 else jnp.linalg.solve(matrix, vector)


def _search(
    f: Callable,
    equations: Callable,
    step: Callable,
    start: Array,
    memory: Any,
    max_steps: int,
) -> Solution:
    """Step until done, from start, and differentiate the end as equations' root."""

    def going_on(search: _Search) -> Array:
        return (search.status == Status.MAX_STEPS) & (search.steps < max_steps)

    def advance(search: _Search) -> _Search:
        x, memory, done = step(search.x, search.memory)
        finite = jnp.isfinite(x).all()
        status = jnp.where(done, Status.CONVERGED, Status.MAX_STEPS)
        status = jnp.where(finite, status, Status.NOT_FINITE)
        return _Search(jnp.where(finite, x, search.x), memory, search.steps + 1, status)

    def solve(_: Callable, start: Array) -> tuple[Array, tuple[Array, Array]]:
        begin = _Search(start, memory, jnp.int32(0), jnp.asarray(Status.MAX_STEPS))
        end = jax.lax.while_loop(going_on, advance, begin)
        # custom_root gives integers beside the root tangents that JAX then refuses.
        return end.x, (end.steps.astype(float), end.status.astype(float))

    def tangent_solve(linear: Callable, y: Array) -> Array:
        return _solved(jax.jacfwd(linear)(jnp.zeros_like(y)), y)

    x, (steps, status) = jax.lax.custom_root(
        equations, start.ravel(), solve, tangent_solve, has_aux=True
    )
    x = x.reshape(start.shape)
    return Solution(x, f(x), steps.astype(jnp.int32), status.astype(jnp.int32))
