"""Learning what a run is trained by: descend the held-out loss after its updates."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .._checks import at_least, one_of

# Of parameters, a batch, and what the schedules say at the step.
Loss = Callable[[Any, Any, Any], jax.Array]


class MetaTrained(NamedTuple):
    """Schedules that were learned.

    Attributes:
        schedule: the one of the lowest held-out loss, which may be the start.
        losses: held-out loss before every meta-step and after the last one.
        schedules: the schedules that had them, stacked on a leading axis.
        stopped_early: whether patience ran out, or a step led to no finite loss.
    """

    schedule: Any
    losses: np.ndarray
    schedules: Any
    stopped_early: bool


def take_updates(
    gradient: Callable[[Any, Any], Any],
    optimizer: optax.GradientTransformation,
    params: Any,
    opt_state: Any,
    batches: Any,
) -> tuple[Any, Any]:
    """Take an optimizer's update for each of the batches.

    Args:
        gradient: of parameters and a batch, as the optimizer wants it.
        optimizer: from Optax.
        params: any pytree of floating arrays.
        opt_state: of the optimizer.
        batches: a pytree with a leading axis, a batch each.

    Returns:
        Parameters and state after the last batch.

    Differentiable: jvp, with memory that does not grow with the updates, and vjp, where
    each update is computed anew and the states between them are kept.
    """

    @jax.checkpoint
    def update(state, batch):
        params, opt_state = state
        changes, opt_state = optimizer.update(
            gradient(params, batch), opt_state, params
        )
        return (optax.apply_updates(params, changes), opt_state), None

    return jax.lax.scan(update, (params, opt_state), batches)[0]


def held_out_loss(
    loss: Loss,
    params: Any,
    batches: Any,
    val_batches: Any,
    schedule: Any,
    *,
    inner: Callable[[Any], optax.GradientTransformation],
    val_loss: Loss | None = None,
    window: int | None = None,
) -> jax.Array:
    r"""Return the held-out loss after training by a schedule.

    $\overline{L}(w_K)$ over the held-out batches, with K updates by ``inner(schedule)``
    of $w_0$. In windows of W updates: the mean over windows of the loss at their ends,
    where a window's start is taken as given, which bounds how long gradients get.

    Args:
        loss: of parameters, a batch and ``schedule(step)``: what is trained on.
        params: $w_0$, any pytree of floating arrays.
        batches: a pytree with a leading axis K, a batch each.
        val_batches: a pytree with a leading axis, held-out batches.
        schedule: a pytree that is called with a step, such as ``LearnedSchedules``.
        inner: makes the optimizer that uses it, such as
            ``lambda s: optax.adamw(s.lr, eps_root=1e-8)``.
        val_loss: as ``loss``, of held-out batches, at the step that the updates have
            come to; None: ``loss``.
        window: W, which divides K; None: K.

    Returns:
        A scalar.

    Raises:
        ValueError: for no batches, axes of different lengths, or a window that does not
            divide K.

    Differentiable in the schedule, through its values and the updates, as
    ``take_updates``. Source: Simplex's MetaTrainer; deviations: the loss there is
    seeded, not differentiated, and every update of the weights changes the schedule.
    """
    steps = _length("batches", batches)
    held_out = _length("val_batches", val_batches)
    size = steps if window is None else at_least("window", window)
    if steps % size:
        raise ValueError(f"window is {window}, which does not divide {steps} batches")
    judge, optimizer = val_loss or loss, inner(schedule)

    def gradient(params, at_and_batch):
        at, batch = at_and_batch
        return jax.grad(loss)(params, batch, schedule(at))

    def train(state, batches):
        (params, opt_state), begun = jax.lax.stop_gradient(state), batches[0][0]
        params, opt_state = take_updates(
            gradient, optimizer, params, opt_state, batches
        )
        values = schedule(begun + size)
        losses = jax.lax.map(lambda batch: judge(params, batch, values), val_batches)
        return (params, opt_state), jnp.sum(losses) / held_out

    windows = jax.tree.map(
        lambda x: jnp.reshape(x, (steps // size, size, *jnp.shape(x)[1:])),
        (jnp.arange(steps), batches),
    )
    _, losses = jax.lax.scan(train, (params, optimizer.init(params)), windows)
    return jnp.mean(losses)


def meta_train(
    loss: Loss,
    params: Any,
    batches: Any,
    val_batches: Any,
    schedule: Any,
    *,
    inner: Callable[[Any], optax.GradientTransformation],
    val_loss: Loss | None = None,
    mode: str = "forward",
    meta_steps: int = 50,
    optimizer: optax.GradientTransformation | None = None,
    window: int | None = None,
    patience: int | None = None,
) -> MetaTrained:
    """Learn a schedule by gradients of ``held_out_loss`` through every update.

    Args:
        loss: as for ``held_out_loss``, likewise what follows down to ``val_loss``.
        params: where training starts, every time.
        batches: what is trained on.
        val_batches: what is not.
        schedule: the start; every number of it learns.
        inner: makes the optimizer.
        val_loss: of held-out batches.
        mode: ``forward`` costs a tangent a number of the schedule, and memory that does
            not grow with the updates; ``reverse`` costs about four times the training
            whatever the numbers, and a copy of parameters and state an update.
        meta_steps: how many times the schedule is changed.
        optimizer: of the schedule; None: Adam at 0.05, in unconstrained space. Chain
            ``optax.clip_by_global_norm`` before one whose steps follow the gradient.
        window: as for ``held_out_loss``.
        patience: stop after so many meta-steps without a lower loss; None: never.

    Returns:
        The best schedule and what led to it.

    Raises:
        ValueError: as ``held_out_loss``; for an unknown mode; for an inner optimizer
            whose update has no finite derivative at a gradient of 0, such as Adam
            without ``eps_root``; for a start whose loss is not finite.
    """
    one_of("mode", mode, ("forward", "reverse"))
    at_least("meta_steps", meta_steps)
    refuse_rough(inner(schedule), params)
    meta = optax.adam(0.05) if optimizer is None else optimizer

    @jax.jit
    def evaluate(schedule, params, batches, val_batches):
        def f(schedule):
            value = held_out_loss(
                loss,
                params,
                batches,
                val_batches,
                schedule,
                inner=inner,
                val_loss=val_loss,
                window=window,
            )
            return value, value

        differentiate = jax.jacfwd if mode == "forward" else jax.grad
        gradient, value = differentiate(f, has_aux=True)(schedule)
        return value, gradient

    state, best, since = meta.init(schedule), schedule, 0
    losses: list[float] = []
    schedules: list[Any] = []
    for _ in range(meta_steps + 1):
        value, gradient = evaluate(schedule, params, batches, val_batches)
        found = float(value)
        if not losses and not np.isfinite(found):
            raise ValueError(
                f"schedule: the held-out loss at the start is {found}; start at lower "
                "rates"
            )
        since += 1
        if not losses or found < min(losses):
            best, since = schedule, 0
        losses.append(found)
        schedules.append(schedule)
        finite = all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
        # From beyond a rate that diverges no gradient leads back.
        if since == patience or not np.isfinite(found) or not finite:
            break
        updates, state = meta.update(gradient, state, schedule)
        schedule = optax.apply_updates(schedule, updates)
    return MetaTrained(
        schedule=best,
        losses=np.array(losses),
        schedules=jax.tree.map(lambda *leaves: np.stack(leaves), *schedules),
        stopped_early=len(losses) <= meta_steps,
    )


def refuse_rough(optimizer: optax.GradientTransformation, params: Any) -> None:
    """Refuse an optimizer that no gradient goes through where a gradient is 0.

    Args:
        optimizer: such as ``optax.adamw(1e-3, eps_root=1e-8)``.
        params: what it is for.

    Raises:
        ValueError: where the jvp of its first update at 0 is not finite.
    """

    def update(gradient):
        return optimizer.update(gradient, optimizer.init(params), params)[0]

    zeros = jax.tree.map(jnp.zeros_like, params)
    ones = jax.tree.map(jnp.ones_like, params)
    _, slopes = jax.jvp(update, (zeros,), (ones,))
    if not all(jnp.isfinite(x).all() for x in jax.tree.leaves(slopes)):
        raise ValueError(
            "inner: its update has no finite derivative at a gradient of 0, which "
            "adapters give at their first step; give Adam and its kin an eps_root, "
            "such as functools.partial(optax.adamw, eps_root=1e-8)"
        )


def _length(name: str, batches: Any) -> int:
    lengths = {jnp.shape(x)[:1] for x in jax.tree.leaves(batches)}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        raise ValueError(
            f"{name} has leading axes {sorted(lengths)}; give at least one batch, and "
            "every array one row a batch"
        )
    return lengths.pop()[0]
