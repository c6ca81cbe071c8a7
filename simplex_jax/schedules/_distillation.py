"""How warm and how strong a teacher's answers are, learned."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._checks import positive
from ..anneal import smooth_floor
from ._run import done, share, stretched


class Distillation(NamedTuple):
    """What distillation uses at a step.

    Attributes:
        temperature: that both models' logits are divided by, at least 1.
        weight: of the teacher's answers against the labels, within (0, 1).
    """

    temperature: jax.Array
    weight: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LearnableDistillation:
    r"""Temperature and weight of a teacher, in four learnable numbers.

    $$T(t) = \operatorname{floor}(T_0 e^{-d t / N}, 1), \quad
    \alpha(t) = \alpha_0 e^{-a t / N}$$

    with t the step of N, and the floor of ``LearnableSchedule``. They are made for the
    loss $\alpha T^2 \operatorname{KL}(p_T \| q_T) + (1 - \alpha) \operatorname{CE}$.

        >>> taught = schedules.LearnableDistillation.default(steps=100)
        >>> f"{taught(100).weight:.3f}"
        '0.258'

    Attributes:
        free: the numbers without constraints, leaves of the pytree: logarithms, and the
            logit of the weight.
        steps: N, of the run, a plain number; not learned.

    Differentiable: jvp, vjp and vmap, in ``free`` and in floating steps before N.
    Source: Simplex's DistillationSchedule; deviations: decays are per run there per
    step; the floor there has no slope; scales per layer are left out.
    """

    free: Any
    steps: float = field(metadata={"static": True})

    @classmethod
    def default(cls, *, steps: float | int = 1000) -> "LearnableDistillation":
        """Make the schedule of Simplex's defaults, whose runs have 10,000 steps.

        Args:
            steps: of the run, above 0.

        Returns:
            Temperature 4 and weight 0.7, each falling by a factor e over the run.

        Raises:
            ValueError: as ``from_params``.
        """
        return cls.from_params(steps=steps)

    @classmethod
    def from_params(
        cls,
        initial_temp: Any = 4.0,
        temp_decay: Any = 1.0,
        initial_weight: Any = 0.7,
        weight_decay: Any = 1.0,
        *,
        steps: float | int = 1000,
    ) -> "LearnableDistillation":
        """Make a schedule from its numbers.

        Args:
            initial_temp: T at the start, above 0; the floor of 1 adds to it.
            temp_decay: d, above 0, per run.
            initial_weight: alpha at the start, within (0, 1).
            weight_decay: a, above 0, per run.
            steps: N, of the run, above 0.

        Returns:
            A schedule.

        Raises:
            ValueError: for a number outside its range.
        """
        free = {
            "initial_temp": jnp.log(positive("initial_temp", initial_temp)),
            "temp_decay": jnp.log(positive("temp_decay", temp_decay)),
            "initial_weight": share("initial_weight", initial_weight),
            "weight_decay": jnp.log(positive("weight_decay", weight_decay)),
        }
        return cls(free, float(positive("steps", steps)))

    @property
    def params(self) -> dict[str, jax.Array]:
        """The numbers, by the names of ``from_params``."""
        values = {name: jnp.exp(x) for name, x in self.free.items()}
        values["initial_weight"] = jax.nn.sigmoid(self.free["initial_weight"])
        return values

    def __call__(self, step: Any) -> Distillation:
        """Return temperature and weight at a step, as the class says.

        Args:
            step: updates made so far, from 0, any shape; from N on both stay.

        Returns:
            Both, of step's shape.
        """
        p, at = self.params, done(step, self)
        temperature = p["initial_temp"] * jnp.exp(-p["temp_decay"] * at)
        weight = p["initial_weight"] * jnp.exp(-p["weight_decay"] * at)
        return Distillation(smooth_floor(temperature, 1.0), weight)

    def scaled(self, *, steps: float | int) -> "LearnableDistillation":
        """Return the same curves for a run of another length.

        Args:
            steps: of that run, above 0.

        Returns:
            A schedule.

        Raises:
            ValueError: for a number that is not above 0.
        """
        return stretched(self, steps)
