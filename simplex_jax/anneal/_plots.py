"""Runs, schedules and their learning as matplotlib figures."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from .._checks import at_least
from ._chain import Result
from ._meta import History


def plot_schedule(
    schedules: Mapping[str, Any], *, steps: int, stagnation: int = 0
) -> Any:
    """Draw the temperatures of schedules over the steps of a run.

    Args:
        schedules: by the names that the legend shows.
        steps: of the run, at least 1.
        stagnation: steps since the last new best, held through the run.

    Returns:
        A matplotlib ``Figure`` of one axis, a line for each schedule.

    Raises:
        ValueError: for no schedules or steps below 1.
        ModuleNotFoundError: where matplotlib is missing.
    """
    if not schedules:
        raise ValueError("schedules is empty; give at least one by name")
    at_least("steps", steps)
    figure = _figure(3.0)
    axis = figure.subplots()
    t = np.arange(steps)
    for name, schedule in schedules.items():
        axis.plot(t, schedule.temperature(t, np.full(steps, stagnation)), label=name)
    axis.set(title="Temperature", xlabel="step", yscale="log")
    axis.legend()
    return figure


def plot_run(results: Mapping[str, Result]) -> Any:
    """Draw what runs did: temperature, acceptance, energy and best energy.

    Lines are means over the chains; the band of the best energy goes from its first to
    its third quartile.

    Args:
        results: of ``anneal``, by the names that the legend shows.

    Returns:
        A matplotlib ``Figure`` of four axes, a line for each result in each.

    Raises:
        ValueError: for no results.
        ModuleNotFoundError: where matplotlib is missing.
    """
    if not results:
        raise ValueError("results is empty; give at least one by name")
    figure = _figure(8.0)
    axes = figure.subplots(4, sharex=True)
    fields = ("temperature", "acceptance", "energy", "best_energy")
    for axis, field in zip(axes, fields, strict=True):
        for name, result in results.items():
            values = np.asarray(getattr(result.trace, field))
            (line,) = axis.plot(values.mean(axis=0), label=name)
            if field == "best_energy":
                quarters = np.quantile(values, (0.25, 0.75), axis=0)
                steps = np.arange(values.shape[1])
                axis.fill_between(steps, *quarters, alpha=0.2, color=line.get_color())
        axis.set_title(field.replace("_", " ").capitalize())
    axes[0].set_yscale("log")
    axes[1].set_ylim(0, 1)
    axes[-1].set_xlabel("step")
    axes[0].legend()
    return figure


def plot_learning(history: History) -> Any:
    """Draw how learning went: the losses, and every number of the schedule.

    Args:
        history: of ``learn_schedule``.

    Returns:
        A matplotlib ``Figure``: one axis with the training and the validation loss,
        then one for each scalar of the schedule, as ``params`` or ``values`` name them,
        or else as its leaves are called.

    Raises:
        ModuleNotFoundError: where matplotlib is missing.
    """
    numbers = _numbers(history.schedules)
    rows = 1 + (len(numbers) + 1) // 2
    figure = _figure(1.8 * rows)
    grid = figure.add_gridspec(rows, 2)
    losses = figure.add_subplot(grid[0, :])
    steps = np.arange(1, len(history.loss) + 1)
    losses.plot(steps - 1, history.loss, label="training")
    losses.plot(
        history.validation_steps, history.validation_loss, "s-", label="validation"
    )
    losses.set_title("Meta-loss")
    losses.legend()
    for i, (name, values) in enumerate(numbers.items()):
        axis = figure.add_subplot(grid[1 + i // 2, i % 2])
        axis.plot(steps, values)
        axis.set_title(name.replace("_", " ").capitalize())
    return figure


def _numbers(schedules: Any) -> dict[str, np.ndarray]:
    """Return what learning moved, by name, one value a meta-step."""
    for attribute in ("params", "values"):
        found = getattr(schedules, attribute, None)
        if isinstance(found, dict):
            return {name: np.asarray(x) for name, x in found.items()}
    return {
        jax.tree_util.keystr(path).strip("."): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(schedules)
        if np.ndim(leaf) == 1
    }


def _figure(height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "matplotlib is missing: pip install 'simplex-jax[plots]'"
        ) from error
    return Figure(figsize=(7.2, height), layout="constrained")
