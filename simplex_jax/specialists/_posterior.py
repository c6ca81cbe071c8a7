"""Bayes' rule over a finite set of truths, in whole numbers.

Priors and channels are whole-number weights over a common denominator, so a
posterior is a ratio of integers: no rounding, and no tie that floating point
would hide.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

# Only prompts whose best answer lies in here are kept. Whether a prompt is kept
# depends on the prompt alone, so it leaves p(truth | prompt), and with it the
# calibration, as it is. Above one half the best answer has no equal; below
# 0.995 two decimals never claim certainty.
LEAST = Fraction(55, 100)
MOST = Fraction(995, 1000)


@dataclass(frozen=True)
class Solution:
    """The best answer to a prompt.

    Attributes:
        answer: the most probable truth, in its canonical text.
        posterior: its probability given the prompt, exact.
    """

    answer: str
    posterior: Fraction

    @property
    def confidence(self) -> str:
        """The posterior with two decimals, as responses state it."""
        hundredths = round(self.posterior * 100)
        return f"{hundredths // 100}.{hundredths % 100:02d}"

    @property
    def kept(self) -> bool:
        """Whether a generator keeps the prompt."""
        return LEAST <= self.posterior < MOST


def solve(weights: Mapping[str, int]) -> Solution:
    """Return the most probable truth and its exact posterior.

    Args:
        weights: prior times likelihood of each truth, times any constant. Of
            equal weights the first wins.

    Returns:
        The solution.

    Raises:
        ValueError: every weight is zero, so no truth explains the prompt.
    """
    total = sum(weights.values())
    if total <= 0:
        raise ValueError("no truth explains the prompt; it was not drawn from here")
    answer = max(weights, key=lambda truth: weights[truth])
    return Solution(answer, Fraction(weights[answer], total))
