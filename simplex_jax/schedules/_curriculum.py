"""Which tasks a run sees when, learned."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import at_least, finite, positive
from ._run import done, ramp, stretched


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LearnableCurriculum:
    r"""Shares of tasks, or of levels of difficulty, in two learnable numbers each.

    $$p(t) = \operatorname{softmax}\big((1 - u) a + u z\big), \quad
    u = \frac{1 - e^{-r t / N}}{1 - e^{-r}}$$

    with t the step of N: logits a at the start, z at the end, and r that says how soon
    the one gives way to the other. Weigh the tasks' losses by p, or draw from it.

        >>> shares = schedules.LearnableCurriculum.from_params([1.0, 0.0], [0.0, 1.0])
        >>> [round(float(x), 2) for x in shares(0)]
        [0.73, 0.27]

    Attributes:
        free: a and z, arrays (tasks,), and the logarithm of r; leaves of the pytree.
        steps: N, of the run, a plain number; not learned.

    Differentiable: jvp, vjp and vmap, in ``free`` and in floating steps before N.
    Source: Simplex's CurriculumSchedule; deviations: an order by argsort and tasks
    switched on by thresholds have no gradient, so here every task always has a share;
    the sigmoid of the time since a start makes it half specialised at once, here the
    default has equal shares until it has learned others.
    """

    free: Any
    steps: float = field(metadata={"static": True})

    @classmethod
    def default(cls, tasks: int, *, steps: float | int = 1000) -> "LearnableCurriculum":
        """Make the schedule that prefers no task.

        Args:
            tasks: how many, at least 2.
            steps: of the run, above 0.

        Returns:
            Equal shares all the time.

        Raises:
            ValueError: as ``from_params``.
        """
        return cls.from_params(
            *2 * [jnp.zeros(at_least("tasks", tasks, 2))], steps=steps
        )

    @classmethod
    def from_params(
        cls, early: Any, late: Any, rate: Any = 1.0, *, steps: float | int = 1000
    ) -> "LearnableCurriculum":
        """Make a schedule from its numbers.

        Args:
            early: a, finite, (tasks,); higher where easier tasks are to come first.
            late: z, as many.
            rate: r, above 0.
            steps: N, of the run, above 0.

        Returns:
            A schedule.

        Raises:
            ValueError: for a number outside its range, or shapes that are not equal.
        """
        given = {"early": jnp.asarray(early), "late": jnp.asarray(late)}
        free = {name: finite(name, x) for name, x in given.items()}
        shapes = [free[name].shape for name in ("early", "late")]
        if shapes[0] != shapes[1] or len(shapes[0]) != 1 or shapes[0][0] < 2:
            raise ValueError(
                f"early and late have shapes {shapes[0]} and {shapes[1]}; give two "
                "vectors with a number a task, for two tasks or more"
            )
        free["rate"] = jnp.log(positive("rate", rate))
        return cls(free, float(positive("steps", steps)))

    @property
    def params(self) -> dict[str, jax.Array]:
        """The numbers, by the names of ``from_params``."""
        return {**self.free, "rate": jnp.exp(self.free["rate"])}

    def __call__(self, step: Any) -> jax.Array:
        """Return the shares at a step, as the class says.

        Args:
            step: updates made so far, from 0, any shape (...); from N on they stay.

        Returns:
            Shares (..., tasks), each above 0, that sum to 1 over the last axis.
        """
        p = self.params
        late = ramp(p["rate"], done(step, self))
        weights = jnp.stack([1 - late, late], axis=-1)
        ends = jnp.stack([p["early"], p["late"]])
        return jax.nn.softmax(jnp.matmul(weights, ends, precision="highest"))

    def scaled(self, *, steps: float | int) -> "LearnableCurriculum":
        """Return the same curve for a run of another length.

        Args:
            steps: of that run, above 0.

        Returns:
            A schedule.

        Raises:
            ValueError: for a number that is not above 0.
        """
        return stretched(self, steps)
