"""Learn a schedule, then anneal with it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import optax

from .._typing import PRNGKey
from ._chain import Result, anneal_problem
from ._learnable import LearnableSchedule
from ._meta import History, learn_schedule
from ._objective import MetaLoss
from ._problem import Problem


@dataclass(frozen=True)
class AnnealConfig:
    """How long and how hard ``self_learn_anneal`` learns; the defaults are Simplex's.

    Attributes:
        meta_epochs: updates of the schedule.
        steps_per_epoch: steps of each run, and of the last one.
        meta_lr: of Adam, in the schedule's unconstrained space.
        regularization: weight of the distance to the default schedule.
        convergence_threshold: steps without a new best after which a chain goes back to
            its best state.
        chains: at once.
        estimator: of the meta-gradient.
    """

    meta_epochs: int = 100
    steps_per_epoch: int = 1000
    meta_lr: float = 1e-3
    regularization: float = 1e-4
    convergence_threshold: int = 200
    chains: int = 64
    estimator: str = "score_function"

    @classmethod
    def quick(cls) -> "AnnealConfig":
        """Make Simplex's quick configuration.

        Returns:
            20 epochs of 200 steps.
        """
        return cls(20, 200, 1e-2, 1e-3, 50)

    @classmethod
    def thorough(cls) -> "AnnealConfig":
        """Make Simplex's thorough configuration.

        Returns:
            500 epochs of 5000 steps.
        """
        return cls(500, 5000, 1e-4, 1e-5, 500)


class SelfLearned(NamedTuple):
    """What ``self_learn_anneal`` found.

    Attributes:
        best_state: the best state of all chains of the last run.
        best_energy: its energy, a scalar.
        schedule: the learned schedule.
        history: of learning.
        result: the last run in full.
    """

    best_state: Any
    best_energy: Any
    schedule: LearnableSchedule
    history: History
    result: Result


def self_learn_anneal(
    problem: Problem, config: AnnealConfig | None = None, *, key: PRNGKey
) -> SelfLearned:
    """Learn a schedule from the default one, then anneal with it, decisions hard.

    Args:
        problem: what is annealed.
        config: how long and how hard; ``AnnealConfig()`` where None.
        key: a JAX key.

    Returns:
        The best state of the last run, with what was learned.

    Raises:
        ValueError: as ``learn_schedule``.

    Source: Simplex's ``self_learn_anneal``; deviations: it learns; the convergence
    threshold is not ignored.
    """
    config = AnnealConfig() if config is None else config
    learn_key, run_key = jax.random.split(key)
    learned = learn_schedule(
        problem,
        LearnableSchedule.default(),
        key=learn_key,
        steps=config.steps_per_epoch,
        chains=config.chains,
        meta_steps=config.meta_epochs,
        optimizer=optax.adam(config.meta_lr),
        estimator=config.estimator,
        meta_loss=MetaLoss(regularization=config.regularization),
        restart_after=(
            None if config.estimator == "pathwise" else config.convergence_threshold
        ),
    )
    result = anneal_problem(
        problem,
        learned.schedule,
        key=run_key,
        steps=config.steps_per_epoch,
        chains=config.chains,
        restart_after=config.convergence_threshold,
    )
    best = result.best_energy.argmin()
    return SelfLearned(
        jax.tree.map(lambda x: x[best], result.best_state),
        result.best_energy[best],
        learned.schedule,
        learned.history,
        result,
    )
