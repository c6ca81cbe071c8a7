"""The gradient of a process along its path."""

from typing import Any

import jax
import jax.numpy as jnp

from .._typing import PRNGKey
from ._process import Estimate, Process, value_and_gradient


def pathwise(
    process: Process,
    theta: Any,
    *,
    key: PRNGKey,
    steps: int,
    chains: int = 1,
    window: int | None = None,
    mode: str = "forward",
) -> Estimate:
    r"""Differentiate the total loss with the random numbers held fixed.

    $g = \frac{1}{n} \sum_i \nabla_\theta \sum_t \ell_t(\theta; \text{key}_i)$

    Args:
        process: the loop.
        theta: a pytree of floating arrays.
        key: a JAX key.
        steps: of the loop.
        chains: independent loops, over which the mean is taken.
        window: the carry is a constant at the start of every window of so many steps;
            must divide steps. None differentiates through all.
        mode: "forward" needs memory that does not grow with the steps, times the
            elements of theta; "reverse" keeps the carry at about 2 sqrt(steps) places
            and computes every step twice.

    Returns:
        Loss and gradient. It is the exact gradient for a smooth process; for one with
        decisions it leaves out how theta changes them. With a window it is biased
        toward what pays off within the window.

    Raises:
        ValueError: for counts below 1, a window that does not divide, another mode.

    Differentiable: as the process. Both modes agree to rounding.
    """
    return value_and_gradient(
        process,
        theta,
        _mean,
        key=key,
        steps=steps,
        chains=chains,
        window=window,
        mode=mode,
    )


def _mean(losses: jax.Array, log_probs: jax.Array) -> jax.Array:
    return jnp.mean(losses)
