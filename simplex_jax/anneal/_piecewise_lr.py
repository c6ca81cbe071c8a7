"""A learning-rate schedule whose curve is learned point by point."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from ._checks import count, positive


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PiecewiseLR:
    r"""Learning rates at equally spaced points of the run, log-linear between them.

    $$\eta(t) = e^{(1 - u) \ell_i + u\, \ell_{i + 1}}, \quad
    i + u = (K - 1) \min(t / N, 1)$$

    with K logarithms $\ell$ of rates, t the step and N the run's steps. It is an
    ``optax.Schedule``. A warm-up, a decay of any form or a second rise are all within
    its reach, which ``LearnableLR`` with its two numbers for the curve is not.

        >>> rate = anneal.PiecewiseLR.constant(0.1, steps=100, knots=3)
        >>> f"{rate(50):.2f}"
        '0.10'

    Attributes:
        log_rates: $\ell$, (K,), K >= 2: the leaf that learns.
        steps: N, a plain number; not learned.

    Differentiable: jvp, vjp and vmap, in ``log_rates``, and in floating steps except at
    the points.
    """

    log_rates: Any
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
        count("knots", knots, 2)
        positive("steps", steps)
        logarithm = jnp.log(positive("rate", rate))
        return cls(jnp.broadcast_to(logarithm, (knots,)), float(steps))

    def __call__(self, step: Any) -> jax.Array:
        """Return the learning rate at a step, as the class says.

        Args:
            step: updates made so far, from 0, any shape; from N on the last rate.

        Returns:
            Rates of step's shape.
        """
        last = len(self.log_rates) - 1
        dtype = jnp.result_type(self.log_rates)
        at = jnp.clip(jnp.asarray(step, dtype) / self.steps, 0, 1) * last
        before = jnp.minimum(jnp.floor(at), last - 1).astype(jnp.int32)
        share = at - before
        logs = self.log_rates
        return jnp.exp((1 - share) * logs[before] + share * logs[before + 1])

    def scaled(self, *, steps: float | int, initial_lr: Any = None) -> "PiecewiseLR":
        """Return the same curve for a run of another length or height.

        Args:
            steps: of that run, above 0.
            initial_lr: the highest of its rates, above 0; None: the same.

        Returns:
            A schedule.

        Raises:
            ValueError: for a number that is not above 0.
        """
        positive("steps", steps)
        logs = self.log_rates
        if initial_lr is not None:
            logs = logs - jnp.max(logs) + jnp.log(positive("initial_lr", initial_lr))
        return PiecewiseLR(logs, float(steps))
