"""Schedules of temperatures in JSON files."""

import os
from typing import Any

from ._acceptance import barker, metropolis
from ._epistemic import Dissent, EpistemicSchedule
from ._learnable import LearnableSchedule
from ._schedule_file import read_schedule_file, write_schedule_file
from ._schedules import CURVES, FixedSchedule

_RULES = {"barker": barker, "metropolis": metropolis}


def save(schedule: Any, path: str | os.PathLike[str]) -> None:
    """Write a schedule as JSON, whole or not at all.

    Args:
        schedule: a ``LearnableSchedule`` or ``EpistemicSchedule``, or what
            ``exponential``, ``linear``, ``logarithmic`` and ``cosine`` return;
            ``schedules.save`` takes those of a training run.
        path: the file to create or replace.

    Raises:
        ValueError: for another kind of schedule, a curve or rule of the user's own, or
            a schedule that is being traced.
        OSError: where the file cannot be written.

    Precision: every number is read back bit for bit.
    """
    if isinstance(schedule, LearnableSchedule):
        kind: dict[str, Any] = {"kind": "learnable", "legacy": schedule.legacy}
    elif isinstance(schedule, EpistemicSchedule):
        kind = {"kind": "epistemic", "max_temp": schedule.max_temp}
        kind["dissent"] = schedule.dissent._asdict()
    elif isinstance(schedule, FixedSchedule):
        kind = {"kind": _name_of("curve", schedule.curve, CURVES)}
    else:
        raise ValueError(
            f"schedule is a {type(schedule).__name__}; save a LearnableSchedule, an "
            f"EpistemicSchedule or one of {', '.join(CURVES)}"
        )
    rule = _name_of("rule", schedule.rule, _RULES)
    write_schedule_file(path, {**kind, "rule": rule, "free": schedule.free})


def load(path: str | os.PathLike[str]) -> Any:
    """Read a schedule that ``save`` wrote.

    Args:
        path: the file.

    Returns:
        A schedule of the kind that was saved.

    Raises:
        ValueError: for a file of another format or version, one of a training run's
            schedule, or one that was damaged.
        OSError: where the file cannot be read.
    """
    return read_schedule_file(path, dict.fromkeys((*CURVES, *_LEARNABLE), _built))


def _name_of(what: str, found: Any, named: dict[str, Any]) -> str:
    for name, function in named.items():
        if function is found:
            return name
    raise ValueError(
        f"schedule has the {what} {found}, which has no name in a file; use one of "
        f"{', '.join(named)}"
    )


def _built(content: dict[str, Any]) -> Any:
    kind, free, rule = content["kind"], content["free"], _RULES[content["rule"]]
    if kind in _LEARNABLE and free.keys() != _LEARNABLE[kind].default().free.keys():
        raise KeyError(*sorted(free.keys() ^ _LEARNABLE[kind].default().free.keys()))
    if kind == "learnable":
        schedule = LearnableSchedule(free, rule, bool(content["legacy"]))
    elif kind == "epistemic":
        dissent = Dissent(**content["dissent"])
        schedule = EpistemicSchedule(free, float(content["max_temp"]), dissent, rule)
    else:
        schedule = FixedSchedule(free, CURVES[kind], rule)
    schedule.temperature(0, 0)
    return schedule


_LEARNABLE = {"learnable": LearnableSchedule, "epistemic": EpistemicSchedule}
