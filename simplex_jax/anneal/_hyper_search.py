"""Hyper-parameters found by annealing, a costly trial at a time."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from .._checks import at_least
from .._typing import PRNGKey
from ._schedules import Schedule, exponential


class Uniform(NamedTuple):
    """Numbers of an interval.

    Attributes:
        low: the least.
        high: the greatest, above low.
        log: whether equal ratios are equally far apart; low is above 0 then.
    """

    low: float
    high: float
    log: bool = False


class Integer(NamedTuple):
    """Whole numbers of an interval, both ends among them.

    Attributes:
        low: the least.
        high: the greatest, above low.
        log: whether equal ratios are equally far apart; low is above 0 then.
    """

    low: int
    high: int
    log: bool = False


class Choice(NamedTuple):
    """Values without an order.

    Attributes:
        values: at least two.
    """

    values: Sequence[Any]


class Trial(NamedTuple):
    """One evaluation.

    Attributes:
        params: what was tried, by name.
        value: what it gave; NaN or infinite where it failed.
        accepted: whether the search went on from here.
    """

    params: dict[str, Any]
    value: float
    accepted: bool


class Found(NamedTuple):
    """What a search found.

    Attributes:
        params: of the lowest value.
        value: the lowest.
        trials: all of them, in order.
    """

    params: dict[str, Any]
    value: float
    trials: tuple[Trial, ...]


def search(
    objective: Callable[[dict[str, Any]], Any],
    space: Mapping[str, Uniform | Integer | Choice],
    *,
    key: PRNGKey,
    trials: int,
    schedule: Schedule | None = None,
    known: Sequence[Trial] = (),
    report: Callable[[Trial], None] = lambda trial: None,
) -> Found:
    r"""Minimise a costly function of mixed numbers by annealing.

    An eighth of the trials are drawn from the space, and the best of them is the first
    state. From then on a trial is a step of a chain: numbers move by a heavy-tailed
    draw of a width that shrinks with $\sqrt{T}$ on their interval, reflected at its
    ends; choices are drawn anew now and then. Values are compared in units of half the
    interquartile range of what was seen, so that one schedule serves every objective.
    What was tried already is not tried again while the space has more.

        >>> found = anneal.search(lambda p: (p["x"] - 1) ** 2,
        ...     {"x": anneal.Uniform(-5.0, 5.0)}, key=jax.random.key(0), trials=60)
        >>> abs(found.params["x"] - 1) < 0.3
        True

    Args:
        objective: from parameters by name to a number; not finite: the trial failed.
        space: what each parameter may be.
        key: a JAX key.
        trials: how often the objective is called, at least 1.
        schedule: temperature and acceptance by the share of the chain that is done, in
            100 steps; None: from 0.1 to 0.001.
        known: trials of an earlier search of the same key, to go on with; they count.
        report: called with every trial, to show or to save it.

    Returns:
        The best parameters and all trials.

    Raises:
        ValueError: for an empty space, a bad interval, or no trial with a finite value.

    Not differentiable. Source: Simplex's annealed hyper-parameters; deviation: its
    search has one fixed step width and no integers.
    """
    at_least("trials", trials)
    _check(space)
    schedule = exponential(0.1, math.log(100) / 100) if schedule is None else schedule
    draws = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    hottest = float(schedule.temperature(0.0, 0))
    names, warm = sorted(space), max(1, trials // 8)
    done: list[Trial] = []
    tried: set[tuple[Any, ...]] = set()
    here: np.ndarray = draws.uniform(size=len(names))
    here_value = math.inf
    for i in range(trials):
        share = max(0.0, (i - warm) / max(1, trials - warm))
        temperature = float(schedule.temperature(100 * share, 0))
        width = 0.4 * math.sqrt(temperature / hottest)
        for attempt in range(200):
            # Where all that is near was tried, the rest of the space is looked at.
            if i < warm or attempt > 50:
                point = draws.uniform(size=len(names))
            else:
                point = _moved(draws, here, names, space, width)
            params = {n: _value(space[n], u) for n, u in zip(names, point, strict=True)}
            mark = tuple(map(repr, params.values()))
            if mark not in tried:
                break
        tried.add(mark)
        value = known[i].value if i < len(known) else float(objective(params))
        threshold = draws.uniform()
        if i < warm or not math.isfinite(here_value):
            accepted = value < here_value
        else:
            scale = _scale([t.value for t in done])
            probability = schedule.acceptance((value - here_value) / scale, temperature)
            accepted = math.isfinite(value) and threshold < float(probability)
        if accepted:
            here, here_value = point, value
        done.append(Trial(params, value, accepted))
        if i >= len(known):
            report(done[-1])
    finite = [t for t in done if math.isfinite(t.value)]
    if not finite:
        raise ValueError(
            f"objective gave no finite value in {trials} trials, at last "
            f"{done[-1].value} for {done[-1].params}; try another space"
        )
    best = min(finite, key=lambda t: t.value)
    return Found(best.params, best.value, tuple(done))


def _check(space: Mapping[str, Any]) -> None:
    if not space:
        raise ValueError("space is empty; name at least one parameter")
    for name, allowed in space.items():
        if isinstance(allowed, Choice):
            if len(allowed.values) < 2:
                raise ValueError(
                    f"space[{name!r}] has the values {allowed.values}; give at least 2"
                )
            continue
        low, high, log = allowed
        ends_are_finite = math.isfinite(low) and math.isfinite(high)
        if not ends_are_finite or low >= high or (log and low <= 0):
            above = " above 0" if log else ""
            raise ValueError(
                f"space[{name!r}] reaches from {low} to {high}; give a low end{above} "
                "and a greater high end"
            )


def _moved(
    draws: np.random.Generator,
    here: np.ndarray,
    names: Sequence[str],
    space: Mapping[str, Any],
    width: float,
) -> np.ndarray:
    """Return a point near another, in the unit cube; one number moves at least."""
    moves = draws.uniform(size=len(names)) < 0.5
    moves[draws.integers(len(names))] = True
    point = here.copy()
    for i in np.flatnonzero(moves).tolist():
        if isinstance(space[names[i]], Choice):
            point[i] = draws.uniform()
        else:
            # Steps of a t distribution: mostly near, now and then across the interval.
            step = here[i] + width * draws.standard_t(2)
            point[i] = 1 - abs(1 - step % 2)
    return point


def _value(allowed: Any, share: float) -> Any:
    """Return the value at a share of what is allowed."""
    if isinstance(allowed, Choice):
        return allowed.values[
            min(int(share * len(allowed.values)), len(allowed.values) - 1)
        ]
    low, high, log = allowed
    if isinstance(allowed, Integer):
        low, high = low - 0.5, high + 0.5
    if log:
        x = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    else:
        x = low + share * (high - low)
    if isinstance(allowed, Integer):
        return int(np.clip(round(x), allowed.low, allowed.high))
    return float(np.clip(x, allowed.low, allowed.high))


def _scale(values: Sequence[float]) -> float:
    """Return half the interquartile range, of what is finite."""
    finite = [x for x in values if math.isfinite(x)]
    low, high = np.quantile(finite, [0.25, 0.75])
    return max((high - low) / 2, 1e-12)
