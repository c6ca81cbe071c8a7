"""The schedule of ten numbers that learns."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import finite, positive, within
from ._acceptance import AcceptanceRule, barker
from ._schedules import as_steps
from ._smooth_floor import smooth_floor

_LOWER_CLAMPS = {
    "initial_temp": 1e-3,
    "cool_rate": 1e-4,
    "reheat_threshold": 1.0,
    "accept_sharpness": 0.01,
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LearnableSchedule:
    r"""Cooling, oscillation, reheating and acceptance, in ten learnable numbers.

    $$T(t, s) = \operatorname{floor}\big(T_0 e^{-\alpha t}(1 + \beta \sin \omega t)
    + \gamma\, \sigma(v)\, e^{-\delta \max(s - \rho, 0)},\; T_{min}\big)$$

    with $v = 10 (s / \rho - 1)$, t the step and s the steps since the last improvement:
    heat comes when the chain is stuck for longer than $\rho$ and fades at the rate
    $\delta$. $\operatorname{floor}(x, m) = (x + m + \sqrt{(x - m)^2 + m^2}) / 2$ is at
    least both and its slope in x is never below 0.14. Acceptance is the rule of
    $\Delta E - \tau$ at $T \kappa$.

        >>> schedule = anneal.LearnableSchedule.default()
        >>> f"{schedule.temperature(0, 0):.3f}"
        '1.000'

    Attributes:
        free: the ten numbers without constraints, leaves of the pytree: logarithms of
            what is above 0, artanh of the amplitude, and the acceptance threshold.
        rule: the acceptance rule.
        legacy: whether temperature and clamps are Simplex's own, for parity.

    Differentiable: jvp, vjp and vmap, in ``free`` and in floating steps, where legacy
    has clamps without slope. Source: Simplex's LearnableSchedule; deviations: the
    reheat there heats what improves and blocks the cooling; floors there are clamps;
    gradients there are of no use in steps of one size for all ten numbers.
    """

    free: Any
    rule: AcceptanceRule = field(default=barker, metadata={"static": True})
    legacy: bool = field(default=False, metadata={"static": True})

    @classmethod
    def default(
        cls, *, rule: AcceptanceRule = barker, legacy: bool = False
    ) -> "LearnableSchedule":
        """Make the schedule of Simplex's defaults.

        Args:
            rule: the acceptance rule.
            legacy: whether temperature and clamps are Simplex's own.

        Returns:
            A schedule with T0 1, cooling 0.01, floor 0.001, reheat after 50 steps.
        """
        return cls.from_params(rule=rule, legacy=legacy)

    @classmethod
    def from_params(
        cls,
        initial_temp: Any = 1.0,
        cool_rate: Any = 0.01,
        min_temp: Any = 1e-3,
        reheat_threshold: Any = 50.0,
        reheat_intensity: Any = 0.5,
        reheat_decay: Any = 0.1,
        oscillation_amp: Any = 0.0,
        oscillation_freq: Any = 0.1,
        accept_threshold: Any = 0.0,
        accept_sharpness: Any = 1.0,
        *,
        rule: AcceptanceRule = barker,
        legacy: bool = False,
    ) -> "LearnableSchedule":
        """Make a schedule from the ten numbers.

        Args:
            initial_temp: T0, above 0, in units of energy.
            cool_rate: alpha, above 0, per step.
            min_temp: the floor, above 0.
            reheat_threshold: rho, above 0, in steps without improvement.
            reheat_intensity: gamma, above 0, in units of temperature.
            reheat_decay: delta, above 0, per step.
            oscillation_amp: beta, within (-1, 1).
            oscillation_freq: omega, above 0, in radians per step.
            accept_threshold: tau, in units of energy; other than 0 it breaks detailed
                balance.
            accept_sharpness: kappa, above 0.
            rule: the acceptance rule.
            legacy: whether temperature and clamps are Simplex's own.

        Returns:
            A schedule.

        Raises:
            ValueError: for a number outside its range.
        """
        amplitude = within(
            "oscillation_amp", finite("oscillation_amp", oscillation_amp), "(-1, 1)"
        )
        above_zero = {
            "initial_temp": initial_temp,
            "cool_rate": cool_rate,
            "min_temp": min_temp,
            "reheat_threshold": reheat_threshold,
            "reheat_intensity": reheat_intensity,
            "reheat_decay": reheat_decay,
            "oscillation_freq": oscillation_freq,
            "accept_sharpness": accept_sharpness,
        }
        free = {name: jnp.log(positive(name, x)) for name, x in above_zero.items()}
        free["oscillation_amp"] = jnp.arctanh(amplitude)
        free["accept_threshold"] = finite("accept_threshold", accept_threshold)
        return cls(free, rule, legacy)

    @property
    def params(self) -> dict[str, jax.Array]:
        """The ten numbers, by the names of ``from_params``."""
        values = {
            name: x
            if name == "accept_threshold"
            else (jnp.tanh if name == "oscillation_amp" else jnp.exp)(x)
            for name, x in self.free.items()
        }
        if self.legacy:
            for name, least in _LOWER_CLAMPS.items():
                values[name] = jnp.maximum(values[name], least)
        return values

    def temperature(self, step: Any, stagnation: Any) -> jax.Array:
        """Return the temperature, as the class says.

        Args:
            step: steps taken so far, from 0, any shape.
            stagnation: steps since the last improvement, 0 or more, of step's shape.

        Returns:
            Temperatures of step's shape, at least ``min_temp``.

        Differentiable: jvp, vjp and vmap; the slope of the fading at s = rho is that
        on its left.
        """
        p = self.params
        step, stagnation = as_steps(step, self.free), as_steps(stagnation, self.free)
        swing = 1 + p["oscillation_amp"] * jnp.sin(p["oscillation_freq"] * step)
        cooling = p["initial_temp"] * jnp.exp(-p["cool_rate"] * step) * swing
        late = stagnation - p["reheat_threshold"]
        if self.legacy:
            heat = jax.nn.sigmoid(late / 10) * jnp.exp(-p["reheat_decay"] * late)
            return jnp.maximum(cooling + p["reheat_intensity"] * heat, p["min_temp"])
        stuck = jax.nn.sigmoid(10 * late / p["reheat_threshold"])
        heat = stuck * jnp.exp(-p["reheat_decay"] * jax.nn.relu(late))
        return smooth_floor(cooling + p["reheat_intensity"] * heat, p["min_temp"])

    def acceptance(self, delta: Any, temperature: Any) -> jax.Array:
        r"""Return the rule's probability at $\Delta E - \tau$ and $T \kappa$.

        Args:
            delta: energy after the move minus before, any shape.
            temperature: above 0; broadcasts with delta.

        Returns:
            Probabilities in [0, 1], not increasing in delta.

        Differentiable: as the rule.
        """
        p = self.params
        return self.rule(
            delta - p["accept_threshold"], temperature * p["accept_sharpness"]
        )
