"""Columns of numbers, checked once for every measure."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from .._checks import refuse_where

Vector: TypeAlias = Sequence | np.ndarray
"""One number or label an answer."""


def numbers(name: str, values: Vector) -> np.ndarray:
    """Return a column as float64.

    Args:
        name: of the argument, for the message.
        values: numbers or booleans.

    Returns:
        The column, 1-D, at least one entry, all finite.

    Raises:
        ValueError: it is anything else.
    """
    try:
        column = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is no column of numbers: {error}") from error
    if column.ndim != 1 or not column.size:
        raise ValueError(
            f"{name} has shape {column.shape}; give one number an answer, at least one"
        )
    fix = "leave out what has no finite value"
    refuse_where(~np.isfinite(column), name, column, fix)
    return column


def shares(name: str, values: Vector) -> np.ndarray:
    """Return a column of numbers from 0 to 1; see ``numbers``.

    Args:
        name: of the argument, for the message.
        values: numbers.

    Returns:
        The column as float64.

    Raises:
        ValueError: it is anything else.
    """
    column = numbers(name, values)
    outside = (column < 0) | (column > 1)
    refuse_where(outside, name, column, "give a number from 0 to 1")
    return column


def truths(name: str, values: Vector) -> np.ndarray:
    """Return a column of zeros and ones; see ``numbers``.

    Args:
        name: of the argument, for the message.
        values: booleans, or 0 and 1.

    Returns:
        The column as float64.

    Raises:
        ValueError: it is anything else.
    """
    column = numbers(name, values)
    other = (column != 0) & (column != 1)
    refuse_where(other, name, column, "give True or False")
    return column


def same_length(**columns: np.ndarray) -> None:
    """Check that columns describe the same answers.

    Args:
        **columns: by the names of the arguments.

    Raises:
        ValueError: their lengths differ.
    """
    if len({len(column) for column in columns.values()}) > 1:
        lengths = ", ".join(f"{name} has {len(c)}" for name, c in columns.items())
        raise ValueError(f"{lengths} entries; give one entry of each an answer")
