"""Arguments that cannot be differentiated are refused by name, while tracing."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ._lift import is_perturbed, level


def floating(name: str, x: Any) -> Any:
    """Return x as a floating array; numbers pass."""
    if is_perturbed(x):
        return x
    try:
        x = jnp.asarray(x)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} is {x!r}; give a floating array or a float"
        ) from error
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"{name} has dtype {x.dtype}, which has no derivative; give floats, such "
            f"as 3.0 for 3 or x.astype(float)"
        )
    return x


def floating_tree(name: str, tree: Any) -> Any:
    """Return a pytree with every leaf as a floating array."""
    leaves = jax.tree.leaves(tree)
    if not leaves:
        raise ValueError(f"{name} holds no arrays; give at least one float")
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: floating(name + jax.tree_util.keystr(path), leaf), tree
    )


def scalar(name: str, x: Any) -> Any:
    """Return x as a floating scalar."""
    if len(jax.tree.leaves(x, is_leaf=is_perturbed)) != 1:
        raise ValueError(f"{name} is {_shown(x)}; give one scalar")
    x = floating(name, x)
    if x.shape != ():
        raise ValueError(
            f"{name} has shape {x.shape}, but a scalar is needed; use gradient or "
            "jacobian, or jax.vmap for one derivative per element"
        )
    return x


def same_kind_of_array(
    name: str, x: Any, other_name: str, other: Any, extra: int = 0
) -> None:
    """Refuse x unless shape, its last ``extra`` axes apart, and dtype are other's."""
    if level(x) != level(other):
        raise ValueError(
            f"{name} is nested {level(x)} deep and {other_name} {level(other)} deep; "
            "wrap the shallower one: constant(...)"
        )
    shape = x.shape[: x.ndim - extra]
    if (shape, x.dtype) != (other.shape, other.dtype):
        raise ValueError(
            f"{name} is {x.dtype}{list(x.shape)}, but {other_name} is {other.dtype}"
            f"{list(other.shape)}; {name} needs the same dtype and shape"
            + (" with k tangents on one more axis at the end" if extra else "")
        )


def tangent_tree(name: str, tangents: Any, primals: Any) -> Any:
    """Return tangents as arrays that fit the primals leaf by leaf."""
    theirs, ours = jax.tree.structure(primals), jax.tree.structure(tangents)
    if theirs != ours:
        raise ValueError(f"{name} has structure {ours}, but x has {theirs}")
    tangents = jax.tree.map(
        lambda t, p: jnp.asarray(t, p.dtype) if isinstance(t, int | float) else t,
        tangents,
        primals,
    )
    tangents = floating_tree(name, tangents)
    primals_with_path = jax.tree_util.tree_leaves_with_path(primals)
    for (path, primal), tangent in zip(
        primals_with_path, jax.tree.leaves(tangents), strict=True
    ):
        where = jax.tree_util.keystr(path)
        same_kind_of_array(name + where, tangent, "x" + where, primal)
    return tangents


def smooth(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return f, refusing outputs that have no derivative."""

    def checked(*args: Any) -> Any:
        out = f(*args)
        leaves = jax.tree_util.tree_leaves_with_path(out, is_leaf=is_perturbed)
        if not leaves:
            raise ValueError(
                f"f returned {out!r}, which holds no arrays; has it a return statement?"
            )
        for path, leaf in leaves:
            floating("f(x)" + jax.tree_util.keystr(path), leaf)
        return jax.tree.map(
            lambda leaf: leaf if is_perturbed(leaf) else jnp.asarray(leaf),
            out,
            is_leaf=is_perturbed,
        )

    return checked


def smooth_scalar(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return f, refusing outputs that are not one floating scalar."""
    checked = smooth(f)

    def scalar_valued(*args: Any) -> Any:
        out = checked(*args)
        leaves = jax.tree.leaves(out, is_leaf=is_perturbed)
        if len(leaves) != 1 or leaves[0].shape != ():
            raise ValueError(
                f"f returned {_shown(out)}, but a scalar is needed; reduce it, as with "
                "jnp.sum, or use jacobian"
            )
        return leaves[0]

    return scalar_valued


def _shown(x: Any) -> str:
    def of_leaf(leaf: Any) -> Any:
        return jax.typeof(leaf) if hasattr(leaf, "dtype") else leaf

    return str(jax.tree.map(of_leaf, x, is_leaf=is_perturbed))
