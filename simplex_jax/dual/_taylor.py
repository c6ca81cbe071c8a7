"""Derivatives of high order: Taylor arithmetic where it is exact, else nested jvp."""

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
import jax.extend.core
import jax.numpy as jnp
from jax.experimental import jet

from .._checks import at_least
from ._arguments import scalar, smooth
from ._lift import lift

NESTED_ORDER_WARNED = 8

# jet looks through the first two, losing the derivative that they define, and its rule
# for a power takes a logarithm, which is NaN for bases that are not positive.
_NOT_FOR_JET = {"custom_jvp_call", "custom_vjp_call", "pow"}


def taylor(f: Callable[[Any], Any], x: Any, order: int) -> Any:
    r"""Return the Taylor coefficients $f^{(k)}(x)/k!$ for $k = 0, \dots, order$.

        >>> dual.taylor(lambda x: 1 / (1 - x), 0.0, 3).tolist()
        [1.0, 1.0, 1.0, 1.0]

    Along a direction v of many variables: ``taylor(lambda t: f(x + t * v), 0.0, 6)``.

    Args:
        f: a function of a floating scalar that returns floating arrays of any shape,
            in a pytree or alone.
        x: the floating scalar to expand at.
        order: of the last coefficient, >= 1.

    Returns:
        For an output of shape ``(*shape,)`` an array ``(order + 1, *shape)``; the
        structure is f's.

    Raises:
        ValueError: for an x that is no floating scalar, an order below 1, or an f that
            returns nothing, or integers.

    Warns above order 8 on the nested path. Exact on both paths, which ``taylor_path``
    tells apart. With ``jet`` the work, compiling included, grows with the square of the
    order; by nested jvp each order multiplies it by two to three (order 8: seconds to
    compile). Differentiable: jvp, vjp and vmap.
    """
    return _coefficients(f, order)(x)


def nth_derivative(f: Callable[[Any], Any], order: int) -> Callable[[Any], Any]:
    r"""Make the function $x \mapsto f^{(n)}(x)$ of one scalar.

    Args:
        f: as for ``taylor``.
        order: n, >= 1.

    Returns:
        A function of the same argument; its output has f's structure and shapes.

    Raises:
        ValueError: for an order below 1; when called, as ``taylor``.

    Warns, is exact and costs as ``taylor``. Source: Simplex's function of this name;
    deviation: no finite differences at any order.
    """
    at_least("order", order)

    coefficients = _coefficients(f, order)
    return lambda x: jax.tree.map(
        lambda c: c[-1] * math.factorial(order), coefficients(x)
    )


def taylor_path(
    f: Callable[[Any], Any], x: Any, order: int
) -> Literal["jet", "nested"]:
    """Tell which way ``taylor`` takes for these arguments.

    Args:
        f: as for ``taylor``.
        x: as for ``taylor``.
        order: as for ``taylor``.

    Returns:
        "jet" where ``jax.experimental.jet`` has a rule for all that f does and the rule
        is exact, "nested" otherwise: also where f defines derivatives of its own,
        which ``jet`` would ignore, or raises to a power that is not a Python integer.

    Raises:
        ValueError: as for ``taylor``.
    """
    x = scalar("x", x)
    at_least("order", order)
    f = smooth(f)
    jaxpr = jax.make_jaxpr(f)(x)
    if not _NOT_FOR_JET.isdisjoint(_primitives(jaxpr.jaxpr)):
        return "nested"
    try:
        jax.eval_shape(lambda x: _by_jet(f, x, order), x)
    except Exception:
        # f was traced above, so this is jet: KeyError where a primitive has no rule,
        # other errors where a rule does not fit.
        return "nested"
    return "jet"


def _coefficients(f: Callable, order: int) -> Callable[[Any], Any]:
    def run(x: Any) -> Any:
        path = taylor_path(f, x, order)
        if path == "nested" and order > NESTED_ORDER_WARNED:
            warnings.warn(
                f"order {order} by nested jvp, where each order more than doubles the "
                "work: f uses what jax.experimental.jet has no exact rule for",
                stacklevel=4,
            )
        compute = _by_jet if path == "jet" else _by_nesting
        coefficients = compute(smooth(f), scalar("x", x), order)
        return jax.tree.map(lambda *c: jnp.stack(c), *coefficients)

    return lift(run)


def _by_jet(f: Callable, x: Any, order: int) -> list:
    zero = jnp.zeros_like(x)
    seed = [jnp.ones_like(x)] + [zero] * (order - 1)
    value, series = jet.jet(f, (x,), (seed,), factorial_scaled=False)
    per_order = jax.tree.transpose(
        jax.tree.structure(value), jax.tree.structure([0] * order), series
    )
    return [value, *per_order]


def _by_nesting(f: Callable, x: Any, order: int) -> list:
    def extend(g: Callable) -> Callable:
        def longer(x: Any) -> list:
            values, tangents = jax.jvp(g, (x,), (jnp.ones_like(x),))
            return [*values, tangents[-1]]

        return longer

    def derivatives(x: Any) -> list:
        return [f(x)]

    for _ in range(order):
        derivatives = extend(derivatives)
    return [
        jax.tree.map(lambda d, k=k: d / math.factorial(k), derivative)
        for k, derivative in enumerate(derivatives(x))
    ]


def _primitives(jaxpr: Any) -> Iterator[str]:
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for parameter in jax.tree.leaves(list(equation.params.values())):
            if isinstance(parameter, jax.extend.core.ClosedJaxpr):
                yield from _primitives(parameter.jaxpr)
            elif isinstance(parameter, jax.extend.core.Jaxpr):
                yield from _primitives(parameter)
