"""Whether the derivatives of a function agree with each other and with differences."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ._arguments import floating_tree, smooth

# Steps of the differences, relative to max(1, |x|): from where the function's curvature
# disturbs least to where rounding does.
_STEPS = tuple(2.0**-k for k in (6, 9, 12, 15))


@dataclass(frozen=True)
class Report:
    """What ``check`` found.

    A difference is relative to the larger of 1 and the derivative. It is infinite where
    a side is NaN or one alone is infinite, and None where a side does not exist.

    Attributes:
        passed: whether all that exist agree within the tolerance, and at least one of
            jvp and vjp exists.
        jvp_vjp: largest difference between forward and reverse mode.
        jvp_differences: largest between forward mode and finite differences.
        vjp_differences: largest between reverse mode and finite differences.
        worst: the entry with the largest difference of all, as "f(x)[i] by x[j]".
        missing: for each mode that f does not have, what JAX says about it.
    """

    passed: bool
    jvp_vjp: float | None
    jvp_differences: float | None
    vjp_differences: float | None
    worst: str
    missing: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = ["passed" if self.passed else f"derivatives part at {self.worst}"]
        for name in ("jvp_vjp", "jvp_differences", "vjp_differences"):
            gap = getattr(self, name)
            if gap is not None:
                lines.append(f"{name.replace('_', ' against ')}: {gap:.1e}")
        lines += [f"no {mode}: {why}" for mode, why in self.missing.items()]
        return "\n".join(lines)


def check(f: Callable[[Any], Any], x: Any, tolerance: float = 1e-6) -> Report:
    r"""Compare forward mode, reverse mode and finite differences in float64.

    All entries of the Jacobian are compared. The differences are central, extrapolated
    (Richardson), and taken with the step at which they agree best with the next.

        >>> dual.check(lambda x: jnp.sin(x["a"]), {"a": 1.0}).passed
        True

    Args:
        f: a function of one pytree of floating arrays that returns floating arrays. It
            runs in float64 whatever x's dtype, as long as it does not cast itself.
        x: where to compare, concrete.
        tolerance: largest difference that passes, relative to the larger of 1 and the
            derivative.

    Returns:
        A report. A mode that f lacks (reverse for ``while_loop``, forward for
        ``custom_vjp``) is named there; at a kink the differences part from both modes.

    Raises:
        ValueError: for integers, nothing to compare, or an f that returns nothing.

    Not for use under ``jit``: the report is read on the host. Cost: n forward, m
    reverse and 16 n plain evaluations for n inputs and m outputs, all at once, so small
    inputs are best. Source: Simplex's ``derivative_error`` and ``check_gradient``;
    deviation: a step of 1e-8 leaves eight digits to rounding, these leave four or less.
    """
    with jax.enable_x64(True):
        x = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), floating_tree("x", x))
        point, rebuild = ravel_pytree(x)
        out = smooth(f)(x)
        if point.size == 0 or ravel_pytree(out)[0].size == 0:
            raise ValueError("x or f(x) has no elements; there is nothing to compare")

        def flat(v: Any) -> Any:
            return ravel_pytree(f(rebuild(v)))[0].astype(jnp.float64)

        sides, missing = {}, {}
        for mode, transform in (("jvp", jax.jacfwd), ("vjp", jax.jacrev)):
            try:
                sides[mode] = np.asarray(transform(flat)(point))
            except (TypeError, ValueError, NotImplementedError) as error:
                missing[mode] = str(error).strip().splitlines()[0]
        sides["differences"] = _differences(jax.jit(jax.vmap(flat)), np.asarray(point))

    gaps = {
        (a, b): _gap(sides[a], sides[b])
        for a, b in (("jvp", "vjp"), ("jvp", "differences"), ("vjp", "differences"))
        if a in sides and b in sides
    }
    largest = {pair: float(gap.max(initial=0.0)) for pair, gap in gaps.items()}
    worst = "f(x) by x"
    if gaps:
        gap = gaps[max(largest, key=lambda pair: largest[pair])]
        row, column = divmod(int(gap.argmax()), gap.shape[1])
        worst = f"{_entry('f(x)', out, row)} by {_entry('x', x, column)}"
    return Report(
        passed=bool(gaps) and max(largest.values()) <= tolerance,
        jvp_vjp=largest.get(("jvp", "vjp")),
        jvp_differences=largest.get(("jvp", "differences")),
        vjp_differences=largest.get(("vjp", "differences")),
        worst=worst,
        missing=missing,
    )


def _differences(f: Callable, x: np.ndarray) -> np.ndarray:
    """Return the Jacobian by differences, the steps chosen entry by entry."""
    scale = np.maximum(1.0, np.abs(x))

    def central(step: float) -> np.ndarray:
        offsets = np.diag(scale * step)
        return (np.asarray(f(x + offsets)) - np.asarray(f(x - offsets))).T / (
            2 * scale * step
        )

    extrapolated = np.stack(
        [(4 * central(step / 2) - central(step)) / 3 for step in _STEPS]
    )
    doubt = np.abs(np.diff(extrapolated, axis=0))
    best = np.where(np.isnan(doubt), np.inf, doubt).argmin(axis=0)
    return np.take_along_axis(extrapolated[1:], best[None], axis=0)[0]


def _gap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        gap = np.abs(a - b) / np.maximum(1.0, np.abs(b))
    return np.where(a == b, 0.0, np.where(np.isnan(gap), np.inf, gap))


def _entry(name: str, tree: Any, index: int) -> str:
    """Return the path and index of one element of a pytree that was flattened."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        leaf_size = np.size(leaf)
        if index < leaf_size:
            place = np.unravel_index(index, np.shape(leaf))
            inside = f"[{', '.join(str(int(i)) for i in place)}]" if place else ""
            return name + jax.tree_util.keystr(path) + inside
        index -= leaf_size
    raise IndexError(index)
