"""What the schedules of a training run share: how far it is, shares, ramps."""

import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from .._checks import finite, positive, within

S = TypeVar("S", bound=Any)


def done(step: Any, schedule: Any) -> jax.Array:
    """Return the share of a schedule's run that is done at a step, at most 1."""
    dtype = jnp.result_type(*jax.tree.leaves(schedule.free))
    return jnp.minimum(jnp.asarray(step, dtype) / schedule.steps, 1)


def ramp(rate: jax.Array, at: jax.Array) -> jax.Array:
    """Return the part of an exponential approach that is made: 0 at 0, 1 at 1."""
    return jnp.expm1(-rate * at) / jnp.expm1(-rate)


def share(name: str, x: Any) -> jax.Array:
    """Return the logit of x; known values must be within (0, 1)."""
    return jax.scipy.special.logit(finite(name, within(name, x, "(0, 1)")))


def stretched(schedule: S, steps: float | int) -> S:
    """Return a schedule for a run of so many steps."""
    changes: dict[str, Any] = {"steps": float(positive("steps", steps))}
    return dataclasses.replace(schedule, **changes)
