"""Operators and array methods that Dual and MultiDual share; all of them lifted."""

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ._lift import Perturbed, lift


def _reflected(op: Callable) -> Callable[..., Any]:
    return lift(lambda self, other: op(other, self))


def _method(name: str) -> Callable[..., Any]:
    return lift(lambda self, *args, **kwargs: getattr(self, name)(*args, **kwargs))


_equal, _not_equal = lift(operator.eq), lift(operator.ne)


class Number(Perturbed):
    """An array with one or more tangents that behaves like an array."""

    # NumPy's operators give way to ours. There is no __jax_array__ on purpose: with
    # it, jax.Array's operators would take the number for an array and drop tangents.
    __array_ufunc__ = None

    __add__, __radd__ = lift(operator.add), _reflected(operator.add)
    __sub__, __rsub__ = lift(operator.sub), _reflected(operator.sub)
    __mul__, __rmul__ = lift(operator.mul), _reflected(operator.mul)
    __truediv__, __rtruediv__ = lift(operator.truediv), _reflected(operator.truediv)
    __floordiv__ = lift(operator.floordiv)
    __rfloordiv__ = _reflected(operator.floordiv)
    __mod__, __rmod__ = lift(operator.mod), _reflected(operator.mod)
    __divmod__, __rdivmod__ = lift(divmod), _reflected(divmod)
    __pow__, __rpow__ = lift(operator.pow), _reflected(operator.pow)
    __matmul__, __rmatmul__ = lift(operator.matmul), _reflected(operator.matmul)
    __neg__, __pos__, __abs__ = lift(operator.neg), lift(operator.pos), lift(abs)
    __round__ = lift(round)
    __getitem__ = lift(operator.getitem)

    __lt__, __le__ = lift(operator.lt), lift(operator.le)
    __gt__, __ge__ = lift(operator.gt), lift(operator.ge)
    # == gives an array, as in JAX, so numbers are no keys.
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: Any) -> Any:
        return _equal(self, other)

    def __ne__(self, other: Any) -> Any:
        return _not_equal(self, other)

    sum, mean, prod = _method("sum"), _method("mean"), _method("prod")
    max, min = _method("max"), _method("min")
    var, std = _method("var"), _method("std")
    dot, astype = _method("dot"), _method("astype")
    reshape, ravel, squeeze = _method("reshape"), _method("ravel"), _method("squeeze")
    transpose = _method("transpose")

    @property
    def T(self) -> Any:
        """The transpose."""
        return self.transpose()

    @property
    def shape(self) -> tuple[int, ...]:
        """The primal's shape."""
        return self.val.shape

    @property
    def ndim(self) -> int:
        """The primal's number of axes."""
        return self.val.ndim

    @property
    def size(self) -> int:
        """The primal's number of elements."""
        return self.val.size

    @property
    def dtype(self) -> np.dtype:
        """The primal's dtype."""
        return self.val.dtype

    def __len__(self) -> int:
        return len(self.val)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.val)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError(
            f"a {type(self).__name__} is not an array: NumPy would drop its tangent; "
            "use simplex_jax.dual.numpy, or .primal for the plain value"
        )
