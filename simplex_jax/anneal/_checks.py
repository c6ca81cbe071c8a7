"""Arguments refused by name, where their values are known."""

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np


def known(x: Any) -> bool:
    """Tell whether x has a value now, outside of jit, vmap and jvp."""
    return not isinstance(x, jax.core.Tracer)


def number(name: str, x: Any) -> jax.Array:
    """Return x as a floating array; known values must be finite."""
    # NumPy, since under jit even known values would be traced.
    if known(x) and not np.isfinite(np.asarray(x)).all():
        raise ValueError(f"{name} is {x}; give finite numbers")
    return jnp.asarray(x, dtype=jnp.promote_types(jnp.result_type(x), jnp.float32))


def positive(name: str, x: Any) -> jax.Array:
    """Return x as a floating array; known values must be above 0."""
    if known(x) and not (np.asarray(x) > 0).all():
        raise ValueError(f"{name} is {x}; give a number above 0")
    return number(name, x)


def count(name: str, x: int, least: int = 1) -> int:
    """Return x, an integer of at least ``least``."""
    if x < least:
        raise ValueError(f"{name} is {x}; give at least {least}")
    return x


def one_of(name: str, x: str, choices: Any) -> str:
    """Return x, one of the choices."""
    if x not in choices:
        raise ValueError(f"{name} is {x!r}; give one of {', '.join(choices)}")
    return x


def same_tree(name: str, found: Any, wanted: Any) -> None:
    """Refuse a tree whose structure, shapes or dtypes are not the state's."""
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
