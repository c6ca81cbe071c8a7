"""Temperatures that follow a curve of the step alone."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from .._checks import positive
from ._acceptance import AcceptanceRule, metropolis


@runtime_checkable
class Schedule(Protocol):
    """What a chain asks of a schedule; a pytree of floating arrays."""

    def temperature(self, step: Any, stagnation: Any) -> jax.Array:
        """Return the temperature at a step, and steps since the last improvement."""
        ...

    def acceptance(self, delta: Any, temperature: Any) -> jax.Array:
        """Return the probability of taking a move that changes the energy by delta."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FixedSchedule:
    """A curve of the step, its numbers, and an acceptance rule.

    Attributes:
        free: natural logarithms of the curve's numbers, leaves of the pytree, so that
            learning cannot take a number to 0 or below.
        curve: from a floating step and the values to the temperature.
        rule: the acceptance rule.
    """

    free: Any
    curve: Callable[..., jax.Array] = field(metadata={"static": True})
    rule: AcceptanceRule = field(default=metropolis, metadata={"static": True})

    @property
    def values(self) -> dict[str, jax.Array]:
        """The curve's numbers, by the names of its arguments."""
        return {name: jnp.exp(x) for name, x in self.free.items()}

    def temperature(self, step: Any, stagnation: Any = 0) -> jax.Array:
        """Return the temperature; stagnation is not looked at.

        Args:
            step: steps taken so far, from 0, any shape.
            stagnation: steps since the last improvement.

        Returns:
            Temperatures of step's shape.

        Differentiable: jvp, vjp and vmap, in ``free`` and in a floating step.
        """
        del stagnation
        return self.curve(as_steps(step, self.free), **self.values)

    def acceptance(self, delta: Any, temperature: Any) -> jax.Array:
        """Return the rule's probability for a change of energy by delta.

        Args:
            delta: energy after the move minus before, any shape.
            temperature: above 0; broadcasts with delta.

        Returns:
            Probabilities in [0, 1].
        """
        return self.rule(delta, temperature)


def as_steps(step: Any, like: Any) -> jax.Array:
    """Return a step as a floating array of the precision of a tree's leaves."""
    return jnp.asarray(step, dtype=jnp.result_type(*jax.tree.leaves(like)))


def exponential(
    initial: Any, rate: Any, *, rule: AcceptanceRule = metropolis
) -> FixedSchedule:
    r"""Cool by a constant factor: $T(t) = T_0 e^{-\alpha t}$.

        >>> f"{anneal.exponential(2.0, 0.01).temperature(0):.4f}"
        '2.0000'

    Args:
        initial: temperature at step 0, above 0.
        rate: above 0, per step.
        rule: the acceptance rule.

    Returns:
        A schedule, a pytree of two scalars.

    Raises:
        ValueError: for an argument that is not above 0.
    """
    return FixedSchedule(_logs(initial=initial, rate=rate), _exponential, rule)


def linear(
    initial: Any, final: Any, steps: Any, *, rule: AcceptanceRule = metropolis
) -> FixedSchedule:
    r"""Cool along a line: $T(t) = T_0 - (T_0 - T_f) \min(t / N, 1)$.

    Args:
        initial: temperature at step 0, above 0.
        final: temperature from step N on, above 0.
        steps: N, above 0.
        rule: the acceptance rule.

    Returns:
        A schedule, a pytree of three scalars.

    Raises:
        ValueError: for an argument that is not above 0.
    """
    return FixedSchedule(
        _logs(initial=initial, final=final, steps=steps), _linear, rule
    )


def logarithmic(scale: Any, *, rule: AcceptanceRule = metropolis) -> FixedSchedule:
    r"""Cool as slowly as convergence proofs ask: $T(t) = c / \ln(t + 2)$.

    Args:
        scale: c, above 0.
        rule: the acceptance rule.

    Returns:
        A schedule, a pytree of one scalar.

    Raises:
        ValueError: for a scale that is not above 0.
    """
    return FixedSchedule(_logs(scale=scale), _logarithmic, rule)


def cosine(
    initial: Any, final: Any, steps: Any, *, rule: AcceptanceRule = metropolis
) -> FixedSchedule:
    r"""Cool along half a cosine: $T(t) = T_f + (T_0 - T_f)(1 + \cos \pi u) / 2$.

    $u = \min(t / N, 1)$, so that the temperature stays at $T_f$ after step N.

    Args:
        initial: temperature at step 0, above 0.
        final: temperature from step N on, above 0.
        steps: N, above 0.
        rule: the acceptance rule.

    Returns:
        A schedule, a pytree of three scalars.

    Raises:
        ValueError: for an argument that is not above 0.

    Source: Simplex's ``cosine``; deviation: it rises again after N.
    """
    return FixedSchedule(
        _logs(initial=initial, final=final, steps=steps), _cosine, rule
    )


def _logs(**values: Any) -> dict[str, jax.Array]:
    return {name: jnp.log(positive(name, x)) for name, x in values.items()}


def _exponential(step: jax.Array, initial: Any, rate: Any) -> jax.Array:
    return initial * jnp.exp(-rate * step)


def _linear(step: jax.Array, initial: Any, final: Any, steps: Any) -> jax.Array:
    return initial - (initial - final) * jnp.minimum(step / steps, 1)


def _logarithmic(step: jax.Array, scale: Any) -> jax.Array:
    return scale / jnp.log(step + 2)


def _cosine(step: jax.Array, initial: Any, final: Any, steps: Any) -> jax.Array:
    swing = 1 + jnp.cos(jnp.pi * jnp.minimum(step / steps, 1))
    return final + (initial - final) * swing / 2


CURVES = {
    "exponential": _exponential,
    "linear": _linear,
    "logarithmic": _logarithmic,
    "cosine": _cosine,
}
