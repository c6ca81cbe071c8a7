"""The last wrong rows of a discrete circuit, mended by random changes."""

from collections.abc import Sequence

import numpy as np


def mend(
    inputs: int,
    layers: Sequence[int],
    gates: Sequence[tuple[int, int, int]],
    x: np.ndarray,
    y: np.ndarray,
    rng: np.random.Generator,
    tries: int,
) -> tuple[list[tuple[int, int, int]], int]:
    """Change gates at random and keep what makes no more outputs wrong.

    A change gives one gate another table or one pin another signal. Changes that alter
    nothing are kept too: unread gates drift until one of them helps.

    Args:
        inputs: how many.
        layers: gates a layer; a gate reads inputs and earlier layers.
        gates: (table, a, b), as ``program`` takes them.
        x: bools (rows, inputs).
        y: bools (rows, outputs), of the last layer.
        rng: of the changes.
        tries: at most.

    Returns:
        The gates, and how many changes were tried until no output was wrong.
    """
    mask = (1 << len(x)) - 1
    columns = [_bits(column) for column in x.T]
    wanted = [_bits(column) for column in y.T]
    reach = [
        inputs + sum(layers[:layer])
        for layer, count in enumerate(layers)
        for _ in range(count)
    ]

    def wrong(gates: Sequence[tuple[int, int, int]]) -> int:
        signals = list(columns)
        for table, a, b in gates:
            p, q = signals[a], signals[b]
            out = p & q if table & 8 else 0
            if table & 4:
                out |= p & ~q
            if table & 2:
                out |= q & ~p
            if table & 1:
                out |= mask & ~(p | q)
            signals.append(out)
        found = signals[len(signals) - len(wanted) :]
        return sum((f ^ w).bit_count() for f, w in zip(found, wanted, strict=True))

    now, errors = list(gates), wrong(gates)
    for tried in range(tries):
        if errors == 0:
            return now, tried
        changed = now.copy()
        for _ in range(rng.integers(1, 4)):
            place = int(rng.integers(len(now)))
            gate = list(changed[place])
            part = int(rng.integers(3))
            gate[part] = int(rng.integers(reach[place] if part else 16))
            changed[place] = (gate[0], gate[1], gate[2])
        new = wrong(changed)
        if new <= errors:
            now, errors = changed, new
    return now, tries


def _bits(column: np.ndarray) -> int:
    """Return a column of bools as one integer, row i at place i."""
    return sum(int(bit) << row for row, bit in enumerate(column))
