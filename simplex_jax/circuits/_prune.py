"""Gates that a set of rows does not need."""

from collections.abc import Sequence

import numpy as np

from ._program import Gate, Program, program, spelled


def prune(circuit: Program, x: np.ndarray) -> Program:
    """Return a program without the gates that these rows do not need.

    Signals that agree on all rows become one. Then each gate, the last one first, gives
    way to false, true or one of its pins where that changes no output on any row. Both
    are repeated while the program gets smaller.

    Args:
        circuit: what is pruned; time grows with the square of its gates.
        x: bools (B, I), one row a sample. Outputs on other rows may change: only the
            rows of the full truth table keep the function.

    Returns:
        A program with as many outputs and at most as many gates.

    Raises:
        ValueError: for rows that have another number of inputs.
    """
    if x.ndim != 2 or x.shape[1] != circuit.inputs:
        raise ValueError(
            f"x has shape {x.shape}; give (rows, {circuit.inputs}), the inputs"
        )
    packed = np.packbits(np.asarray(x, bool), axis=0, bitorder="little").T
    columns = [int.from_bytes(column.tobytes(), "little") for column in packed]
    mask, outputs = (1 << len(x)) - 1, len(circuit.outputs)
    found = circuit
    while True:
        merged = program(
            circuit.inputs, _merged(spelled(found), columns, mask), outputs
        )
        shorter = _shortened(spelled(merged), columns, mask, outputs)
        smaller = program(circuit.inputs, shorter, outputs)
        if len(smaller.gates) >= len(found.gates):
            return found
        found = smaller


def _values(gates: Sequence[Gate], columns: Sequence[int], mask: int) -> list[int]:
    """Return each signal on all rows as one integer, row i at place i."""
    values = list(columns)
    for table, a, b in gates:
        p, q = values[a], values[b]
        cases = (mask & ~(p | q), q & ~p, p & ~q, p & q)
        values.append(sum(case for i, case in enumerate(cases) if table >> i & 1))
    return values


def _merged(gates: list[Gate], columns: list[int], mask: int) -> list[Gate]:
    """Return gates that copy the first signal that agrees, negated or not."""
    known: dict[int, Gate] = {mask: (15, 0, 0), 0: (0, 0, 0)}
    merged = []
    values = _values(gates, columns, mask)
    for signal, value in enumerate(values):
        if signal >= len(columns):
            merged.append(known.get(value, gates[signal - len(columns)]))
        known.setdefault(value, (12, signal, signal))
        known.setdefault(mask & ~value, (3, signal, signal))
    return merged


def _shortened(
    gates: list[Gate], columns: list[int], mask: int, outputs: int
) -> list[Gate]:
    """Return gates of which as many as can be are constants or copies of a pin."""
    now, wanted = list(gates), _values(gates, columns, mask)[-outputs:]
    for place in range(len(gates) - outputs - 1, -1, -1):
        _, a, b = now[place]
        for table in (0, 15, 12, 10):
            tried = [*now[:place], (table, a, b), *now[place + 1 :]]
            if _values(tried, columns, mask)[-outputs:] == wanted:
                now = tried
                break
    return now
