"""Arguments refused by name: what was given, and what to give instead.

Every message has one form, ``name is value; give ...``. Rooms that work without JAX
import this file too, so JAX is imported in the functions that are given its arrays.
"""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

if TYPE_CHECKING:
    import jax


def refuse(name: str, value: Any, fix: str) -> NoReturn:
    """Raise the ``ValueError`` that names an argument, its value and what to do."""
    shown = repr(value) if isinstance(value, str) else str(value)
    raise ValueError(f"{name} is {shown}; {fix}")


def refuse_where(bad: Any, name: str, x: Any, fix: str) -> None:
    """Refuse the first number of x that is bad, by its place."""
    bad = np.asarray(bad)
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        place = f"[{', '.join(map(str, at))}]" if at else ""
        refuse(f"{name}{place}", np.asarray(x)[at], fix)


def known(x: Any) -> bool:
    """Tell whether x has a value now, outside of jit, vmap and jvp."""
    # Where JAX was never loaded, nothing is traced.
    loaded = sys.modules.get("jax")
    return loaded is None or not isinstance(x, loaded.core.Tracer)


def at_least(name: str, x: Any, least: int = 1) -> Any:
    """Return x, a number of at least ``least``."""
    if not x >= least:
        refuse(name, x, f"give at least {least}")
    return x


def above(name: str, x: Any, limit: float | int) -> Any:
    """Return x; known values must be above a limit."""
    if known(x):
        # NumPy, since under jit even known values would be traced.
        values = np.asarray(x)
        refuse_where(~(values > limit), name, values, f"give a number above {limit}")
    return x


def within(name: str, x: Any, interval: str) -> Any:
    """Return x; known values must lie in an interval, such as ``[0, 1)``."""
    if known(x):
        low, high = (float(end) for end in interval[1:-1].split(","))
        values = np.asarray(x)
        not_below = values >= low if interval[0] == "[" else values > low
        not_above = values <= high if interval[-1] == "]" else values < high
        bad = ~(not_below & not_above)
        refuse_where(bad, name, values, f"give a number in {interval}")
    return x


def one_of(name: str, x: Any, choices: Iterable[Any]) -> Any:
    """Return x, one of the choices."""
    choices = list(choices)
    if x not in choices:
        refuse(name, x, f"give one of {', '.join(map(str, choices))}")
    return x


def finite(name: str, x: Any) -> "jax.Array":
    """Return x as a floating JAX array; known values must be finite."""
    import jax.numpy as jnp

    if known(x):
        refuse_where(~np.isfinite(np.asarray(x)), name, x, "give a finite number")
    return jnp.asarray(x, dtype=jnp.promote_types(jnp.result_type(x), jnp.float32))


def positive(name: str, x: Any) -> "jax.Array":
    """Return x as ``finite`` does; known values must be above 0, traced ones pass."""
    return finite(name, above(name, x, 0))


def positive_or_nan(name: str, x: Any) -> "jax.Array":
    """Return x as a JAX array; 0 and below are refused, or NaN where traced."""
    import jax.numpy as jnp

    x = jnp.asarray(x)
    return _or_nan(name, x, x <= 0, "give a number above 0")


def probability_or_nan(name: str, p: Any) -> "jax.Array":
    """Return p as a JAX array; outside [0, 1] it is refused, or NaN where traced."""
    import jax.numpy as jnp

    p = jnp.asarray(p)
    return _or_nan(name, p, (p < 0) | (p > 1), "give a probability in [0, 1]")


def same_tree(name: str, found: Any, wanted: Any) -> None:
    """Refuse what a function returned where its form or dtypes are not the state's."""
    import jax

    found = jax.eval_shape(lambda: found)
    wanted = jax.eval_shape(lambda: wanted)
    if jax.tree.structure(found) != jax.tree.structure(wanted):
        raise ValueError(
            f"{name} returned a tree of structure {jax.tree.structure(found)}, but the "
            f"state has {jax.tree.structure(wanted)}; return a state of the same form"
        )
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(found),
        jax.tree.leaves(wanted),
        strict=True,
    )
    for (path, leaf), like in pairs:
        if (leaf.shape, leaf.dtype) != (like.shape, like.dtype):
            raise ValueError(
                f"{name} returned {leaf.dtype}{list(leaf.shape)} for "
                f"state{jax.tree_util.keystr(path)}, which is {like.dtype}"
                f"{list(like.shape)}; return a state of the same form"
            )


def _or_nan(name: str, x: Any, bad: Any, fix: str) -> "jax.Array":
    import jax.numpy as jnp

    if not known(bad):
        return jnp.where(bad, jnp.nan, x)
    refuse_where(bad, name, x, fix)
    return x
