"""Dual and MultiDual: arrays with one tangent, and with k."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ._arguments import floating, same_kind_of_array
from ._lift import level
from ._number import Number


class _Pytree(Number):
    """Flattens into its two parts, and is rebuilt without looking at them."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        keys = tuple(jax.tree_util.GetAttrKey(name) for name in cls.__annotations__)
        jax.tree_util.register_pytree_with_keys(
            cls,
            lambda x: (list(zip(keys, (x.val, x.der), strict=True)), None),
            # JAX unflattens placeholders too, which the constructor would refuse.
            lambda _, parts: cls.of(*parts),
            lambda x: ((x.val, x.der), None),
        )

    @classmethod
    def of(cls, val: Any, der: Any) -> Any:
        """Pair the parts as they are."""
        x = object.__new__(cls)
        for name, part in zip(cls.__annotations__, (val, der), strict=True):
            object.__setattr__(x, name, part)
        return x


@dataclass(frozen=True, eq=False)
class Dual(_Pytree):
    r"""A value with its derivative: $a + b\,\epsilon$ with $\epsilon^2 = 0$.

    It takes part in arithmetic with arrays and Python numbers in either order, with
    broadcasting, indexing, and every function of ``simplex_jax.dual.numpy``.
    Comparisons look at the primal alone and give plain booleans, as in JAX.

    All Duals share one epsilon, so two variables move together. Where a second,
    independent one is wanted, nest: ``variable(constant(y))`` moves along an epsilon of
    its own. ``derivative`` does that by itself.

        >>> x = dual.variable(3.0)
        >>> float((x * x + 1).tangent)
        6.0

    Args:
        primal: the value: a float, a floating array of any shape, or a Dual.
        tangent: the derivative, of the primal's shape and dtype. A Python number is
            cast to the primal's dtype.

    Raises:
        ValueError: for an integer primal or a tangent of another shape or dtype.

    A pytree: it passes through ``jit``, ``vmap``, ``grad`` and ``scan``.
    Source: Simplex TASK-005; deviations: any shape, with broadcasting, and ``==``
    compares primals alone.
    """

    primal: Any
    tangent: Any

    def __post_init__(self) -> None:
        primal = floating("primal", self.primal)
        tangent = self.tangent
        if isinstance(tangent, int | float) and level(primal) == 0:
            tangent = jnp.asarray(tangent, primal.dtype)
        tangent = floating("tangent", tangent)
        same_kind_of_array("tangent", tangent, "primal", primal)
        object.__setattr__(self, "primal", primal)
        object.__setattr__(self, "tangent", tangent)

    @property
    def val(self) -> Any:
        """The primal, in Simplex's word."""
        return self.primal

    @property
    def der(self) -> Any:
        """The tangent, in Simplex's word."""
        return self.tangent

    @property
    def kind(self) -> str:
        """A Dual."""
        return "a Dual"

    @classmethod
    def push(
        cls, f: Callable, primals: list, tangents: list
    ) -> tuple[list, list, tuple]:
        """Push the tangents through f."""
        return jax.jvp(f, primals, tangents, has_aux=True)


@dataclass(frozen=True, eq=False)
class MultiDual(_Pytree):
    r"""A value with k tangents: $a + \sum_i b_i\,\epsilon_i$, one pass for k partials.

    The tangents lie on the last axis, as in a Jacobian, so that ``vmap`` and ``scan``
    over the first axis take a row of values with its own tangents.

        >>> x = dual.multi_variable(jnp.array([2.0, 3.0]))
        >>> (x[0] * x[1]).tangents.tolist()
        [3.0, 2.0]

    Args:
        primal: the value, a floating array of shape ``(*shape,)``, or a Dual.
        tangents: shape ``(*shape, k)``, the primal's dtype.

    Raises:
        ValueError: for an integer primal or tangents of another shape or dtype.

    A pytree: it passes through ``jit``, ``vmap``, ``grad`` and ``scan``.
    Source: Simplex's ``multidual<N>``; deviation: any shape.
    """

    primal: Any
    tangents: Any

    def __post_init__(self) -> None:
        primal = floating("primal", self.primal)
        tangents = floating("tangents", self.tangents)
        if tangents.ndim:
            same_kind_of_array("tangents", tangents, "primal", primal, extra=1)
        else:
            raise ValueError(
                "tangents is a scalar; give the k tangents on a last axis, shape "
                f"{(*primal.shape, 'k')}"
            )
        object.__setattr__(self, "primal", primal)
        object.__setattr__(self, "tangents", tangents)

    @property
    def val(self) -> Any:
        """The primal, in Simplex's word."""
        return self.primal

    @property
    def der(self) -> Any:
        """The tangents, in Simplex's word."""
        return self.tangents

    @property
    def count(self) -> int:
        """The number of tangents, k."""
        return self.tangents.shape[-1]

    @property
    def kind(self) -> str:
        """A MultiDual with its number of tangents."""
        return f"a MultiDual of {self.count} tangents"

    @classmethod
    def push(
        cls, f: Callable, primals: list, tangents: list
    ) -> tuple[list, list, tuple]:
        """Push all k tangents through f, whose value is computed once."""
        out, push_one, beside = jax.linearize(f, *primals, has_aux=True)
        push_all = jax.vmap(push_one, in_axes=-1, out_axes=-1)
        return out, push_all(*tangents), beside
