"""A learning rate whose numbers are carried in the optimizer's state."""

import dataclasses
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from .. import schedules

Rate: TypeAlias = schedules.LearnableLR | schedules.PiecewiseLR
"""Schedules of a learning rate that learn."""


class Carried(NamedTuple):
    """State of ``scale_by_carried``; checkpoints hold it like moments.

    Attributes:
        rate_count: updates taken.
        rate_numbers: the schedule's, unconstrained, which adapting changes.
        rate_start: what they were at first.
        rate_shift: logarithm of a factor of all rates, 0 while they are used.
        rate_meta: state of the optimizer that changes the numbers.
    """

    rate_count: jax.Array
    rate_numbers: Any
    rate_start: Any
    rate_shift: jax.Array
    rate_meta: Any


# Of the logarithm of the rates: by its sign at first, by what persists later.
META = optax.adam(0.1)


def scale_by_carried(rate: Rate) -> optax.GradientTransformation:
    """Return the transformation that multiplies updates by a rate in its state.

    Args:
        rate: where the numbers start.

    Returns:
        The transformation, for descent directions.
    """

    def init(params):
        return Carried(
            jnp.zeros((), jnp.int32),
            # The step donates its state, and both are changed on their own.
            jax.tree.map(jnp.copy, rate.free),
            jax.tree.map(jnp.copy, rate.free),
            jnp.zeros(()),
            META.init(jnp.zeros(())),
        )

    def update(updates, state, params=None):
        scale = with_numbers(rate, state.rate_numbers)(state.rate_count)
        scale = scale * jnp.exp(state.rate_shift)
        updates = jax.tree.map(lambda u: scale.astype(u.dtype) * u, updates)
        return updates, state._replace(rate_count=state.rate_count + 1)

    return optax.GradientTransformation(init, update)


def with_numbers(rate: Rate, free: Any) -> Rate:
    """Return a schedule with other numbers."""
    return dataclasses.replace(rate, free=free)


def carried(opt_state: Any) -> Carried:
    """Return the state of ``scale_by_carried`` in that of an optimizer."""
    return Carried(*(optax.tree.get(opt_state, name) for name in Carried._fields))


def carried_rate(rate: Rate, opt_state: Any, name: str = "rate_numbers") -> Rate:
    """Return the schedule of numbers in an optimizer's state, on the host."""
    numbers = jax.device_get(optax.tree.get(opt_state, name))
    return with_numbers(rate, jax.tree.map(jnp.asarray, numbers))
