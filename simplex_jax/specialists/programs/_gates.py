"""Programs of logic gates: written, read and run.

A program is a variable or ``gate(program, ...)``, for instance
``and(p, not(q))``.
"""

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

GATES: dict[str, Callable[..., bool]] = {
    "not": lambda x: not x,
    "and": lambda x, y: x and y,
    "or": lambda x, y: x or y,
    "xor": lambda x, y: x != y,
    "iff": lambda x, y: x == y,
    "nand": lambda x, y: not (x and y),
    "nor": lambda x, y: not (x or y),
    "implies": lambda x, y: not x or y,
}

_TOKEN = re.compile(r"\s*([a-z]+|[(),])")
# Deeper programs are refused before Python's own limit is near.
_DEEPEST = 50


@dataclass(frozen=True)
class Program:
    """A gate and its inputs, or a variable, which has none.

    Attributes:
        name: of the gate or the variable.
        inputs: the programs that feed the gate.
    """

    name: str
    inputs: tuple["Program", ...] = ()

    def __str__(self) -> str:
        if not self.inputs:
            return self.name
        return f"{self.name}({', '.join(map(str, self.inputs))})"

    def run(self, values: Mapping[str, bool]) -> bool:
        """Return the output for the given values of the variables."""
        if not self.inputs:
            return values[self.name]
        return GATES[self.name](*(program.run(values) for program in self.inputs))


def parse(text: str, variables: tuple[str, ...]) -> tuple[Program, str]:
    """Read the program that a text starts with.

    Args:
        text: such as ``xor(a, b) (0.93)``.
        variables: the names that may occur.

    Returns:
        The program, and the text behind it.

    Raises:
        ValueError: the text starts with no program; the message says why.
    """
    program, end = _parse(text, 0, variables, _DEEPEST)
    return program, text[end:]


def table(program: Program, variables: tuple[str, ...]) -> tuple[bool, ...]:
    """Run a program on every combination of inputs.

    Args:
        program: over ``variables``.
        variables: the first one changes slowest.

    Returns:
        The outputs; for two variables those of 00, 01, 10 and 11.
    """
    rows = itertools.product((False, True), repeat=len(variables))
    return tuple(program.run(dict(zip(variables, row, strict=True))) for row in rows)


def _parse(
    text: str, start: int, variables: tuple[str, ...], deepest: int
) -> tuple[Program, int]:
    if deepest == 0:
        raise ValueError(f"the program is nested more than {_DEEPEST} deep")
    name, end = _token(text, start)
    if name in variables:
        return Program(name), end
    if name not in GATES:
        raise ValueError(
            f"{name!r} is neither a gate ({', '.join(GATES)}) nor one of the inputs "
            f"{', '.join(variables)}"
        )
    inputs: list[Program] = []
    mark, end = _token(text, end)
    if mark != "(":
        raise ValueError(f"gate {name!r} is followed by {mark!r}; write its inputs")
    while mark != ")":
        program, end = _parse(text, end, variables, deepest - 1)
        inputs.append(program)
        mark, end = _token(text, end)
        if mark not in (",", ")"):
            raise ValueError(f"{mark!r} stands where ',' or ')' is expected")
    wanted = 1 if name == "not" else 2
    if len(inputs) != wanted:
        raise ValueError(f"gate {name!r} has {len(inputs)} inputs; it takes {wanted}")
    return Program(name, tuple(inputs)), end


def _token(text: str, start: int) -> tuple[str, int]:
    match = _TOKEN.match(text, start)
    if not match:
        raise ValueError(f"no name or bracket at character {start}")
    return match[1], match.end()
