"""Schedules of training runs in JSON files."""

import os
from typing import Any

import jax

from .._checks import finite
from ..anneal import read_schedule_file, write_schedule_file
from ._bundle import LearnedSchedules
from ._curriculum import LearnableCurriculum
from ._distillation import LearnableDistillation
from ._lr import LearnableLR
from ._piecewise_lr import PiecewiseLR
from ._ramps import LearnableBits, LearnableSparsity

# By their kind in a file: a default, whose class, numbers and plain fields are those of
# every schedule of the kind.
_KINDS = {
    "lr": LearnableLR.default(),
    "piecewise_lr": PiecewiseLR.constant(1.0, steps=1),
    "distillation": LearnableDistillation.default(),
    "sparsity": LearnableSparsity.default(),
    "bits": LearnableBits.default(),
    "curriculum": LearnableCurriculum.default(2),
}
_NAMES = {type(default): kind for kind, default in _KINDS.items()}


def save(schedule: Any, path: str | os.PathLike[str]) -> None:
    """Write a schedule as JSON, whole or not at all.

    Args:
        schedule: of a training run, such as a ``LearnableLR``, or
            ``LearnedSchedules``; ``anneal.save`` takes those of temperatures.
        path: the file to create or replace.

    Raises:
        ValueError: for another kind of schedule, or one that is being traced.
        OSError: where the file cannot be written.

    Precision: every number is read back bit for bit.
    """
    write_schedule_file(path, _described(schedule))


def load(path: str | os.PathLike[str]) -> Any:
    """Read a schedule that ``save`` wrote.

    Args:
        path: the file.

    Returns:
        A schedule of the kind that was saved.

    Raises:
        ValueError: for a file of another format or version, one of a schedule of
            temperatures, or one that was damaged.
        OSError: where the file cannot be read.
    """
    return read_schedule_file(path, dict.fromkeys((*_KINDS, "bundle"), _built))


def _described(schedule: Any) -> dict[str, Any]:
    if isinstance(schedule, LearnedSchedules):
        parts = {name: _described(part) for name, part in schedule.parts.items()}
        return {"kind": "bundle", "parts": parts}
    if type(schedule) not in _NAMES:
        raise ValueError(
            f"schedule is a {type(schedule).__name__}; save LearnedSchedules or a part "
            "of them"
        )
    kind = _NAMES[type(schedule)]
    return {"kind": kind, "plain": _plain_fields(schedule), "free": schedule.free}


def _plain_fields(schedule: Any) -> dict[str, float]:
    return {name: x for name, x in vars(schedule).items() if name != "free"}


def _built(content: dict[str, Any]) -> Any:
    kind = content["kind"]
    if kind == "bundle":
        for name, part in content["parts"].items():
            if part["kind"] not in (name, f"piecewise_{name}"):
                raise ValueError(f"{name} is of the kind {part['kind']}")
        return LearnedSchedules(
            **{name: _built(part) for name, part in content["parts"].items()}
        )
    like, free = _KINDS[kind], content["free"]
    plain = {name: float(x) for name, x in content["plain"].items()}
    for found, wanted in ((free, like.free), (plain, _plain_fields(like))):
        if found.keys() != wanted.keys():
            raise KeyError(*sorted(found.keys() ^ wanted.keys()))
    schedule = type(like)(free, **plain)
    for value in jax.tree.leaves(schedule(0)):
        finite("a value", value)
    return schedule
