"""The schedules of one training run, together."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from ._curriculum import LearnableCurriculum
from ._distillation import Distillation, LearnableDistillation
from ._lr import LearnableLR
from ._piecewise_lr import PiecewiseLR
from ._ramps import LearnableBits, LearnableSparsity


class ScheduleValues(NamedTuple):
    """What the schedules of a bundle say at a step; None where there is none.

    Attributes:
        lr: the learning rate.
        distillation: temperature and weight of the teacher.
        sparsity: share of the weights that are 0.
        bits: width of the weights.
        curriculum: shares of the tasks, (..., tasks).
    """

    lr: jax.Array | None
    distillation: Distillation | None
    sparsity: jax.Array | None
    bits: jax.Array | None
    curriculum: jax.Array | None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LearnedSchedules:
    """The schedules that a run is trained by, a pytree; each can be left out.

        >>> both = schedules.LearnedSchedules(
        ...     lr=schedules.LearnableLR.default(),
        ...     bits=schedules.LearnableBits.default(),
        ... )
        >>> both(0).sparsity is None, f"{both(0).bits:.0f}"
        (True, '16')

    Attributes:
        lr: of the learning rate.
        distillation: of the teacher's temperature and weight.
        sparsity: of the weights.
        bits: of the weights.
        curriculum: of the tasks.

    Differentiable: as its parts. Source: Simplex's LearnedSchedules.
    """

    lr: LearnableLR | PiecewiseLR | None = None
    distillation: LearnableDistillation | None = None
    sparsity: LearnableSparsity | None = None
    bits: LearnableBits | None = None
    curriculum: LearnableCurriculum | None = None

    @property
    def parts(self) -> dict[str, Any]:
        """The schedules that are there, by name."""
        return {name: part for name, part in vars(self).items() if part is not None}

    def __call__(self, step: Any) -> ScheduleValues:
        """Return what every schedule says at a step.

        Args:
            step: updates made so far, from 0, any shape.

        Returns:
            The values.
        """
        values = {name: part(step) for name, part in self.parts.items()}
        return ScheduleValues(*(values.get(name) for name in ScheduleValues._fields))

    def scaled(self, *, steps: float | int) -> "LearnedSchedules":
        """Return the same curves for a run of another length.

        Args:
            steps: of that run, above 0.

        Returns:
            A bundle.

        Raises:
            ValueError: for a number that is not above 0.
        """
        scaled = {name: part.scaled(steps=steps) for name, part in self.parts.items()}
        return LearnedSchedules(**scaled)
