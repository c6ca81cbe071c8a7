"""A learning-rate schedule whose numbers are learned."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import finite, positive, within
from ..anneal import smooth_floor


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LearnableLR:
    r"""Warm-up, decay and oscillation of a learning rate, in six learnable numbers.

    $$\eta(t) = \operatorname{floor}\big(\eta_0 (1 - e^{-3 (t + 1) / w})\,
    e^{-\lambda t / N} (1 + a \sin 2 \pi f t / N),\; \eta_{min}\big)$$

    with t the step: the rate has 95 % of its height after w steps, and decay and
    oscillation are counted in runs of N steps, so that a schedule means the same in
    runs of other lengths. $\operatorname{floor}$ is that of ``LearnableSchedule``. It
    is an ``optax.Schedule``.

        >>> rate = schedules.LearnableLR.default(steps=1000)
        >>> f"{rate(1000):.1e}"
        '1.8e-04'

    Attributes:
        free: the numbers without constraints, leaves of the pytree: logarithms of what
            is above 0, and artanh of the amplitude.
        steps: N, of the run, a plain number; not learned.
        min_lr: the floor, a plain number; not learned.

    Differentiable: jvp, vjp and vmap, in ``free`` and in floating steps. Source:
    Simplex's LearnableLRSchedule; deviations: rates are per run there per step, so
    that long and short runs differ; the floor and the end of the warm-up have no slope
    there; the boost on a plateau is left out, because a schedule knows its step alone.
    """

    free: Any
    steps: float = field(metadata={"static": True})
    min_lr: float = field(metadata={"static": True})

    @classmethod
    def default(cls, *, steps: float | int = 1000) -> "LearnableLR":
        """Make the schedule of Simplex's defaults for a run of 1,000 steps.

        Args:
            steps: of the run, above 0.

        Returns:
            A schedule with a height of 2e-4, a tenth of the run of warm-up, a decay of
            10 % over the run and next to no oscillation.

        Raises:
            ValueError: as ``from_params``.
        """
        return cls.from_params(warmup_steps=0.1 * steps, steps=steps)

    @classmethod
    def from_params(
        cls,
        initial_lr: Any = 2e-4,
        decay_rate: Any = 0.1,
        warmup_steps: Any = 100.0,
        oscillation_amp: Any = 0.0,
        oscillation_freq: Any = 2.0,
        *,
        steps: float | int = 1000,
        min_lr: float = 1e-6,
    ) -> "LearnableLR":
        """Make a schedule from its numbers.

        Args:
            initial_lr: the height, above 0.
            decay_rate: lambda, above 0, per run: the last step has e^-lambda of it.
            warmup_steps: w, above 0, in steps.
            oscillation_amp: a, within (-1, 1).
            oscillation_freq: f, above 0, in periods per run.
            steps: N, of the run, above 0.
            min_lr: the floor, above 0.

        Returns:
            A schedule.

        Raises:
            ValueError: for a number outside its range.
        """
        steps, min_lr = _plain(steps, min_lr)
        amplitude = within(
            "oscillation_amp", finite("oscillation_amp", oscillation_amp), "(-1, 1)"
        )
        above_zero = {
            "initial_lr": initial_lr,
            "decay_rate": decay_rate,
            # Learned as a share of the run, as the others are.
            "warmup": positive("warmup_steps", warmup_steps) / steps,
            "oscillation_freq": oscillation_freq,
        }
        free = {name: jnp.log(positive(name, x)) for name, x in above_zero.items()}
        free["oscillation_amp"] = jnp.arctanh(amplitude)
        return cls(free, steps, min_lr)

    @property
    def params(self) -> dict[str, jax.Array]:
        """The numbers, by the names of ``from_params``."""
        values = {name: jnp.exp(x) for name, x in self.free.items()}
        values["oscillation_amp"] = jnp.tanh(self.free["oscillation_amp"])
        values["warmup_steps"] = values.pop("warmup") * self.steps
        return values

    def __call__(self, step: Any) -> jax.Array:
        """Return the learning rate at a step, as the class says.

        Args:
            step: updates made so far, from 0, any shape.

        Returns:
            Rates of step's shape, at least ``min_lr``.
        """
        p, dtype = self.params, jnp.result_type(*jax.tree.leaves(self.free))
        step = jnp.asarray(step, dtype)
        done = step / self.steps
        warm = -jnp.expm1(-3 * (step + 1) / p["warmup_steps"])
        turn = 2 * jnp.pi * p["oscillation_freq"] * done
        swing = 1 + p["oscillation_amp"] * jnp.sin(turn)
        rate = p["initial_lr"] * warm * jnp.exp(-p["decay_rate"] * done) * swing
        return smooth_floor(rate, self.min_lr)

    def scaled(self, *, steps: float | int, initial_lr: Any = None) -> "LearnableLR":
        """Return the same shape for a run of another length or height.

        Args:
            steps: of that run, above 0.
            initial_lr: its height, above 0; None: the same.

        Returns:
            A schedule.

        Raises:
            ValueError: for a number that is not above 0.
        """
        free = dict(self.free)
        if initial_lr is not None:
            free["initial_lr"] = jnp.log(positive("initial_lr", initial_lr))
        return LearnableLR(free, *_plain(steps, self.min_lr))

    def at_peak(self, peak: float) -> "LearnableLR":
        """Return the same curve with another highest rate.

        Args:
            peak: the highest rate of the run's steps, above 0.

        Returns:
            A schedule; every rate has the same share of the highest as before, floor
            included.

        Raises:
            ValueError: for a number that is not above 0.
        """
        highest = jnp.max(self(jnp.arange(round(self.steps))))
        factor = positive("peak", peak) / highest
        free = dict(self.free)
        free["initial_lr"] = free["initial_lr"] + jnp.log(factor)
        return LearnableLR(free, *_plain(self.steps, float(factor) * self.min_lr))


def _plain(steps: float | int, min_lr: float) -> tuple[float, float]:
    for name, x in (("steps", steps), ("min_lr", min_lr)):
        positive(name, x)
    return float(steps), float(min_lr)
