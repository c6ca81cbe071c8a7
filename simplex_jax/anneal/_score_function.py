"""The gradient of a process that draws decisions, from their probabilities."""

from typing import Any

import jax
import jax.numpy as jnp

from .._checks import at_least
from .._typing import PRNGKey
from ._process import Estimate, Process, value_and_gradient


def score_function(
    process: Process,
    theta: Any,
    *,
    key: PRNGKey,
    steps: int,
    chains: int = 64,
    window: int | None = None,
    mode: str = "forward",
) -> Estimate:
    r"""Estimate the gradient of the expected total loss, decisions included.

    $$g = \frac{1}{n} \sum_i \sum_t \Big[ \nabla \ell_{ti} + (\ell_{ti} - b_{ti})
    \nabla \sum_{s \le t} \log p_{si} \Big]$$

    A decision is credited with the losses from its own step on. $b_{ti}$ is the mean of
    $\ell_t$ over the other chains, which costs no bias.

    Args:
        process: the loop; its emissions carry the log-probability of what was drawn.
        theta: a pytree of floating arrays.
        key: a JAX key.
        steps: of the loop.
        chains: independent loops, at least 2.
        window: carry and credit are cut at the start of every window of so many steps;
            must divide steps.
        mode: as for ``pathwise``.

    Returns:
        Loss and gradient, without bias where window is None, loss and log-probabilities
        are differentiable along the path, and nothing else jumps with theta.

    Raises:
        ValueError: for fewer than 2 chains, and as ``pathwise``.
    """
    at_least("chains", chains, 2)
    return value_and_gradient(
        process,
        theta,
        _credit,
        key=key,
        steps=steps,
        chains=chains,
        window=window,
        mode=mode,
    )


def _credit(losses: jax.Array, log_probs: jax.Array) -> jax.Array:
    n = losses.shape[0]
    others = (jnp.sum(losses) - losses) / (n - 1)
    advantage = jax.lax.stop_gradient(losses - others)
    return jnp.mean(losses + advantage * log_probs)
