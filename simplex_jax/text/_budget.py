"""Bounds on what one rendering of an untrusted template may do."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from typing import Any

from jinja2.utils import Namespace

# A unit is about a nanosecond: one character made, or a share of one step.
BASE_UNITS = 1 << 24
STEP_UNITS = 128
NODE_UNITS = 16
UNITS_PER_INPUT_CHARACTER = 64
_MAX_DEPTH = 64


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
            raise BudgetExceeded("it does too much work or makes too much text")

    def spend_value(self, value: Any, *, indent: int = 0) -> None:
        """Spend the size of a value as it would be written out.

        Args:
            value: Anything a template can hold.
            indent: Columns of indentation for each level.

        Raises:
            BudgetExceeded: The value is too large or nested too deep.
        """
        if not isinstance(value, Namespace):
            self._spend_tree(value, 0, indent)

    def _spend_tree(self, value: Any, depth: int, indent: int) -> None:
        # Shared parts count once per place where they stand: a list that holds
        # itself twice, forty times over, is small in memory and huge in print.
        if isinstance(value, str | bytes):
            self.spend(NODE_UNITS + len(value))
            return
        self.spend(NODE_UNITS + indent * depth)
        if depth > _MAX_DEPTH:
            raise BudgetExceeded("it nests lists or mappings too deep")
        if isinstance(value, Mapping):
            for key, item in value.items():
                self._spend_tree(key, depth + 1, indent)
                self._spend_tree(item, depth + 1, indent)
        elif isinstance(value, list | tuple | set | frozenset):
            for item in value:
                self._spend_tree(item, depth + 1, indent)
        elif isinstance(value, Namespace):
            raise BudgetExceeded("it puts a namespace into a list or mapping")


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
