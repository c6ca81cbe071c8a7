"""How a gate is run."""

import enum


class Mode(enum.Enum):
    """How a gate is run: an argument of the call, static under ``jit``.

    Attributes:
        SOFT: smooth value, its derivative. To train.
        HARD: the discrete value; no derivative by the decision. To run.
        STRAIGHT_THROUGH: the discrete value with the smooth one's derivative.
    """

    SOFT = "soft"
    HARD = "hard"
    STRAIGHT_THROUGH = "straight_through"
