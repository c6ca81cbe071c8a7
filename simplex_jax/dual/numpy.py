"""Every function of jax.numpy, jax.nn and jax.scipy.special, lifted to Dual.

``import simplex_jax.dual.numpy as dnp``, then ``dnp.sin``, ``dnp.softmax``,
``dnp.erf``, ``dnp.linalg.norm``. A name is looked up in ``jax.numpy``, then in
``jax.nn``, then in ``jax.scipy.special``, and lifted when it is first used. Constants
and dtypes come through as they are; a call without a number among its arguments is the
plain function's.

Kinks follow JAX, which is to say:

| where | derivative |
|---|---|
| relu, relu6, sign, round at their kinks; floor, ceil, trunc everywhere | 0 |
| abs, leaky_relu, elu, celu at 0 | 1, as on the right |
| maximum, minimum, clip at a tie | 1/2 for each argument |
| max, min of an array at ties | shared equally among the ties |
| sqrt, cbrt, log at 0 | infinite, and NaN along a zero tangent |
| linalg.norm, std, arctan2 at 0; logsumexp of nothing but -inf | NaN |
| hypot at (0, 0) | 1/2 for each argument, or NaN, by the version of JAX |
| x**y at x = 0 | y x^(y-1): 0 for y > 1, 1 for y = 1, infinite below, NaN at y = 0 |
| x**y at x < 0 | right in x where y is an integer; NaN where y is a number too |

Where this table says NaN or infinite, the ``safe_...`` functions of
``simplex_jax.dual`` give 0, and the right value wherever a derivative exists.
"""

import functools
import types
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special

from ._lift import lift


class _Lifted:
    """Modules whose functions are lifted on access, the first that has a name wins."""

    def __init__(self, name: str, *modules: types.ModuleType):
        self._name = name
        self._modules = modules
        self.get = functools.cache(self._get)

    def _get(self, name: str) -> Any:
        for module in self._modules:
            if not name.startswith("_") and hasattr(module, name):
                found = getattr(module, name)
                if isinstance(found, types.ModuleType):
                    return _Lifted(f"{self._name}.{name}", found)
                if callable(found) and not isinstance(found, type | type(jnp.float32)):
                    return lift(found)
                return found
        raise AttributeError(f"{self._name} has no attribute {name!r}")

    def __getattr__(self, name: str) -> Any:
        return self.get(name)

    def __dir__(self) -> list[str]:
        names = {name for module in self._modules for name in dir(module)}
        return sorted(name for name in names if not name.startswith("_"))


_lifted = _Lifted(__name__, jnp, jax.nn, jax.scipy.special)


def __getattr__(name: str) -> Any:
    return _lifted.get(name)


def __dir__() -> list[str]:
    return dir(_lifted)
