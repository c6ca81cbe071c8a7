"""Bounds on what one rendering of an untrusted template may do."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from jinja2.utils import Namespace

# A unit is about a nanosecond: one character made, or a share of one step.
BASE_UNITS = 1 << 24
STEP_UNITS = 128
NODE_UNITS = 32
UNITS_PER_INPUT_CHARACTER = 64
_MAX_DEPTH = 64
_TOO_MUCH = "it does too much work or makes too much text"


class BudgetExceeded(Exception):
    """Say what a template did too much of."""


class Budget:
    """Count the work of one rendering.

    Args:
        units: How much may be spent.
    """

    def __init__(self, units: int) -> None:
        self._units = units

    def spend(self, units: int) -> None:
        """Spend units.

        Args:
            units: How many, not negative.

        Raises:
            BudgetExceeded: There are not enough left.
        """
        self._units -= units
        if self._units < 0:
            raise BudgetExceeded(_TOO_MUCH)

    def spend_value(self, value: Any, *, indent: int = 0) -> None:
        """Spend the size of a value as it would be written out.

        Args:
            value: Anything a template can hold.
            indent: Columns of indentation for each level.

        Raises:
            BudgetExceeded: The value is too large or nested too deep.
        """
        if isinstance(value, Namespace):
            return
        # Shared parts count once per place where they stand: a list that holds
        # itself twice, forty times over, is small in memory and huge in print.
        levels: list[Iterator[Any]] = [iter((value,))]
        while levels:
            for item in levels[-1]:
                units = NODE_UNITS + indent * (len(levels) - 1)
                if isinstance(item, str | bytes):
                    units += len(item)
                self._units -= units
                if self._units < 0:
                    raise BudgetExceeded(_TOO_MUCH)
                if isinstance(item, Mapping):
                    levels.append(chain.from_iterable(item.items()))
                elif isinstance(item, list | tuple | set | frozenset):
                    levels.append(iter(item))
                elif isinstance(item, Namespace):
                    raise BudgetExceeded("it puts a namespace into a list or mapping")
                else:
                    continue
                break
            else:
                levels.pop()
            if len(levels) > _MAX_DEPTH:
                raise BudgetExceeded("it nests lists or mappings too deep")


CURRENT: contextvars.ContextVar[Budget] = contextvars.ContextVar("template_budget")


def input_characters(value: Any) -> int:
    """Count the characters of plain data, for the size of a budget.

    Args:
        value: Strings, numbers, lists and mappings.

    Returns:
        The count; one for each number.
    """
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(input_characters(k) + input_characters(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return sum(map(input_characters, value))
    return 1
