"""Temperatures that follow the loss's gradient and reheat where it stands still."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from .._checks import positive_or_nan


class ControllerState(NamedTuple):
    """Temperatures and what the controller remembers.

    Attributes:
        temperature: one a gate, > 0.
        loss: of the last step; infinite before the first.
        still: steps in a row in which the loss stood still.
    """

    temperature: Float[Array, "*gates"]
    loss: Float[Array, ""]
    still: Int[Array, ""]


@dataclass(frozen=True)
class TemperatureController:
    r"""Let gates' temperatures descend: $T \leftarrow \max(T - \eta\, dL/dT, T_{min})$.

    Where the loss changed by less than ``still_change`` in more than ``still_steps``
    steps in a row, all temperatures that are not frozen are multiplied by ``reheat``
    and the count starts again. A temperature below ``freeze_below`` is frozen: its gate
    is as good as discrete.

    Args:
        learning_rate: $\eta$.
        floor: $T_{min}$.
        still_change: in the loss's unit.
        still_steps: how many.
        reheat: factor, above 1.
        freeze_below: where ``frozen`` begins.

    Source: Simplex, gate-temperature meta-learning; deviation: a frozen gate stays so.
    """

    learning_rate: float = 0.01
    floor: float = 0.01
    still_change: float = 1e-4
    still_steps: int = 50
    reheat: float = 1.5
    freeze_below: float = 0.05

    def init(self, temperature: Float[ArrayLike, "*gates"]) -> ControllerState:
        """Return the state before the first step.

        Args:
            temperature: > 0, one a gate.

        Returns:
            A pytree, for ``jit`` and ``scan``.

        Raises:
            ValueError: for a temperature that is not positive.
        """
        temperature = positive_or_nan("temperature", temperature)
        return ControllerState(
            temperature,
            jnp.asarray(jnp.inf, temperature.dtype),
            jnp.asarray(0, jnp.int32),
        )

    def update(
        self,
        gradient: Float[Array, "*gates"],
        state: ControllerState,
        loss: Float[Array, ""],
    ) -> ControllerState:
        """Return the state after one step.

        Args:
            gradient: of the loss by the temperatures.
            state: before.
            loss: at this step.

        Returns:
            The next state. Differentiable by gradient and temperature, by jvp and vjp.
        """
        stands = jnp.abs(loss - state.loss) < self.still_change
        still = jnp.where(stands, state.still + 1, 0)
        stuck = still > self.still_steps
        moved = jnp.maximum(
            state.temperature - self.learning_rate * gradient, self.floor
        )
        moved = jnp.where(stuck, self.reheat * moved, moved)
        return ControllerState(
            jnp.where(self.frozen(state), state.temperature, moved),
            loss.astype(state.loss.dtype),
            jnp.where(stuck, 0, still),
        )

    def frozen(self, state: ControllerState) -> Bool[Array, "*gates"]:
        """Return which gates are as good as discrete.

        Args:
            state: of this controller.

        Returns:
            One bool a gate; where all are, a circuit can be extracted.
        """
        return state.temperature < self.freeze_below
