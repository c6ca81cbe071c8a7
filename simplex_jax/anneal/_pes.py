"""Gradients of a smoothed loss from evaluations in pairs."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .._checks import at_least, positive
from .._typing import PRNGKey
from ._process import Estimate, Process, start_and_run_keys, windows


def pes(
    process: Process,
    theta: Any,
    *,
    key: PRNGKey,
    steps: int,
    chains: int = 64,
    window: int | None = None,
    sigma: float = 0.1,
) -> Estimate:
    r"""Estimate the gradient of the smoothed loss, perturbed anew in every window.

    $$g = \frac{1}{2 n \sigma^2} \sum_i \sum_w \Big( \sum_{v \le w} \epsilon_{vi} \Big)
    (L^+_{wi} - L^-_{wi})$$

    A pair of loops runs under $\theta \pm \epsilon_w$ in window w, with the same random
    numbers and with its state carried over; since the perturbations are summed up, no
    credit is lost at the end of a window.

    Args:
        process: the loop; its derivatives are not used.
        theta: a pytree of floating arrays of one dtype.
        key: a JAX key.
        steps: of the loop.
        chains: pairs of loops.
        window: steps under one perturbation; must divide steps. About sqrt(steps) where
            None.
        sigma: standard deviation of the perturbations, above 0.

    Returns:
        The mean loss of the pairs and a gradient without bias for the loss smoothed by
        the perturbations; the gradient of a quadratic loss itself.

    Raises:
        ValueError: for counts below 1, a window that does not divide, sigma not above
            0.

    Memory: two states a pair, whatever the number of steps. Source: Vicol, Metz and
    Sohl-Dickstein 2021, "Persistent evolution strategies".
    """
    at_least("chains", chains)
    length = windows("window", window, steps)
    scale = positive("sigma", sigma)
    flat, rebuild = ravel_pytree(theta)
    scale = scale.astype(flat.dtype)

    def run(values: Any, carry: Any, key: Any, first: Any) -> tuple[Any, Any]:
        def step(inside: Any, t: Any) -> tuple[Any, None]:
            carry, loss = inside
            carry, emission = process.step(
                rebuild(values), carry, jax.random.fold_in(key, t)
            )
            return (carry, loss + emission.loss.astype(flat.dtype)), None

        zero = jnp.zeros((), flat.dtype)
        return jax.lax.scan(step, (carry, zero), first + jnp.arange(length))[0]

    def pair(start_key: Any, run_key: Any) -> tuple[Any, Any]:
        noise_key = jax.random.fold_in(start_key, 1)
        carry = process.start(start_key)

        def piece(inside: Any, first: Any) -> tuple[Any, None]:
            plus, minus, summed, gradient, total = inside
            key = jax.random.fold_in(noise_key, first)
            noise = scale * jax.random.normal(key, flat.shape, flat.dtype)
            summed = summed + noise
            plus, above = run(flat + noise, plus, run_key, first)
            minus, below = run(flat - noise, minus, run_key, first)
            gradient = gradient + summed * (above - below) / (2 * scale**2)
            return (plus, minus, summed, gradient, total + (above + below) / 2), None

        zeros = jnp.zeros_like(flat)
        inside = (carry, carry, zeros, zeros, jnp.zeros((), flat.dtype))
        firsts = jnp.arange(0, steps, length)
        (_, _, _, gradient, total), _ = jax.lax.scan(piece, inside, firsts)
        return total, gradient

    losses, gradients = jax.vmap(pair)(*start_and_run_keys(key, chains))
    return Estimate(jnp.mean(losses), rebuild(jnp.mean(gradients, axis=0)))
