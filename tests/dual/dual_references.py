"""Points over a domain, and how far a lifted function is from mpmath there."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import mpmath as mp
import numpy as np

from simplex_jax import dual


def positive(largest, smallest=1e-6, count=40):
    return np.geomspace(smallest, largest, count)


def around_zero(largest, smallest=1e-6, count=20):
    half = positive(largest, smallest, count)
    return np.concatenate([-half[::-1], half])


def inside(low, high, count=40):
    # Chebyshev points crowd at the ends, where functions bend.
    cosines = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    return (low + high) / 2 - (high - low) / 2 * cosines


class Row(NamedTuple):
    """A lifted function, mpmath's, and the points of each argument."""

    f: Callable
    reference: Callable
    points: Sequence[Sequence[float] | np.ndarray]


def evaluate(rows: dict[str, Row]) -> dict[str, list]:
    """Return each row's values and tangents by each argument, compiled at once."""

    def lifted(inputs):
        out = {}
        for name, points in inputs.items():
            seeds = [
                [dual.variable(p) if i == j else p for j, p in enumerate(points)]
                for i in range(len(points))
            ]
            out[name] = [rows[name].f(*seed) for seed in seeds]
        return out

    with jax.enable_x64(True):
        inputs = {name: _arguments(row) for name, row in rows.items()}
        return jax.device_get(jax.jit(lifted)(inputs))


def largest_errors(row: Row, found: list) -> tuple[float, float]:
    """Return the worst error in value, and in derivative by any of the arguments.

    Each is relative to the larger of 1 and what mpmath says.
    """
    worst = np.zeros(2)
    with mp.workdps(40):
        for i, out in enumerate(found):
            for k, point in enumerate(zip(*_arguments(row), strict=True)):
                at = [mp.mpf(float(p)) for p in point]

                def along(s, at=at, i=i):
                    return row.reference(
                        *[s if i == j else p for j, p in enumerate(at)]
                    )

                value, slope = row.reference(*at), mp.diff(along, at[i])
                errors = _error(out.primal[k], value), _error(out.tangent[k], slope)
                worst = np.maximum(worst, errors)
    return float(worst[0]), float(worst[1])


def _arguments(row: Row) -> list[np.ndarray]:
    count = max(map(len, row.points))
    return [np.resize(np.asarray(p, float), count) for p in row.points]


def _error(found: float, wanted) -> float:
    if not np.isfinite(found):
        return np.inf
    return float(abs(mp.mpf(float(found)) - wanted) / max(1, abs(wanted)))
