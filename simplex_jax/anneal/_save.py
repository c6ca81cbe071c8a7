"""Schedules in JSON files."""

import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._files import replacing
from ._acceptance import barker, metropolis
from ._checks import known
from ._learnable import LearnableSchedule
from ._schedules import CURVES, FixedSchedule

VERSION = 1
_FORMAT = "simplex_jax.anneal.schedule"
_RULES = {"barker": barker, "metropolis": metropolis}


def save(schedule: Any, path: str | os.PathLike[str]) -> None:
    """Write a schedule as JSON, whole or not at all.

    Args:
        schedule: a ``LearnableSchedule``, or what ``exponential``, ``linear``,
            ``logarithmic`` and ``cosine`` return.
        path: the file to create or replace.

    Raises:
        ValueError: for another kind of schedule, a curve or rule of the user's own, or
            a schedule that is being traced.
        OSError: where the file cannot be written.

    Precision: every number is read back bit for bit.
    """
    content = {"format": _FORMAT, "version": VERSION, **_described(schedule)}
    with replacing(path) as put:
        put((json.dumps(content, indent=2) + "\n").encode())


def load(path: str | os.PathLike[str]) -> Any:
    """Read a schedule that ``save`` wrote.

    Args:
        path: the file.

    Returns:
        A schedule of the kind that was saved.

    Raises:
        ValueError: for a file of another format or version, or one that was damaged.
        OSError: where the file cannot be read.
    """
    try:
        content = json.loads(Path(path).read_text())
    except ValueError as error:
        raise ValueError(
            f"path is {path}, which is no JSON file; give one that anneal.save wrote"
        ) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(
            f"path is {path}, which holds no schedule; give one that anneal.save wrote"
        )
    if content.get("version") != VERSION:
        raise ValueError(
            f"path is {path} of version {content.get('version')}, but this release "
            f"reads version {VERSION}; save the schedule again"
        )
    try:
        return _built(content)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"path is {path}, which is damaged: {error!r}; save the schedule again"
        ) from error


def _described(schedule: Any) -> dict[str, Any]:
    if isinstance(schedule, LearnableSchedule):
        kind = {"kind": "learnable", "legacy": schedule.legacy}
    elif isinstance(schedule, FixedSchedule):
        kind = {"kind": _name_of("curve", schedule.curve, CURVES)}
    else:
        raise ValueError(
            f"schedule is a {type(schedule).__name__}; save a LearnableSchedule or one "
            f"of {', '.join(CURVES)}"
        )
    if any(not known(x) for x in jax.tree.leaves(schedule)):
        raise ValueError("schedule is traced; save it outside of jit and grad")
    return {
        **kind,
        "rule": _name_of("rule", schedule.rule, _RULES),
        "free": {
            name: {"dtype": str(x.dtype), "value": np.asarray(x).tolist()}
            for name, x in schedule.free.items()
        },
    }


def _name_of(what: str, found: Any, named: dict[str, Any]) -> str:
    for name, function in named.items():
        if function is found:
            return name
    raise ValueError(
        f"schedule has the {what} {found}, which has no name in a file; use one of "
        f"{', '.join(named)}"
    )


def _built(content: dict[str, Any]) -> Any:
    numbers = {
        name: jnp.asarray(x["value"], dtype=jax.dtypes.canonicalize_dtype(x["dtype"]))
        for name, x in content["free"].items()
    }
    rule = _RULES[content["rule"]]
    if content["kind"] == "learnable":
        schedule = LearnableSchedule(numbers, rule, bool(content["legacy"]))
        wanted = LearnableSchedule.default().free
    else:
        schedule = FixedSchedule(numbers, CURVES[content["kind"]], rule)
        wanted = numbers
    if numbers.keys() != wanted.keys():
        raise KeyError(*sorted(numbers.keys() ^ wanted.keys()))
    schedule.temperature(0, 0)
    return schedule
