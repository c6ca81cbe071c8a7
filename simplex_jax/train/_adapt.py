"""Adapting the learning rate while it is used, on data that is not trained on."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array

from .. import schedules
from ._carried import META, Rate, carried, with_numbers
from ._loss import nll
from ._step import Batch, TrainState, make_gradients, step_key

# Updates that an adaptation looks ahead.
WINDOW = 4
# Between adaptations, in steps. One costs 8 steps, and compiling it what 13 cost, so
# that it begins when both are less than 30 % of the run (benchmarks/adapt_rate.py).
_EVERY = 40
# How far the numbers may go from their start, in logarithms.
_RADIUS = 0.5


def adapts_before(step: int, steps: int) -> bool:
    """Tell whether the rate is adapted before a step, which counts alone decide.

    Args:
        step: how many were taken.
        steps: of the run.

    Returns:
        Whether it is; a run that is too short is never interrupted.
    """
    return step >= 2 * _EVERY and step % _EVERY == 0 and step + WINDOW <= steps


def make_adaptation(
    graphdef: Any,
    optimizer: optax.GradientTransformation,
    rate: Rate,
    *,
    compute_dtype: Any = None,
    chunk_tokens: int = 256,
) -> Callable[[TrainState, Any, Batch, Batch], tuple[TrainState, dict[str, Array]]]:
    r"""Return the jitted function that adapts the rate that a state carries.

    It takes the next updates ahead, with dropout and all, and differentiates the loss
    on held-out data after them by a common factor of their rates, $e^u$: one tangent.
    Adam makes of that slope the change of u, and the schedule's numbers take the
    smallest step that changes the mean of their logarithmic rates there by as much, but
    stay within a ball around where they started.

    Args:
        graphdef: as for ``make_step``.
        optimizer: of ``make_optimizer``, with this rate.
        rate: the schedule; its numbers are those of the state.
        compute_dtype: as for ``make_step``.
        chunk_tokens: as for ``nll``.

    Returns:
        A function of the state, of the frozen rest, of the next batches, arrays
        (``WINDOW``, A, B, T), and of a held-out batch (B, T). It gives the state with
        other numbers, and scalars: ``loss``, of the held-out batch after the updates,
        ``slope``, its derivative by u, and ``change``, of u. What is not finite changes
        nothing.

    Source: Simplex's MetaTrainer; deviations: its schedules follow the training loss
    of a step, without derivatives.
    """
    gradients = make_gradients(
        graphdef, compute_dtype=compute_dtype, chunk_tokens=chunk_tokens
    )

    def adapt(
        state: TrainState,
        frozen: Any,
        batches: Mapping[str, Array],
        heldout: Mapping[str, Array],
    ):
        now = carried(state.opt_state)

        def loss_after(shift):
            def gradient(params, at_and_batch):
                at, batch = at_and_batch
                return gradients(params, frozen, batch, step_key(state, at))[0]

            opt_state = optax.tree.set(state.opt_state, rate_shift=shift)
            params, _ = schedules.take_updates(
                gradient,
                optimizer,
                state.params,
                opt_state,
                (jnp.arange(WINDOW), dict(batches)),
            )
            if compute_dtype is not None:
                params = jax.tree.map(lambda x: x.astype(compute_dtype), params)
            model = nnx.merge(graphdef, params, frozen)
            total, weight = nll(model, heldout, chunk_tokens=chunk_tokens)
            return total / weight

        def log_rate(free):
            at = now.rate_count + jnp.arange(WINDOW)
            return jnp.mean(jnp.log(with_numbers(rate, free)(at)))

        loss, slope = jax.jvp(
            loss_after, (now.rate_shift,), (jnp.ones_like(now.rate_shift),)
        )
        free = now.rate_numbers
        moves = jax.grad(log_rate)(free)
        change, meta = META.update(slope, now.rate_meta, jnp.zeros(()))
        size = sum(jnp.sum(x**2) for x in jax.tree.leaves(moves))
        found = jax.tree.map(lambda x, m: x + change * m / size, free, moves)
        away = jax.tree.map(jnp.subtract, found, now.rate_start)
        shrink = jnp.minimum(1, _RADIUS / optax.tree.norm(away))
        found = jax.tree.map(lambda x, d: x + shrink * d, now.rate_start, away)
        usable = jnp.isfinite(loss) & jnp.isfinite(slope)
        found, meta = jax.tree.map(
            lambda new, old: jnp.where(usable, new, old),
            (found, meta),
            (free, now.rate_meta),
        )
        opt_state = optax.tree.set(state.opt_state, rate_numbers=found, rate_meta=meta)
        made = log_rate(found) - log_rate(free)
        metrics = {"loss": loss, "slope": slope, "change": made}
        return state._replace(opt_state=opt_state), metrics

    return jax.jit(adapt)
