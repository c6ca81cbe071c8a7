"""Sparsity and bit width of the weights, from where they start to where they end."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import above, positive, within
from ._run import done, ramp, share, stretched

# A quantizer with fewer has no value between its ends.
_LEAST_BITS = 2.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LearnableSparsity:
    r"""Share of the weights that are 0, in two learnable numbers.

    $$s(t) = s_0 + (s_1 - s_0) \frac{1 - e^{-r t / N}}{1 - e^{-r}}$$

    with t the step of N: the end is reached at N whatever r is, which says how much of
    the way is made early.

        >>> sparse = schedules.LearnableSparsity.default(steps=100)
        >>> f"{sparse(50):.3f} {sparse(100):.3f}"
        '0.311 0.500'

    Attributes:
        free: the logit of the end and the logarithm of r, leaves of the pytree.
        steps: N, of the run, a plain number; not learned.
        initial_sparsity: s_0, a plain number; not learned.

    Differentiable: jvp, vjp and vmap, in ``free`` and in floating steps before N.
    Source: Simplex's PruningSchedule; deviations: with its rate of 1e-4 a step, 1,000
    steps reach 4.8 of 50 %; weights of importances are not a schedule's and left out.
    """

    free: Any
    steps: float = field(metadata={"static": True})
    initial_sparsity: float = field(metadata={"static": True})

    @classmethod
    def default(cls, *, steps: float | int = 1000) -> "LearnableSparsity":
        """Make a schedule that ends at a half, as Simplex's.

        Args:
            steps: of the run, above 0.

        Returns:
            A schedule from 0 to 0.5 with rate 1.

        Raises:
            ValueError: as ``from_params``.
        """
        return cls.from_params(steps=steps)

    @classmethod
    def from_params(
        cls,
        final_sparsity: Any = 0.5,
        rate: Any = 1.0,
        *,
        steps: float | int = 1000,
        initial_sparsity: float = 0.0,
    ) -> "LearnableSparsity":
        """Make a schedule from its numbers.

        Args:
            final_sparsity: s_1, within (0, 1).
            rate: r, above 0.
            steps: N, of the run, above 0.
            initial_sparsity: s_0, at least 0, below 1.

        Returns:
            A schedule.

        Raises:
            ValueError: for a number outside its range.
        """
        within("initial_sparsity", initial_sparsity, "[0, 1)")
        free = {
            "final_sparsity": share("final_sparsity", final_sparsity),
            "rate": jnp.log(positive("rate", rate)),
        }
        return cls(free, float(positive("steps", steps)), initial_sparsity)

    @property
    def params(self) -> dict[str, jax.Array]:
        """The numbers, by the names of ``from_params``."""
        final = jax.nn.sigmoid(self.free["final_sparsity"])
        return {"final_sparsity": final, "rate": jnp.exp(self.free["rate"])}

    def __call__(self, step: Any) -> jax.Array:
        """Return the sparsity at a step, as the class says.

        Args:
            step: updates made so far, from 0, any shape; from N on it stays.

        Returns:
            Shares of step's shape, within [0, 1).
        """
        p, start = self.params, self.initial_sparsity
        way = p["final_sparsity"] - start
        return start + way * ramp(p["rate"], done(step, self))

    def scaled(self, *, steps: float | int) -> "LearnableSparsity":
        """Return the same curve for a run of another length.

        Args:
            steps: of that run, above 0.

        Returns:
            A schedule.

        Raises:
            ValueError: for a number that is not above 0.
        """
        return stretched(self, steps)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LearnableBits:
    r"""Width of the weights in bits, in two learnable numbers.

    $$b(t) = b_0 - (b_0 - b_1) \frac{1 - e^{-r t / N}}{1 - e^{-r}}$$

    with t the step of N. Widths between integers are for a quantizer whose number of
    levels $2^b - 1$ need not be whole; what is exported has to be rounded.

        >>> width = schedules.LearnableBits.default(steps=100)
        >>> f"{width(0):.1f} {width(100):.1f}"
        '16.0 4.0'

    Attributes:
        free: the logit of $(b_1 - 2) / (b_0 - 2)$ and the logarithm of r, leaves of the
            pytree.
        steps: N, of the run, a plain number; not learned.
        initial_bits: b_0, a plain number; not learned.

    Differentiable: jvp, vjp and vmap, in ``free`` and in floating steps before N.
    Source: Simplex's QuantizationSchedule; deviations: with its rate of 1e-4 a step,
    1,000 steps go from 16 to 14.9 of 4 bits; noise, slopes and clipping are the
    quantizer's and left out.
    """

    free: Any
    steps: float = field(metadata={"static": True})
    initial_bits: float = field(metadata={"static": True})

    @classmethod
    def default(cls, *, steps: float | int = 1000) -> "LearnableBits":
        """Make a schedule from 16 to 4 bits, as Simplex's.

        Args:
            steps: of the run, above 0.

        Returns:
            A schedule with rate 1.

        Raises:
            ValueError: as ``from_params``.
        """
        return cls.from_params(steps=steps)

    @classmethod
    def from_params(
        cls,
        final_bits: Any = 4.0,
        rate: Any = 1.0,
        *,
        steps: float | int = 1000,
        initial_bits: float = 16.0,
    ) -> "LearnableBits":
        """Make a schedule from its numbers.

        Args:
            final_bits: b_1, above 2, below ``initial_bits``.
            rate: r, above 0.
            steps: N, of the run, above 0.
            initial_bits: b_0, above 2.

        Returns:
            A schedule.

        Raises:
            ValueError: for a number outside its range.
        """
        above("initial_bits", initial_bits, _LEAST_BITS)
        way = initial_bits - _LEAST_BITS
        try:
            final = share("final_bits", (final_bits - _LEAST_BITS) / way)
        except ValueError as error:
            raise ValueError(
                f"final_bits is {final_bits}; give a number in "
                f"({_LEAST_BITS}, {initial_bits}), below initial_bits"
            ) from error
        free = {"final_bits": final, "rate": jnp.log(positive("rate", rate))}
        return cls(free, float(positive("steps", steps)), initial_bits)

    @property
    def params(self) -> dict[str, jax.Array]:
        """The numbers, by the names of ``from_params``."""
        final = jax.nn.sigmoid(self.free["final_bits"])
        return {
            "final_bits": _LEAST_BITS + (self.initial_bits - _LEAST_BITS) * final,
            "rate": jnp.exp(self.free["rate"]),
        }

    def __call__(self, step: Any) -> jax.Array:
        """Return the width at a step, as the class says.

        Args:
            step: updates made so far, from 0, any shape; from N on it stays.

        Returns:
            Bits of step's shape, above 2.
        """
        p, start = self.params, self.initial_bits
        return start - (start - p["final_bits"]) * ramp(p["rate"], done(step, self))

    def scaled(self, *, steps: float | int) -> "LearnableBits":
        """Return the same curve for a run of another length.

        Args:
            steps: of that run, above 0.

        Returns:
            A schedule.

        Raises:
            ValueError: for a number that is not above 0.
        """
        return stretched(self, steps)
