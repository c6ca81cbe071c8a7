"""A learning-rate schedule whose curve is learned point by point."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import at_least, positive
from ._run import done, stretched


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PiecewiseLR:
    r"""Learning rates at equally spaced points of the run, log-linear between them.

    $$\eta(t) = e^{(1 - u) \ell_i + u\, \ell_{i + 1}}, \quad
    i + u = (K - 1) \min(t / N, 1)$$

    with K logarithms $\ell$ of rates, t the step and N the run's steps. It is an
    ``optax.Schedule``. A warm-up, a decay of any form or a second rise are all within
    its reach, which ``LearnableLR`` with its two numbers for the curve is not.

        >>> rate = schedules.PiecewiseLR.constant(0.1, steps=100, knots=3)
        >>> f"{rate(50):.2f}"
        '0.10'

    Attributes:
        free: $\ell$, (K,), K >= 2, as ``log_rates``: the leaf that learns.
        steps: N, a plain number; not learned.

    Differentiable: jvp, vjp and vmap, in ``free``, and in floating steps except at the
    points.
    """

    free: Any
    steps: float = field(metadata={"static": True})

    @classmethod
    def constant(
        cls, rate: Any, *, steps: float | int, knots: int = 8
    ) -> "PiecewiseLR":
        """Make a schedule that is flat until it learns.

        Args:
            rate: above 0.
            steps: N, of the run, above 0.
            knots: K, at least 2.

        Returns:
            A schedule.

        Raises:
            ValueError: for a number outside its range.
        """
        at_least("knots", knots, 2)
        positive("steps", steps)
        logarithm = jnp.log(positive("rate", rate))
        return cls({"log_rates": jnp.broadcast_to(logarithm, (knots,))}, float(steps))

    @property
    def params(self) -> dict[str, jax.Array]:
        """The rates at the points, by name."""
        return {"rates": jnp.exp(self.free["log_rates"])}

    def __call__(self, step: Any) -> jax.Array:
        """Return the learning rate at a step, as the class says.

        Args:
            step: updates made so far, from 0, any shape; from N on the last rate.

        Returns:
            Rates of step's shape.
        """
        logs = self.free["log_rates"]
        last = len(logs) - 1
        at = done(step, self) * last
        before = jnp.minimum(jnp.floor(at), last - 1).astype(jnp.int32)
        share = at - before
        return jnp.exp((1 - share) * logs[before] + share * logs[before + 1])

    def scaled(self, *, steps: float | int) -> "PiecewiseLR":
        """Return the same curve for a run of another length.

        Args:
            steps: of that run, above 0.

        Returns:
            A schedule.

        Raises:
            ValueError: for a number that is not above 0.
        """
        return stretched(self, steps)

    def at_peak(self, peak: float) -> "PiecewiseLR":
        """Return the same curve with another highest rate.

        Args:
            peak: the highest rate, above 0.

        Returns:
            A schedule; every rate has the same share of the highest as before.

        Raises:
            ValueError: for a number that is not above 0.
        """
        logs = self.free["log_rates"]
        logs = logs - jnp.max(logs) + jnp.log(positive("peak", peak))
        return PiecewiseLR({"log_rates": logs}, self.steps)
