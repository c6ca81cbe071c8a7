"""Discrete circuits: simplified, read as formulas, run on words of bits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

# Truth tables as bits, the case (a, b) at place 2 a + b; all are false at (0, 0).
_RUN: dict[int, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    2: lambda a, b: ~a & b,
    4: lambda a, b: a & ~b,
    6: lambda a, b: a ^ b,
    8: lambda a, b: a & b,
    14: lambda a, b: a | b,
}
# Operators on words, in Python and in C.
_WORDS = {
    2: "~{a} & {b}",
    4: "{a} & ~{b}",
    6: "{a} ^ {b}",
    8: "{a} & {b}",
    14: "{a} | {b}",
}
_ENGLISH = {
    2: "(not {a} and {b})",
    4: "({a} and not {b})",
    6: "({a} xor {b})",
    8: "({a} and {b})",
    14: "({a} or {b})",
}
_FALSE, _TRUE = -1, -2
Gate = tuple[int, int, int]


@dataclass(frozen=True)
class Program:
    """A circuit of Boolean gates.

    Attributes:
        inputs: how many; they are the first signals.
        gates: (table, a, b) each, in order: the signals a and b, and bit 2 a + b of the
            table for the result, which is the next signal. Tables are 2, 4, 6, 8 and
        outputs: (signal, negated) each; the signals -1 and -2 are false and true.

    Raises:
        ValueError: for another table, or a gate or output that reads a signal which is
            not before it.
    """

    inputs: int
    gates: tuple[Gate, ...]
    outputs: tuple[tuple[int, bool], ...]

    def __post_init__(self):
        """Check tables and pins."""
        for signal, (table, a, b) in enumerate(self.gates, self.inputs):
            if table not in _RUN:
                raise ValueError(f"gates has the table {table}; give {list(_RUN)}")
            if not (0 <= a < signal and 0 <= b < signal):
                raise ValueError(
                    f"gates has {(table, a, b)} as signal {signal}; it can read "
                    f"signals 0 to {signal - 1}"
                )
        signals = self.inputs + len(self.gates)
        for signal, _ in self.outputs:
            if not _TRUE <= signal < signals:
                raise ValueError(
                    f"outputs has the signal {signal}; give one below {signals}, "
                    "-1 for false or -2 for true"
                )

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Run the program on many words at once, each bit a sample of its own.

        Args:
            x: unsigned words or bools, (inputs, ...): one array an input.

        Returns:
            An array like x, (outputs, ...).

        Raises:
            ValueError: for another number of inputs, or for a dtype that is no word.
        """
        if len(x) != self.inputs:
            raise ValueError(f"x has {len(x)} inputs; the program has {self.inputs}")
        if x.dtype != bool and not np.issubdtype(x.dtype, np.unsignedinteger):
            raise ValueError(f"x has dtype {x.dtype}; give bool or unsigned words")
        signals = list(x)
        for table, a, b in self.gates:
            signals.append(_RUN[table](signals[a], signals[b]))
        false = np.zeros_like(x[0])
        signals += [~false, false]
        return np.stack([~signals[s] if n else signals[s] for s, n in self.outputs])

    def formula(self) -> str:
        """Return the program for a person: one line an output, y0 to yn.

        Inputs are x0 to xn. A gate that is read more than once has a line and a name of
        its own, g0 to gn, before.

        Returns:
            Lines such as ``y0 = (x0 xor x1)``.
        """
        reads = [pin for _, a, b in self.gates for pin in (a, b)]
        reads += [signal for signal, _ in self.outputs]
        names = {i: f"x{i}" for i in range(self.inputs)}
        names |= {_FALSE: "false", _TRUE: "true"}
        lines = []
        for signal, (table, a, b) in enumerate(self.gates, self.inputs):
            names[signal] = _ENGLISH[table].format(a=names[a], b=names[b])
            if reads.count(signal) > 1:
                name = f"g{len(lines)}"
                lines.append(f"{name} = {names[signal]}")
                names[signal] = name
        for i, (signal, negated) in enumerate(self.outputs):
            lines.append(f"y{i} = {'not ' * negated}{names[signal]}")
        return "\n".join(lines)

    def to_python(self) -> str:
        """Return the source of ``circuit(x)`` in NumPy, for bool or unsigned words.

        Returns:
            A function from an array (inputs, ...) to one (outputs, ...); it needs
            NumPy as ``np``.
        """
        lines = [f"    g{i} = {text}" for i, text in self._words("x[{}]")]
        outputs = ", ".join(
            self._output(signal, negated, "x[{}]", "np.zeros_like(x[0])")
            for signal, negated in self.outputs
        )
        return "\n".join(
            ["def circuit(x):", *lines, f"    return np.stack([{outputs}])", ""]
        )

    def to_c(self, name: str = "circuit") -> str:
        """Return the source of a C99 function without branches on data.

        Args:
            name: of the function, a C identifier.

        Returns:
            ``void name(const uint64_t *x, uint64_t *y, size_t words)``: words 0 to
            inputs - 1 of x are one word of each input, and so on; y alike.

        Raises:
            ValueError: for a name that is no identifier.
        """
        if not (name.isascii() and name.isidentifier()):
            raise ValueError(f"name is {name!r}; give a C identifier")
        lines = [f"    const uint64_t g{i} = {t};" for i, t in self._words("x[{}]")]
        for i, (signal, negated) in enumerate(self.outputs):
            value = self._output(signal, negated, "x[{}]", "(uint64_t)0")
            lines.append(f"    y[{i}] = {value};")
        return "\n".join(
            [
                "#include <stddef.h>",
                "#include <stdint.h>",
                "",
                f"void {name}(const uint64_t *x, uint64_t *y, size_t words) {{",
                f"  for (size_t i = 0; i < words; i++, x += {self.inputs}, "
                f"y += {len(self.outputs)}) {{",
                *lines,
                "  }",
                "}",
                "",
            ]
        )

    def _words(self, place: str) -> list[tuple[int, str]]:
        return [
            (i, _WORDS[table].format(a=self._name(a, place), b=self._name(b, place)))
            for i, (table, a, b) in enumerate(self.gates)
        ]

    def _name(self, signal: int, place: str) -> str:
        if signal < self.inputs:
            return place.format(signal)
        return f"g{signal - self.inputs}"

    def _output(self, signal: int, negated: bool, place: str, zero: str) -> str:
        if signal in (_FALSE, _TRUE):
            return zero if (signal == _FALSE) != negated else f"~{zero}"
        return "~" * negated + self._name(signal, place)


def program(inputs: int, gates: Sequence[Gate], outputs: int) -> Program:
    """Return the simplified program of gates, the last of which are the outputs.

    Args:
        inputs: how many.
        gates: (table, a, b), tables from 0 to 15 as in ``Program``.
        outputs: how many of the last gates.

    Returns:
        A program with the same outputs. Negations move into the gates that read them;
        constants, copies, repetitions and unread gates are gone.
    """
    # What each old signal is now: a new signal or a constant, and whether negated.
    literals: list[tuple[int, bool]] = [(i, False) for i in range(inputs)]
    kept: list[Gate] = []
    known: dict[Gate, int] = {}
    for table, a, b in gates:
        literals.append(_literal(inputs, table, literals[a], literals[b], kept, known))
    return _without_unread(inputs, kept, literals[len(literals) - outputs :])


def spelled(circuit: Program) -> list[Gate]:
    """Return a program as the gates that ``program`` takes, outputs last."""
    last = {_FALSE: (0, 15), _TRUE: (15, 0)}
    outputs = [
        (last.get(signal, (12, 3))[negated], max(signal, 0), max(signal, 0))
        for signal, negated in circuit.outputs
    ]
    return [*circuit.gates, *outputs]


def _literal(
    inputs: int,
    table: int,
    a: tuple[int, bool],
    b: tuple[int, bool],
    kept: list[Gate],
    known: dict[Gate, int],
) -> tuple[int, bool]:
    """Return what a gate is; where it is new, append it."""

    def out(p: bool, q: bool) -> bool:
        # p and q are the values of the signals, under any negation.
        at_a = {_FALSE: False, _TRUE: True}.get(a[0], p) != a[1]
        at_b = {_FALSE: False, _TRUE: True}.get(b[0], q) != b[1]
        return bool(table >> (2 * at_a + at_b) & 1)

    same = a[0] == b[0]
    values = [out(p, p if same else q) for p in (False, True) for q in (False, True)]
    if len(set(values)) == 1:
        return (_TRUE if values[0] else _FALSE), False
    if values[0] == values[1] and values[2] == values[3]:
        return a[0], values[0]
    if values[0] == values[2] and values[1] == values[3]:
        return b[0], values[0]
    first, second = a[0], b[0]
    if first > second:
        first, second = second, first
        values = [values[0], values[2], values[1], values[3]]
    # Of a gate and its negation one is kept, the one that is false at (false, false).
    negated = values[0]
    bits = sum((value != negated) << place for place, value in enumerate(values))
    gate = (bits, first, second)
    if gate not in known:
        known[gate] = inputs + len(kept)
        kept.append(gate)
    return known[gate], negated


def _without_unread(
    inputs: int, gates: list[Gate], outputs: list[tuple[int, bool]]
) -> Program:
    """Return the program of the gates that an output depends on."""
    read = {signal for signal, _ in outputs}
    for signal in range(inputs + len(gates) - 1, inputs - 1, -1):
        if signal in read:
            read |= set(gates[signal - inputs][1:])
    places = {i: i for i in range(inputs)} | {_FALSE: _FALSE, _TRUE: _TRUE}
    kept = []
    for signal, (table, a, b) in enumerate(gates, inputs):
        if signal in read:
            places[signal] = inputs + len(kept)
            kept.append((table, places[a], places[b]))
    return Program(inputs, tuple(kept), tuple((places[s], n) for s, n in outputs))
