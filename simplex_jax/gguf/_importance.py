"""What an importance matrix says of single values."""

from collections.abc import Callable

import numpy as np

from ._arithmetic import ordered_sum
from ._layout import STEP_ELEMENTS, position_major
from ._types import GGMLType, block_size

# The multiple of the super-block's mean square that stands for sigma^2.
_SUPER_BLOCK = {
    GGMLType.Q2_K: 1,
    GGMLType.Q3_K: 2,
    GGMLType.Q4_K: 2,
    GGMLType.Q5_K: 2,
}


def check_importance(importance: np.ndarray, columns: int) -> np.ndarray:
    """Return importances that can be used.

    Args:
        importance: float (columns,), the mean square of each column's input.
        columns: values in a row.

    Returns:
        float32 (columns,).

    Raises:
        ValueError: another shape or dtype, or a value that is not finite in
            float32, or below 0.
    """
    if importance.dtype.kind != "f" or importance.shape != (columns,):
        raise ValueError(
            f"importance is {importance.dtype} of shape {importance.shape}; give one "
            f"float32 a column, shape ({columns},)"
        )
    with np.errstate(over="ignore", under="ignore"):
        single = importance.astype(np.float32)
    wrong = np.flatnonzero(~(np.isfinite(single) & (single >= 0)))
    if wrong.size:
        raise ValueError(
            f"importance[{wrong[0]}] is {importance[wrong[0]]!r}; importances are "
            "means of squares, finite and not below 0: collect them again"
        )
    return single


def value_weights(
    values: np.ndarray, importance: np.ndarray | None, type: GGMLType
) -> Callable[[slice], np.ndarray | None]:
    """Return how much the error of each value counts.

    With i the importance of x's column, w = i sqrt(sigma^2 + x^2). Blocks of
    32 take the mean square of the whole row for sigma^2, Q2_K that of the
    super-block, Q3_K, Q4_K and Q5_K twice that. In Q6_K, w = i.

    Args:
        values: float32 (rows, columns), contiguous.
        importance: float32 (columns,), or None.
        type: a quantized type.

    Returns:
        A function from a range of blocks to their weights, float32
        (B, elements), or to None where the quantizer weighs by itself.
    """
    if importance is None or type == GGMLType.Q8_0:
        return lambda step: None
    elements, _ = block_size(type)
    blocks = values.reshape(-1, elements)
    importances = importance.reshape(-1, elements)
    if type not in _SUPER_BLOCK:
        row_squares = np.repeat(_mean_squares(values), len(importances))

    def weights(step: slice) -> np.ndarray:
        x = blocks[step]
        i = importances[np.arange(step.start, step.start + len(x)) % len(importances)]
        if type == GGMLType.Q6_K:
            return i
        if type in _SUPER_BLOCK:
            sigma_squared = np.float32(_SUPER_BLOCK[type]) * _mean_squares(x)
        else:
            sigma_squared = row_squares[step]
        return i * np.sqrt(sigma_squared[:, None] + x * x)

    return weights


def _mean_squares(rows: np.ndarray) -> np.ndarray:
    """Return the mean of x^2 over each row (R, n), summed in order."""
    count, length = rows.shape
    means = np.empty(count, np.float32)
    rows_a_step = max(1, STEP_ELEMENTS // max(1, length))
    for start in range(0, count, rows_a_step):
        step = slice(start, start + rows_a_step)
        squares = position_major(rows[step] * rows[step], length)
        means[step] = ordered_sum(squares) / np.float32(length)
    return means
