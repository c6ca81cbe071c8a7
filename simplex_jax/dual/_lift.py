"""The mechanism: a function of arrays becomes a function of numbers with tangents.

A number of level n is a + b e_n, where a and b are numbers of level n - 1 and arrays
are level 0. Every level has its own e with e^2 = 0, so a number of a lower level is a
constant to a higher one; that is what keeps nested derivatives apart.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


class Perturbed:
    """What ``lift`` knows of a number: its parts, and how tangents are pushed."""

    val: Any
    der: Any

    @property
    def kind(self) -> str:
        """What two numbers must share to be combined."""
        raise NotImplementedError

    @classmethod
    def of(cls, val: Any, der: Any) -> Any:
        """Pair the parts as they are."""
        raise NotImplementedError

    @classmethod
    def push(
        cls, f: Callable, primals: list, tangents: list
    ) -> tuple[list, list, tuple]:
        """Return f's outputs, their tangents, and what f returns beside them."""
        raise NotImplementedError


def is_perturbed(x: Any) -> bool:
    """Return whether x is a Dual or a MultiDual."""
    return isinstance(x, Perturbed)


def level(x: Any) -> int:
    """Return how many numbers are nested in x; 0 for an array."""
    return 1 + level(x.val) if isinstance(x, Perturbed) else 0


def lift(f: Callable[..., Any]) -> Callable[..., Any]:
    r"""Make a function of arrays one that also takes Dual and MultiDual.

    $f(a + b\,\epsilon) = f(a) + f'(a)\,b\,\epsilon$, with $f'(a)\,b$ from ``jax.jvp``.

    Args:
        f: any function that JAX can trace, of any arguments. Numbers may stand
            anywhere in its positional and keyword arguments, in containers too;
            everything else reaches f as it is.

    Returns:
        A function of the same arguments. Floating outputs are numbers if an argument
        is one; integers, booleans and what is not an array come back plain. Without a
        number among the arguments it is f.

    Raises:
        ValueError: when called, for a Dual and a MultiDual of one level together, or
            MultiDuals with different numbers of tangents.

    Differentiable: whatever jvp, vjp and vmap can do to f. Precision: that of f's jvp.
    Under ``jit`` the cost is that of ``jax.jvp`` written by hand.
    """

    @functools.wraps(f, updated=())
    def lifted(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = jax.tree.flatten((args, kwargs), is_leaf=is_perturbed)
        levels = [level(leaf) for leaf in leaves]
        top = max(levels, default=0)
        if top == 0:
            return f(*args, **kwargs)
        places = [i for i, n in enumerate(levels) if n == top]
        numbers = [leaves[i] for i in places]
        number = _common_type(numbers)

        def below(*primals: Any) -> tuple[list, tuple]:
            filled = list(leaves)
            for i, primal in zip(places, primals, strict=True):
                filled[i] = primal
            args, kwargs = jax.tree.unflatten(tree, filled)
            out, out_tree = jax.tree.flatten(
                lifted(*args, **kwargs), is_leaf=is_perturbed
            )
            moving = [_array(leaf) if _has_tangent(leaf) else None for leaf in out]
            still = [None if _has_tangent(leaf) else leaf for leaf in out]
            return moving, (still, out_tree)

        moving, tangents, (still, out_tree) = number.push(
            below, [n.val for n in numbers], [n.der for n in numbers]
        )
        out = [
            fixed if primal is None else _attach(number, primal, tangent, top)
            for primal, tangent, fixed in zip(moving, tangents, still, strict=True)
        ]
        return jax.tree.unflatten(out_tree, out)

    return lifted


def _common_type(numbers: list) -> type[Perturbed]:
    kinds = {n.kind for n in numbers}
    if len(kinds) > 1:
        raise ValueError(
            f"{' and '.join(sorted(kinds))} cannot be combined: their tangents mean "
            "different things; seed them together, as in "
            "multi_variable(jnp.stack([x, y])), or take .primal of one"
        )
    return type(numbers[0])


def _has_tangent(leaf: Any) -> bool:
    if isinstance(leaf, Perturbed | float | complex):
        return True
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _array(leaf: Any) -> Any:
    return leaf if isinstance(leaf, Perturbed) else jnp.asarray(leaf)


def _attach(number: type[Perturbed], primal: Any, tangent: Any, top: int) -> Any:
    """Return primal + tangent e_top, where primal may hold e_top already."""
    n = level(primal)
    if n < top:
        return number.of(primal, tangent)
    # f closed over a number of this level, or of a higher one.
    if n == top:
        _common_type([primal, number.of(primal.val, tangent.val)])
        return number.of(primal.val, primal.der + tangent.val)
    return type(primal).of(
        _attach(number, primal.val, tangent.val, top),
        _attach(number, primal.der, tangent.der, top),
    )
