"""A temperature that rises where what is believed is in doubt."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._checks import at_least, finite, positive, within
from ._acceptance import AcceptanceRule, metropolis
from ._monitors import Monitors
from ._schedules import as_steps
from ._smooth_floor import smooth_floor

_SLOWEST, _FASTEST = 0.9999, 0.9
_MOST_REHEAT = 2.0


class Dissent(NamedTuple):
    r"""Heat that comes at regular times, so that what is settled is tried again.

    From every step that ``period`` divides, heat is on for ``window`` steps, rising and
    falling along lines of ``ramp_up`` and ``ramp_down`` steps within the window.

    Attributes:
        period: steps from one start to the next; 0: no dissent.
        window: steps that a phase lasts.
        heat: at its height, in units of temperature.
        ramp_up: steps.
        ramp_down: steps.
    """

    period: int = 1000
    window: int = 100
    heat: float = 0.5
    ramp_up: int = 10
    ramp_down: int = 10

    def strength(self, step: Any) -> jax.Array:
        """Return the share of the heat that is on.

        Args:
            step: steps taken so far, from 0, any shape.

        Returns:
            Shares in [0, 1] of step's shape.
        """
        step = jnp.asarray(step, jnp.result_type(float))
        if not self.period:
            return jnp.zeros_like(step)
        at = step % self.period
        up = (at + 1) / max(1, self.ramp_up)
        down = (self.window - at) / max(1, self.ramp_down)
        return jnp.clip(jnp.minimum(up, down), 0, 1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class EpistemicSchedule:
    r"""Cool step by step, and heat by what the monitors of beliefs report.

    $$T = \operatorname{floor}\big(\operatorname{cap}(T_0 c^t + \lambda s
    + r (1 - \text{agreement}) + 2 (\text{velocity} - 0.1)_+
    + 3 r (0.8 - \text{accuracy})_+ + \lambda (\text{staleness} - 100)_+
    + h\, d(t)),\; T_{min}\big)$$

    with t the step, s the steps since the last improvement and d the share of
    ``Dissent`` that is on. $\operatorname{floor}$ is that of ``LearnableSchedule`` and
    $\operatorname{cap}(x) = x / (1 + (x / T_{max})^8)^{1/8}$, below $T_{max}$ and
    within 0.1 % of x up to half of it.

        >>> schedule = anneal.EpistemicSchedule.default()
        >>> doubted = anneal.Monitors()._replace(source_agreement=0.2)
        >>> bool(schedule.temperature(500, 0, doubted) > schedule.temperature(500, 0))
        True

    Attributes:
        free: T0, c, r, $\lambda$, h and the floor without constraints, leaves of the
            pytree: logarithms, and logits within the range for c and r.
        max_temp: $T_{max}$, a plain number; not learned.
        dissent: when heat comes whatever is reported; not learned.
        rule: the acceptance rule.

    Differentiable: jvp, vjp and vmap, in ``free`` and in the monitors, with kinks where
    a monitor leaves its healthy range. Source: Simplex's epistemic schedule, with the
    rate of staleness of its code; deviations: clamps there have no slope, and its
    final temperature, which nothing reads, is left out.
    """

    free: Any
    max_temp: float = field(default=10.0, metadata={"static": True})
    dissent: Dissent = field(default=Dissent(period=0), metadata={"static": True})
    rule: AcceptanceRule = field(default=metropolis, metadata={"static": True})

    @classmethod
    def default(cls, *, dissent: Dissent | None = None) -> "EpistemicSchedule":
        """Make the schedule of Simplex's defaults.

        Args:
            dissent: heat at regular times; None: none.

        Returns:
            A schedule with T0 1, cooling by 0.99 a step, reheat 0.5, floor 0.001.
        """
        return cls.from_params(dissent=dissent)

    @classmethod
    def from_params(
        cls,
        initial_temp: Any = 1.0,
        cooling: Any = 0.99,
        reheat: Any = 0.5,
        staleness_rate: Any = 0.005,
        min_temp: Any = 1e-3,
        *,
        max_temp: float = 10.0,
        dissent: Dissent | None = None,
        rule: AcceptanceRule = metropolis,
    ) -> "EpistemicSchedule":
        """Make a schedule from its numbers.

        Args:
            initial_temp: T0, above 0.
            cooling: c, within (0.9, 0.9999), a step.
            reheat: r, within (0, 2), in units of temperature.
            staleness_rate: lambda, above 0, in units of temperature a step.
            min_temp: the floor, above 0.
            max_temp: what no sum of heats exceeds, above 0.
            dissent: heat at regular times; None: none.
            rule: the acceptance rule.

        Returns:
            A schedule.

        Raises:
            ValueError: for a number outside its range.
        """
        positive("max_temp", max_temp)
        dissent = Dissent(period=0) if dissent is None else dissent
        for name in ("period", "window", "ramp_up", "ramp_down"):
            at_least(f"dissent.{name}", getattr(dissent, name), 0)
        above_zero = {
            "initial_temp": initial_temp,
            "staleness_rate": staleness_rate,
            "min_temp": min_temp,
            "heat": dissent.heat,
        }
        free = {name: jnp.log(positive(name, x)) for name, x in above_zero.items()}
        free["cooling"] = _logit_within("cooling", cooling, _FASTEST, _SLOWEST)
        free["reheat"] = _logit_within("reheat", reheat, 0.0, _MOST_REHEAT)
        return cls(free, float(max_temp), dissent, rule)

    @property
    def params(self) -> dict[str, jax.Array]:
        """The numbers, by the names of ``from_params``, and dissent's heat."""
        free = self.free
        values = {
            name: jnp.exp(free[name])
            for name in ("initial_temp", "staleness_rate", "min_temp", "heat")
        }
        span = _SLOWEST - _FASTEST
        values["cooling"] = _FASTEST + span * jax.nn.sigmoid(free["cooling"])
        values["reheat"] = _MOST_REHEAT * jax.nn.sigmoid(free["reheat"])
        return values

    def temperature(
        self, step: Any, stagnation: Any, monitors: Monitors | None = None
    ) -> jax.Array:
        """Return the temperature, as the class says.

        Args:
            step: steps taken so far, from 0, any shape.
            stagnation: steps since the last improvement, 0 or more, of step's shape.
            monitors: what is known of the beliefs; None: nothing is in doubt.

        Returns:
            Temperatures of step's shape, at least ``min_temp``.
        """
        p = self.params
        step, stagnation = as_steps(step, self.free), as_steps(stagnation, self.free)
        heat = p["initial_temp"] * p["cooling"] ** step
        heat += p["staleness_rate"] * stagnation
        heat += p["heat"] * self.dissent.strength(step).astype(heat.dtype)
        if monitors is not None:
            heat += p["reheat"] * (1 - monitors.source_agreement)
            heat += 2 * jax.nn.relu(monitors.confidence_velocity - 0.1)
            heat += 3 * p["reheat"] * jax.nn.relu(0.8 - monitors.predictive_accuracy)
            stale = jax.nn.relu(monitors.evidence_staleness - 100.0)
            heat += p["staleness_rate"] * stale
        capped = heat / (1 + (heat / self.max_temp) ** 8) ** 0.125
        return smooth_floor(capped, p["min_temp"])

    def acceptance(self, delta: Any, temperature: Any) -> jax.Array:
        """Return the rule's probability for a change of energy by delta.

        Args:
            delta: energy after the move minus before, any shape.
            temperature: above 0; broadcasts with delta.

        Returns:
            Probabilities in [0, 1].
        """
        return self.rule(delta, temperature)


def _logit_within(name: str, x: Any, low: float, high: float) -> jax.Array:
    x = within(name, finite(name, x), f"({low}, {high})")
    return jnp.log(x - low) - jnp.log(high - x)
