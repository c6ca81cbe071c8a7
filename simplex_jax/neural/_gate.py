"""A threshold that trains soft and runs hard."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from .._checks import positive_or_nan
from ._mode import Mode
from ._straight_through import straight_through


def threshold_gate(
    x: Float[ArrayLike, "..."],
    threshold: Float[ArrayLike, "..."],
    temperature: Float[ArrayLike, "..."],
    mode: Mode = Mode.SOFT,
) -> Float[Array, "..."]:
    r"""Return whether x reaches a threshold, softly or not.

    SOFT: $\sigma((x - \theta) / T)$. HARD: 1 where $x \ge \theta$, else 0.
    STRAIGHT_THROUGH: HARD's value, SOFT's derivative.

    Args:
        x: any value.
        threshold: $\theta$; broadcasts with x from the last axis.
        temperature: T > 0, of x's unit; broadcasts as the threshold does.
        mode: see ``Mode``.

    Returns:
        In [0, 1], of the common shape.

    Raises:
        ValueError: for a concrete temperature that is not positive; a traced one gives
            NaN.

    Differentiable: jvp, vjp and vmap by x, threshold and temperature; 0 in HARD.
    Source: Simplex's ``DualGate``; deviation: one seed an argument, where the original
    seeds x and the threshold alike and their tangents cancel.
    """
    x = jnp.asarray(x)
    theta = _spread(jnp.asarray(threshold), x)
    soft = jax.nn.sigmoid(
        (x - theta) / _spread(positive_or_nan("temperature", temperature), x)
    )
    if mode is Mode.SOFT:
        return soft
    hard = jnp.where(jnp.isnan(soft), soft, (x >= theta).astype(soft.dtype))
    if mode is Mode.HARD:
        return jax.lax.stop_gradient(hard)
    return straight_through(hard, soft)


class DualGate(nnx.Module):
    r"""A gate with a learnable threshold and temperature: $\sigma((x - \theta) / T)$.

        >>> gate = neural.DualGate(threshold=0.5, temperature=0.5)
        >>> print(f"{gate(jnp.float32(0.7)):.5f}")
        0.59869

    The temperature is learned by its logarithm, so it stays positive.

    Args:
        threshold: $\theta$; a number, or an array for one gate a feature.
        temperature: T > 0; a number, or an array that broadcasts with the threshold.

    Raises:
        ValueError: for a temperature that is not positive.
    """

    def __init__(
        self,
        threshold: Float[ArrayLike, "..."] = 0.5,
        temperature: Float[ArrayLike, "..."] = 1.0,
    ):
        """Make both parameters."""
        self.threshold = nnx.Param(jnp.asarray(threshold))
        self.log_temperature = nnx.Param(
            jnp.log(positive_or_nan("temperature", temperature))
        )

    @property
    def temperature(self) -> Float[Array, "..."]:
        """The temperature that has been learned so far."""
        return jnp.exp(self.log_temperature[...])

    def __call__(
        self,
        x: Float[ArrayLike, "..."],
        *,
        mode: Mode = Mode.SOFT,
        temperature: Float[ArrayLike, "..."] | None = None,
    ) -> Float[Array, "..."]:
        """Return ``threshold_gate`` of x.

        Args:
            x: any value; the parameters broadcast with it from the last axis.
            mode: see ``Mode``.
            temperature: instead of the learned one, as from a schedule; may be traced.

        Returns:
            In [0, 1], of the common shape.

        Differentiable: as ``threshold_gate``, by both parameters too.
        """
        if temperature is None:
            temperature = self.temperature
        return threshold_gate(x, self.threshold[...], temperature, mode)


def _spread(x: Float[Array, "..."], like: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return x with as many axes as ``like``, new ones in front."""
    return x.reshape((1,) * (like.ndim - x.ndim) + x.shape) if x.ndim else x
