"""Learning a schedule by descending its meta-loss."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .._checks import at_least, one_of
from .._typing import PRNGKey
from ._chain import refuse_bad_starts, start
from ._es import es
from ._objective import (
    MetaLoss,
    decided_process,
    distance,
    energy_scale,
    relaxed_process,
)
from ._pathwise import pathwise
from ._pes import pes
from ._problem import Problem, first_state
from ._process import Estimate, mean_loss
from ._score_function import score_function


class History(NamedTuple):
    """What learning saw; the first four have one entry a meta-step.

    Attributes:
        loss: the meta-loss before the step, on random numbers of its own.
        gradient_norm: of the gradient in unconstrained space.
        skipped: whether the gradient was not finite and nothing was changed.
        schedules: the schedule after the step, stacked on a leading axis.
        validation_steps: meta-steps after which the schedule was validated, 0 first.
        validation_loss: the loss there, on the same random numbers every time.
    """

    loss: np.ndarray
    gradient_norm: np.ndarray
    skipped: np.ndarray
    schedules: Any
    validation_steps: np.ndarray
    validation_loss: np.ndarray


class Learned(NamedTuple):
    """A schedule that was learned.

    Attributes:
        schedule: the one of the lowest validation loss, which may be the start.
        history: what learning saw.
        stopped_early: whether patience ran out.
    """

    schedule: Any
    history: History
    stopped_early: bool


def learn(
    estimate: Callable[[Any, Any], Estimate],
    validate: Callable[[Any], Any],
    theta: Any,
    *,
    key: PRNGKey,
    meta_steps: int,
    optimizer: optax.GradientTransformation,
    validate_every: int = 10,
    patience: int = 5,
) -> Learned:
    """Descend a noisy loss, and keep what validates best.

    Args:
        estimate: from (theta, key) to loss and gradient, traceable.
        validate: from theta to a loss, traceable; the same for the same theta.
        theta: a pytree of floating arrays.
        key: a JAX key; every meta-step has one of its own.
        meta_steps: at least 1.
        optimizer: from Optax.
        validate_every: meta-steps from one validation to the next, at least 1.
        patience: validations in a row without a new best after which it stops.

    Returns:
        The best theta validated, as ``schedule``, with the history.

    Raises:
        ValueError: for counts below 1, or a validation loss that is not finite at the
            start.
    """
    at_least("meta_steps", meta_steps)
    at_least("validate_every", validate_every)
    at_least("patience", patience)

    @jax.jit
    def update(theta: Any, state: Any, step: Any) -> tuple[Any, Any, Any]:
        loss, gradient = estimate(theta, jax.random.fold_in(key, step))
        norm = optax.tree.norm(gradient)
        usable = jnp.isfinite(norm)
        updates, after = optimizer.update(gradient, state, theta)
        moved = optax.apply_updates(theta, updates)
        theta, state = jax.tree.map(
            lambda new, old: jnp.where(usable, new, old), (moved, after), (theta, state)
        )
        return theta, state, (loss, norm, ~usable, theta)

    judge = jax.jit(validate)
    best, best_loss = theta, float(judge(theta))
    if not np.isfinite(best_loss):
        raise ValueError(
            f"schedule has a validation loss of {best_loss}; start from one under "
            "which energies stay finite"
        )
    state, rows, validations, waited = optimizer.init(theta), [], [(0, best_loss)], 0
    for step in range(1, meta_steps + 1):
        theta, state, row = update(theta, state, step)
        rows.append(row)
        if step % validate_every and step != meta_steps:
            continue
        found = float(judge(theta))
        validations.append((step, found))
        waited += 1
        if found < best_loss:
            best, best_loss, waited = theta, found, 0
        if waited == patience:
            break
    loss, norm, skipped, schedules = jax.tree.map(
        lambda *x: np.stack([np.asarray(y) for y in x]), *rows
    )
    at, validation_loss = (np.array(x) for x in zip(*validations, strict=True))
    history = History(loss, norm, skipped, schedules, at, validation_loss)
    return Learned(best, history, waited == patience)


def learn_schedule(
    problem: Problem,
    schedule: Any,
    *,
    key: PRNGKey,
    steps: int,
    chains: int = 64,
    meta_steps: int = 100,
    optimizer: optax.GradientTransformation | None = None,
    estimator: str = "score_function",
    mode: str = "forward",
    window: int | None = None,
    sigma: float = 0.1,
    meta_loss: MetaLoss | None = None,
    restart_after: int | None = None,
    validate_every: int = 10,
    patience: int = 5,
) -> Learned:
    """Learn a schedule for a problem, or for the family that its ``init`` draws from.

    Args:
        problem: what is annealed.
        schedule: where to start; every leaf of it learns.
        key: a JAX key.
        steps: of each run.
        chains: runs, or pairs of runs for es and pes, in one meta-step.
        meta_steps: updates at most.
        optimizer: from Optax; ``optax.adam(1e-2)`` where None.
        estimator: "score_function" for any problem; "es" and "pes" for any, smoothed;
            "pathwise" for floating states, on chains that take moves in part.
        mode: "forward" or "reverse", for pathwise and score_function.
        window: truncation for pathwise and score_function, steps under one perturbation
            for pes; not for es.
        sigma: of the perturbations of es and pes, in unconstrained space.
        meta_loss: the weights of its terms; ``MetaLoss()`` where None.
        restart_after: as for ``anneal``; not for pathwise.
        validate_every: meta-steps from one validation to the next.
        patience: validations in a row without a new best after which learning stops.

    Returns:
        The schedule of the lowest validation loss, with hard acceptance and on random
        numbers that no meta-step saw; and the history.

    Raises:
        ValueError: for a start that is infeasible or of no finite energy, arguments
            that do not go with the estimator, and counts below 1.

    Cost: energies for meta_steps times chains times steps, twice that for es and pes,
    and one more run of chains for each validation. Source: Simplex's
    ``MetaOptimizer``; deviations: its gradient is the parameters' own seed,
    whatever the loss, and its one chain a meta-step is noise.
    """
    one_of("estimator", estimator, ("pathwise", "score_function", "es", "pes"))
    at_least("steps", steps)
    at_least("chains", chains)
    for name, value, allowed in (
        ("window", window, estimator != "es"),
        ("restart_after", restart_after, estimator != "pathwise"),
    ):
        if value is not None and not allowed:
            raise ValueError(
                f"{name} is {value}, but {estimator} has none; leave it out"
            )
    meta = MetaLoss() if meta_loss is None else meta_loss
    scale_key, validation_key, run_key = jax.random.split(key, 3)
    keys = jax.random.split(scale_key, chains)
    refuse_bad_starts(
        jax.vmap(lambda key: start(problem, first_state(problem, key)).status)(keys)
    )
    scale = energy_scale(problem, schedule, key=scale_key, chains=chains)
    decided = decided_process(
        problem, meta, steps=steps, scale=scale, restart_after=restart_after
    )

    def prior(theta: Any) -> Any:
        return meta.regularization * distance(theta, schedule)

    def estimate(theta: Any, key: Any) -> Estimate:
        sizes = {"key": key, "steps": steps, "chains": chains}
        if estimator == "pathwise":
            relaxed = relaxed_process(problem, meta, steps=steps, scale=scale)
            found = pathwise(relaxed, theta, window=window, mode=mode, **sizes)
        elif estimator == "score_function":
            found = score_function(decided, theta, window=window, mode=mode, **sizes)
        elif estimator == "es":
            found = es(decided, theta, sigma=sigma, **sizes)
        else:
            found = pes(decided, theta, window=window, sigma=sigma, **sizes)
        extra, slope = jax.value_and_grad(prior)(theta)
        return Estimate(
            found.loss + extra, jax.tree.map(jnp.add, found.gradient, slope)
        )

    def validate(theta: Any) -> Any:
        runs = mean_loss(decided, theta, key=validation_key, steps=steps, chains=chains)
        return runs + prior(theta)

    return learn(
        estimate,
        validate,
        schedule,
        key=run_key,
        meta_steps=meta_steps,
        optimizer=optax.adam(1e-2) if optimizer is None else optimizer,
        validate_every=validate_every,
        patience=patience,
    )
