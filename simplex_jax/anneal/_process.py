"""A loop that a schedule acts on, and the sum of its losses as something to descend."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._checks import at_least, one_of


class Emission(NamedTuple):
    """What one step of a process gives.

    Attributes:
        loss: its share of the total, a floating scalar.
        log_prob: of the decisions that were drawn in it; 0 where nothing was drawn.
    """

    loss: Any
    log_prob: Any = 0.0


class Process(NamedTuple):
    """A loop whose total loss depends on theta, a pytree of floating arrays.

    Attributes:
        start: from a key to the carry, a pytree of arrays.
        step: from (theta, carry, key) to the next carry and an ``Emission``.
    """

    start: Callable[[Any], Any]
    step: Callable[[Any, Any, Any], tuple[Any, Emission]]


class Estimate(NamedTuple):
    """A loss and an estimate of its gradient.

    Attributes:
        loss: mean of the total over the chains, a scalar.
        gradient: a pytree like theta.
    """

    loss: jax.Array
    gradient: Any


Credit = Callable[[jax.Array, jax.Array], jax.Array]
"""From the chains' losses of a step, and the summed log-probabilities of what they drew
up to it, to a scalar whose gradient is that of the mean loss."""


def value_and_gradient(
    process: Process,
    theta: Any,
    credit: Credit,
    *,
    key: Any,
    steps: int,
    chains: int,
    window: int | None,
    mode: str,
) -> Estimate:
    """Differentiate the sum of credits over the steps."""
    at_least("chains", chains)
    one_of("mode", mode, ("forward", "reverse"))
    length = windows("window", window, steps)

    def total(theta: Any) -> tuple[Any, Any]:
        return _unrolled(process, theta, credit, key, steps, chains, length, window)

    differentiate = jax.jacfwd if mode == "forward" else jax.grad
    gradient, loss = differentiate(total, has_aux=True)(theta)
    return Estimate(loss, gradient)


def mean_loss(
    process: Process, theta: Any, *, key: Any, steps: int, chains: int = 1
) -> jax.Array:
    """Return the mean over chains of the total loss.

    Args:
        process: the loop.
        theta: a pytree of floating arrays.
        key: a JAX key; the same key gives the draws of the estimators.
        steps: of the loop.
        chains: independent loops.

    Returns:
        A scalar.

    Raises:
        ValueError: for counts below 1.

    Differentiable: as the process, decisions apart.
    """
    at_least("steps", steps)
    at_least("chains", chains)
    return _unrolled(process, theta, _nothing, key, steps, chains, steps, None)[1]


def windows(name: str, window: int | None, steps: int) -> int:
    """Return the length of the pieces that a loop is run in."""
    at_least("steps", steps)
    if window is None:
        # Reverse mode keeps the carry at the ends of pieces and inside one piece.
        return max(n for n in range(1, math.isqrt(steps) + 1) if steps % n == 0)
    at_least(name, window)
    if steps % window:
        raise ValueError(
            f"{name} is {window}, which does not divide steps = {steps}; give a divisor"
        )
    return window


def start_and_run_keys(key: Any, chains: int) -> tuple[Any, Any]:
    """Return two keys for each chain, those of ``anneal_problem`` under this key."""
    pairs = jax.vmap(jax.random.split)(jax.random.split(key, chains))
    return pairs[:, 0], pairs[:, 1]


def _unrolled(
    process: Process,
    theta: Any,
    credit: Credit,
    key: Any,
    steps: int,
    chains: int,
    length: int,
    window: int | None,
) -> tuple[jax.Array, jax.Array]:
    """Return the sum of credits, to differentiate, and the mean total loss."""
    start_keys, run_keys = start_and_run_keys(key, chains)
    carry = jax.vmap(process.start)(start_keys)
    shape = jax.eval_shape(
        lambda: jax.vmap(process.step, (None, 0, 0))(theta, carry, run_keys)[1].loss
    )
    dtype = jnp.result_type(shape.dtype, *jax.tree.leaves(theta))
    zeros, zero = jnp.zeros(chains, dtype), jnp.zeros((), dtype)

    # The step is counted in the carry: an array of steps would grow with them.
    def step(inside: Any, _: None) -> tuple[Any, None]:
        carry, log_probs, credits, loss, t = inside
        keys = jax.vmap(jax.random.fold_in, (0, None))(run_keys, t)
        carry, emission = jax.vmap(process.step, (None, 0, 0))(theta, carry, keys)
        losses = emission.loss.astype(dtype)
        log_probs = log_probs + jnp.asarray(emission.log_prob, dtype)
        credits = credits + credit(losses, log_probs)
        return (carry, log_probs, credits, loss + jnp.mean(losses), t + 1), None

    def piece(inside: Any, _: None) -> tuple[Any, None]:
        carry, log_probs, *sums = inside
        if window is not None:
            carry, log_probs = jax.lax.stop_gradient(carry), zeros
        return jax.lax.scan(step, (carry, log_probs, *sums), length=length)

    remembered = jax.checkpoint(piece, prevent_cse=False)  # pyright: ignore
    inside = (carry, zeros, zero, zero, jnp.int32(0))
    (_, _, credits, loss, _), _ = jax.lax.scan(
        remembered, inside, length=steps // length
    )
    return credits, loss


def _nothing(losses: jax.Array, log_probs: jax.Array) -> jax.Array:
    return jnp.zeros((), losses.dtype)
