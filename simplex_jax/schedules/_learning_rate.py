"""Learning a learning rate: schedules of which a loss knows nothing."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from ._meta_train import MetaTrained, held_out_loss, meta_train

Loss = Callable[[Any, Any], jax.Array]


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
    """Return the held-out loss after training at a schedule's rates.

    Args:
        loss: of parameters and a batch, a scalar.
        params: as for ``held_out_loss``, likewise what follows.
        batches: what is trained on.
        val_batches: what is not.
        schedule: step to rate, a pytree.
        inner: makes the optimizer that uses it.
        window: as for ``held_out_loss``.

    Returns:
        A scalar.

    Raises:
        ValueError: as ``held_out_loss``.

    Differentiable: as ``held_out_loss``.
    """
    return held_out_loss(
        _of_two(loss),
        params,
        batches,
        val_batches,
        schedule,
        inner=inner,
        window=window,
    )


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
) -> MetaTrained:
    """Learn a schedule by gradients of ``unrolled_loss`` through every update.

    Args:
        loss: of parameters and a batch, a scalar.
        params: as for ``meta_train``, likewise what follows.
        batches: what is trained on.
        val_batches: what is not.
        schedule: the start, such as ``LearnableLR.default()``, or any pytree of
            floating arrays that is called with a step.
        inner: such as ``functools.partial(optax.adamw, eps_root=1e-8)``.
        mode: ``forward`` or ``reverse``.
        meta_steps: how many times the schedule is changed.
        optimizer: of the schedule; None: Adam at 0.05, in unconstrained space.
        window: as for ``held_out_loss``.
        patience: stop after so many meta-steps without a lower loss; None: never.

    Returns:
        The best schedule, an ``optax.Schedule``, and what led to it.

    Raises:
        ValueError: as ``meta_train``.
    """
    return meta_train(
        _of_two(loss),
        params,
        batches,
        val_batches,
        schedule,
        inner=inner,
        mode=mode,
        meta_steps=meta_steps,
        optimizer=optimizer,
        window=window,
        patience=patience,
    )


def _of_two(loss: Loss) -> Callable[[Any, Any, Any], jax.Array]:
    return lambda params, batch, values: loss(params, batch)
