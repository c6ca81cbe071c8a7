"""Evolution strategies: one perturbation for a whole run."""

from typing import Any

from .._typing import PRNGKey
from ._pes import pes
from ._process import Estimate, Process


def es(
    process: Process,
    theta: Any,
    *,
    key: PRNGKey,
    steps: int,
    chains: int = 64,
    sigma: float = 0.1,
) -> Estimate:
    r"""Estimate the gradient of the smoothed loss from antithetic pairs.

    $$g = \frac{1}{2 n \sigma^2} \sum_i \epsilon_i (L(\theta + \epsilon_i; \text{key}_i)
    - L(\theta - \epsilon_i; \text{key}_i)), \quad \epsilon_i \sim N(0, \sigma^2)$$

    Args:
        process: the loop; its derivatives are not used.
        theta: a pytree of floating arrays of one dtype.
        key: a JAX key.
        steps: of the loop.
        chains: pairs of loops; both of a pair draw the same random numbers.
        sigma: standard deviation of the perturbations, above 0.

    Returns:
        The mean loss of the pairs and a gradient without bias for
        $E[L(\theta + \epsilon)]$.

    Raises:
        ValueError: for counts below 1, or sigma not above 0.
    """
    return pes(
        process,
        theta,
        key=key,
        steps=steps,
        chains=chains,
        window=steps,
        sigma=sigma,
    )
