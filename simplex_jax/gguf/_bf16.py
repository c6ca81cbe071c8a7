"""Bfloat16, which NumPy lacks, as uint16."""

import numpy as np


def round_to_bf16(x: np.ndarray) -> np.ndarray:
    """Round to bfloat16, ties to even; a NaN stays one, quiet.

    Args:
        x: float32.

    Returns:
        uint16 of the same shape, little endian.
    """
    bits = x.view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    quiet = (bits >> 16) | 64
    return np.where(np.isnan(x), quiet, rounded).astype("<u2")


def widen_bf16(brain: np.ndarray) -> np.ndarray:
    """Widen bfloat16 to float32, exactly.

    Args:
        brain: uint16.

    Returns:
        float32 of the same shape.
    """
    return (brain.astype(np.uint32) << 16).view(np.float32)
