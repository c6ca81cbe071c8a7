"""Learning a learning rate: descend the held-out loss after the updates it leads to."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ._checks import count, one_of

Loss = Callable[[Any, Any], jax.Array]


class LearnedRate(NamedTuple):
    """A learning-rate schedule that was learned.

    Attributes:
        schedule: the one of the lowest held-out loss, which may be the start; an
            ``optax.Schedule``.
        losses: held-out loss before every meta-step and after the last one.
        schedules: the schedules that had them, stacked on a leading axis.
        stopped_early: whether patience ran out, or a step led to no finite loss.
    """

    schedule: Any
    losses: np.ndarray
    schedules: Any
    stopped_early: bool


def unrolled_loss(
    loss: Loss,
    params: Any,
    batches: Any,
    val_batches: Any,
    schedule: Any,
    *,
    inner: Callable[[Any], optax.GradientTransformation],
    window: int | None = None,
) -> jax.Array:
    r"""Return the held-out loss after training at a schedule's rates.

    $\overline{L}(w_K)$ over the held-out batches, with K updates by ``inner(schedule)``
    of $w_0$. In windows of W updates: the mean over windows of the loss at their ends,
    where a window's start is taken as given, which bounds how long gradients get.

    Args:
        loss: of parameters and a batch, a scalar.
        params: $w_0$, any pytree of floating arrays.
        batches: a pytree with a leading axis K, a batch each.
        val_batches: a pytree with a leading axis, held-out batches.
        schedule: step to rate, a pytree.
        inner: makes the optimizer that uses it.
        window: W, which divides K; None: K.

    Returns:
        A scalar.

    Raises:
        ValueError: for no batches, axes of different lengths, or a window that does not
            divide K.

    Differentiable in the schedule: jvp, with memory that does not grow with K, and vjp,
    where each update is computed anew and the states between them are kept.
    """
    steps = _length("batches", batches)
    held_out = _length("val_batches", val_batches)
    size = steps if window is None else count("window", window)
    if steps % size:
        raise ValueError(f"window is {window}, which does not divide {steps} batches")
    optimizer = inner(schedule)

    @jax.checkpoint
    def update(state, batch):
        params, optimizer_state = state
        gradient = jax.grad(loss)(params, batch)
        changes, optimizer_state = optimizer.update(gradient, optimizer_state, params)
        return (optax.apply_updates(params, changes), optimizer_state), None

    def train(state, batches):
        state, _ = jax.lax.scan(update, jax.lax.stop_gradient(state), batches)
        losses = jax.lax.map(lambda batch: loss(state[0], batch), val_batches)
        return state, jnp.sum(losses) / held_out

    windows = jax.tree.map(
        lambda x: jnp.reshape(x, (steps // size, size, *jnp.shape(x)[1:])), batches
    )
    _, losses = jax.lax.scan(train, (params, optimizer.init(params)), windows)
    return jnp.mean(losses)


def learn_learning_rate(
    loss: Loss,
    params: Any,
    batches: Any,
    val_batches: Any,
    schedule: Any,
    *,
    inner: Callable[[Any], optax.GradientTransformation],
    mode: str = "forward",
    meta_steps: int = 50,
    optimizer: optax.GradientTransformation | None = None,
    window: int | None = None,
    patience: int | None = None,
) -> LearnedRate:
    """Learn a schedule by gradients of ``unrolled_loss`` through every update.

    Args:
        loss: as for ``unrolled_loss``, likewise the next four.
        params: where training starts, every time.
        batches: what is trained on.
        val_batches: what is not.
        schedule: the start, such as ``LearnableLR.default()``, or any pytree of
            floating arrays that is called with a step.
        inner: such as ``functools.partial(optax.adamw, eps_root=1e-8)``.
        mode: ``forward`` costs a tangent a number of the schedule, and memory that does
            not grow with the updates; ``reverse`` costs about four times the training
            whatever the numbers, and a copy of parameters and state an update.
        meta_steps: how many times the schedule is changed.
        optimizer: of the schedule; None: Adam at 0.05, in unconstrained space.
        window: as for ``unrolled_loss``.
        patience: stop after so many meta-steps without a lower loss; None: never.

    Returns:
        The best schedule and what led to it.

    Raises:
        ValueError: as ``unrolled_loss``; for an unknown mode; for an inner optimizer
            whose update has no finite derivative at a gradient of 0, such as Adam
            without ``eps_root``; for a start whose loss is not finite.
    """
    one_of("mode", mode, ("forward", "reverse"))
    count("meta_steps", meta_steps)
    _refuse_rough(inner, schedule, params)
    meta = optax.adam(0.05) if optimizer is None else optimizer

    @jax.jit
    def evaluate(schedule, params, batches, val_batches):
        def f(schedule):
            value = unrolled_loss(
                loss, params, batches, val_batches, schedule, inner=inner, window=window
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
    return LearnedRate(
        schedule=best,
        losses=np.array(losses),
        schedules=jax.tree.map(lambda *leaves: np.stack(leaves), *schedules),
        stopped_early=len(losses) <= meta_steps,
    )


def _length(name: str, batches: Any) -> int:
    lengths = {jnp.shape(x)[:1] for x in jax.tree.leaves(batches)}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        raise ValueError(
            f"{name} has leading axes {sorted(lengths)}; give at least one batch, and "
            "every array one row a batch"
        )
    return lengths.pop()[0]


def _refuse_rough(
    inner: Callable[[Any], optax.GradientTransformation], schedule: Any, params: Any
) -> None:
    optimizer = inner(schedule)

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
