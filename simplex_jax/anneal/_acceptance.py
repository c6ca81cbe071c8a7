"""The probability of taking a move that changes the energy by delta."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from .._checks import above

AcceptanceRule: TypeAlias = Callable[[Any, Any], jax.Array]
"""From an energy change and a temperature to a probability."""


def metropolis(delta: Any, temperature: Any) -> jax.Array:
    r"""Accept as Metropolis does: $A = \min(1, e^{-\Delta E / T})$.

        >>> float(anneal.metropolis(-1.0, 1.0))
        1.0

    Args:
        delta: energy after the move minus before, any shape.
        temperature: above 0, in units of energy; broadcasts with delta.

    Returns:
        Probabilities in [0, 1], not increasing in delta.

    Raises:
        ValueError: for a known temperature of 0 or below.

    Differentiable: jvp, vjp and vmap; the slope at delta = 0 is 0, that on the left.
    """
    temperature = above("temperature", temperature, 0)
    return jnp.exp(-jax.nn.relu(jnp.asarray(delta, dtype=_dtype(delta))) / temperature)


def barker(delta: Any, temperature: Any) -> jax.Array:
    r"""Accept as Barker does: $A = \sigma(-\Delta E / T)$.

        >>> float(anneal.barker(0.0, 1.0))
        0.5

    Args:
        delta: energy after the move minus before, any shape.
        temperature: above 0, in units of energy; broadcasts with delta.

    Returns:
        Probabilities in [0, 1], decreasing in delta. An improvement is refused up to
        half the time, as detailed balance allows.

    Raises:
        ValueError: for a known temperature of 0 or below.

    Differentiable: jvp, vjp and vmap, smooth everywhere.
    """
    temperature = above("temperature", temperature, 0)
    return jax.nn.sigmoid(-jnp.asarray(delta, dtype=_dtype(delta)) / temperature)


def _dtype(x: Any) -> Any:
    return jnp.promote_types(jnp.result_type(x), jnp.float32)
