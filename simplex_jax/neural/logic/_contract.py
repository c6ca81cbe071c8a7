"""What a gate promises: a penalty while it learns, a check when it runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._probability import and_, implies


def _always(*_: Any) -> Float[Array, ""]:
    return jnp.ones(())


@dataclass(frozen=True)
class Contract:
    """Clauses about a gate's input x and output y, each one a probability a row.

    In training ``penalty`` joins the loss. In inference ``guarded`` puts the fallback
    where a clause fails.

    Args:
        requires: of x, what the caller owes.
        ensures: of x and y, what the gate owes in return.
        invariant: of x, and then of y: what the gate must keep.
        fallback: from x to an output like y.

    Source: Simplex's ``neural_gate`` clauses; deviation: they are evaluated.
    """

    requires: Callable[[Any], Float[Array, "..."]] = _always
    ensures: Callable[[Any, Any], Float[Array, "..."]] = _always
    invariant: Callable[[Any], Float[Array, "..."]] = _always
    fallback: Callable[[Any], Any] | None = None

    def penalty(self, x: Any, y: Any) -> Float[Array, ""]:
        """Return the mean probability that the gate broke its part.

        One minus: requires(x) AND invariant(x) IMPLIES ensures(x, y) AND invariant(y),
        of the product t-norm. Nothing is owed for an input that is not as required.

        Args:
            x: input.
            y: output.

        Returns:
            In [0, 1], 0 where the contract holds. Differentiable as the clauses are.

        Raises:
            ValueError: where a clause gives no probability.
        """
        owed = and_(self.requires(x), self.invariant(x))
        given = and_(self.ensures(x, y), self.invariant(y))
        return 1 - jnp.mean(implies(owed, given))

    def holds(self, x: Any, y: Any) -> Bool[Array, "..."]:
        """Return where every clause is more likely true than not.

        Args:
            x: input.
            y: output.

        Returns:
            One bool a row.
        """
        clauses = (
            self.requires(x),
            self.invariant(x),
            self.ensures(x, y),
            self.invariant(y),
        )
        held = jnp.asarray(True)
        for clause in clauses:
            held = held & (clause > 0.5)
        return held

    def guarded(self, x: Any, y: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return y where the contract holds, the fallback of x elsewhere.

        Args:
            x: input.
            y: output; rows are its first axes.

        Returns:
            An array like y; NaN where the contract fails and has no fallback.
            Differentiable as y and the fallback are, where each was taken.
        """
        held = self.holds(x, y)
        held = held.reshape(held.shape + (1,) * (y.ndim - held.ndim))
        instead = jnp.nan if self.fallback is None else self.fallback(x)
        return jnp.where(held, y, instead)
