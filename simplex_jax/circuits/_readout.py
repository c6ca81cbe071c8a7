"""What a circuit's outputs mean: bits, or votes for classes."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._checks import above, at_least


@runtime_checkable
class Readout(Protocol):
    """What ``learn_circuit`` asks of a read-out; hashable, as it is static."""

    def loss(self, out: Float[Array, "B O"], y: Any) -> Float[Array, "B"]:
        """Return each row's loss, differentiable by the outputs."""
        ...

    def right(self, out: Float[Array, "B O"], y: Any) -> Bool[Array, "B"]:
        """Return whether each row is answered right."""
        ...


@dataclass(frozen=True)
class Bits:
    """Each output is one answer, true from 1/2 on."""

    def loss(self, out: Float[Array, "B O"], y: Float[Array, "B O"]) -> Any:
        r"""Return the mean of $-y \log p - (1 - y) \log(1 - p)$ over the outputs.

        Args:
            out: probabilities p, held in [1e-3, 0.999]: an output that is sure and
                wrong must not outweigh all others.
            y: the answers, 0 or 1.

        Returns:
            (B,), nats. Differentiable: jvp, vjp and vmap; 0 where p is held.
        """
        p = jnp.clip(out, 1e-3, 1 - 1e-3)
        return -(y * jnp.log(p) + (1 - y) * jnp.log1p(-p)).mean(-1)

    def right(self, out: Float[Array, "B O"], y: Float[Array, "B O"]) -> Any:
        """Return whether all of a row's outputs are on the right side of 1/2."""
        return ((out > 0.5) == (y > 0.5)).all(-1)


@dataclass(frozen=True)
class GroupSum:
    r"""The outputs are groups of equal size, one a class; each true one is a vote.

    Logit c is the sum of group c over $\tau$.

    Attributes:
        classes: C; the first O / C outputs are the first class's.
        tau: $\tau$ > 0, in votes; the larger, the more gates a class employs.

    Raises:
        ValueError: for less than one class or a tau that is not positive; in use, for
            outputs that do not divide among the classes.
    """

    classes: int
    tau: float

    def __post_init__(self):
        """Check both numbers."""
        at_least("classes", self.classes)
        above("tau", self.tau, 0)

    def votes(self, out: Float[Array, "B O"]) -> Float[Array, "B C"]:
        """Return each class's sum.

        Args:
            out: probabilities.

        Returns:
            In [0, O / C]. Differentiable: jvp, vjp and vmap; it is linear.
        """
        if out.shape[-1] % self.classes:
            raise ValueError(
                f"out has {out.shape[-1]} outputs a row; give a multiple of the "
                f"{self.classes} classes"
            )
        return out.reshape(len(out), self.classes, -1).sum(-1)

    def loss(self, out: Float[Array, "B O"], y: Int[Array, "B"]) -> Any:
        r"""Return $-\log \mathrm{softmax}(votes / \tau)_y$, nats, a row."""
        log_prob = jax.nn.log_softmax(self.votes(out) / self.tau)
        return -jnp.take_along_axis(log_prob, y[:, None], -1)[:, 0]

    def right(self, out: Float[Array, "B O"], y: Int[Array, "B"]) -> Any:
        """Return whether y has the most votes; of equal classes the first wins."""
        return self.votes(out).argmax(-1) == y
