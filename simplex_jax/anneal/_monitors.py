"""What is known of the health of beliefs, and what follows from it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._checks import positive, within


class Monitors(NamedTuple):
    """Running means of what tells sound beliefs from doubtful ones; a pytree.

    The defaults are those of a start that nothing speaks against.

    Attributes:
        source_agreement: share of the sources that agree, in [0, 1].
        predictive_accuracy: share of the predictions that held, in [0, 1].
        confidence_velocity: change of confidence without evidence, a step, >= 0.
        exploration_ratio: share of the steps that explored, in [0, 1].
        evidence_staleness: steps since the last evidence, >= 0.
        evidence_coverage: share of the beliefs with evidence, in [0, 1].
        prediction_failure_rate: share of the recent predictions that failed, in [0, 1].
        calibration_error: expected calibration error, in [0, 1].
    """

    source_agreement: Any = 0.8
    predictive_accuracy: Any = 0.8
    confidence_velocity: Any = 0.0
    exploration_ratio: Any = 0.3
    evidence_staleness: Any = 0.0
    evidence_coverage: Any = 0.8
    prediction_failure_rate: Any = 0.1
    calibration_error: Any = 0.05

    def observe(self, rate: float = 0.1, **seen: Any) -> "Monitors":
        r"""Move the running means towards what was seen: $m + \alpha (x - m)$.

        Args:
            rate: alpha, within (0, 1].
            **seen: values by the names of the attributes; others stay.

        Returns:
            New monitors.

        Raises:
            ValueError: for a name that there is not, or a rate outside (0, 1].

        Differentiable: jvp, vjp and vmap.
        """
        within("rate", rate, "(0, 1]")
        unknown = sorted(seen.keys() - set(self._fields))
        if unknown:
            raise ValueError(
                f"there is no monitor {unknown[0]!r}; give {', '.join(self._fields)}"
            )
        means = {name: getattr(self, name) for name in seen}
        return self._replace(**{k: m + rate * (seen[k] - m) for k, m in means.items()})

    def health(self) -> jax.Array:
        r"""Return the weighted mean of what is well.

        Agreement 2, accuracy 3, $(1 - 10\,\text{velocity})_+$ 1,
        $(1 - 2\,|\text{exploration} - 0.3|)_+$ 1, $(1 - \text{staleness} / 200)_+$ 1,
        coverage 2, $(1 - 10\,\text{calibration error})_+$ 2, over 12.

        Returns:
            A number in [0, 1]; above 0.7 is healthy.

        Differentiable: jvp, vjp and vmap, with kinks where a part reaches 0 and at an
        exploration of 0.3.
        """
        relu = jax.nn.relu
        exploring = jnp.abs(jnp.asarray(self.exploration_ratio) - 0.3)
        total = (
            2 * self.source_agreement
            + 3 * self.predictive_accuracy
            + relu(1 - 10 * jnp.asarray(self.confidence_velocity))
            + relu(1 - 2 * exploring)
            + relu(1 - jnp.asarray(self.evidence_staleness) / 200)
            + 2 * self.evidence_coverage
            + 2 * relu(1 - 10 * jnp.asarray(self.calibration_error))
        )
        return jnp.asarray(total / 12)

    def healthy(self) -> jax.Array:
        """Return whether health is above 0.7 and nothing is critical.

        Critical: agreement below 0.4, accuracy below 0.5, velocity above 0.2, or a
        calibration error above 0.2.

        Returns:
            A boolean. Not differentiable.
        """
        critical = (
            (jnp.asarray(self.source_agreement) < 0.4)
            | (jnp.asarray(self.predictive_accuracy) < 0.5)
            | (jnp.asarray(self.confidence_velocity) > 0.2)
            | (jnp.asarray(self.calibration_error) > 0.2)
        )
        return (self.health() > 0.7) & ~critical

    def learning_rate(self, base: Any) -> jax.Array:
        """Return a learning rate that doubt slows down.

        base, times the agreement where that is below 0.7, times the accuracy where
        that is below 0.8, halved where the velocity is above 0.1; at least 1 % of base.

        Args:
            base: above 0.

        Returns:
            A rate in [0.01 base, base].

        Differentiable: jvp, vjp and vmap; it jumps at the three bounds, where the slope
        is that of the side on which the monitor is well.
        """
        agreement = jnp.asarray(self.source_agreement)
        accuracy = jnp.asarray(self.predictive_accuracy)
        share = jnp.where(agreement < 0.7, agreement, 1.0)
        share *= jnp.where(accuracy < 0.8, accuracy, 1.0)
        share *= jnp.where(jnp.asarray(self.confidence_velocity) > 0.1, 0.5, 1.0)
        return positive("base", base) * jnp.maximum(share, 0.01)
