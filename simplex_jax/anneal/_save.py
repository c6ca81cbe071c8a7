"""Schedules in JSON files."""

import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import finite, known
from .._files import replacing
from ._acceptance import barker, metropolis
from ._bundle import LearnedSchedules
from ._epistemic import Dissent, EpistemicSchedule
from ._learnable import LearnableSchedule
from ._learnable_curriculum import LearnableCurriculum
from ._learnable_distillation import LearnableDistillation
from ._learnable_lr import LearnableLR
from ._learnable_ramps import LearnableBits, LearnableSparsity
from ._piecewise_lr import PiecewiseLR
from ._schedules import CURVES, FixedSchedule

VERSION = 1
_FORMAT = "simplex_jax.anneal.schedule"
_RULES = {"barker": barker, "metropolis": metropolis}
# What a training run has, by its kind: a default, whose class, numbers and plain fields
# are those of every schedule of the kind.
_TRAINING = {
    "lr": LearnableLR.default(),
    "piecewise_lr": PiecewiseLR.constant(1.0, steps=1),
    "distillation": LearnableDistillation.default(),
    "sparsity": LearnableSparsity.default(),
    "bits": LearnableBits.default(),
    "curriculum": LearnableCurriculum.default(2),
}
_KINDS = {type(default): kind for kind, default in _TRAINING.items()}


def save(schedule: Any, path: str | os.PathLike[str]) -> None:
    """Write a schedule as JSON, whole or not at all.

    Args:
        schedule: a ``LearnableSchedule`` or ``EpistemicSchedule``, what
            ``exponential``, ``linear``, ``logarithmic`` and ``cosine`` return, one of a
            training run, such as a ``LearnableLR``, or ``LearnedSchedules``.
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
    if any(not known(x) for x in jax.tree.leaves(schedule)):
        raise ValueError("schedule is traced; save it outside of jit and grad")
    if isinstance(schedule, LearnedSchedules):
        parts = {name: _described(part) for name, part in schedule.parts.items()}
        return {"kind": "bundle", "parts": parts}
    if type(schedule) in _KINDS:
        plain = _plain_fields(schedule)
        kind = {"kind": _KINDS[type(schedule)], "plain": plain}
    elif isinstance(schedule, LearnableSchedule | EpistemicSchedule | FixedSchedule):
        if isinstance(schedule, LearnableSchedule):
            kind = {"kind": "learnable", "legacy": schedule.legacy}
        elif isinstance(schedule, EpistemicSchedule):
            dissent = schedule.dissent._asdict()
            kind = {"kind": "epistemic", "max_temp": schedule.max_temp}
            kind["dissent"] = dissent
        else:
            kind = {"kind": _name_of("curve", schedule.curve, CURVES)}
        kind["rule"] = _name_of("rule", schedule.rule, _RULES)
    else:
        raise ValueError(
            f"schedule is a {type(schedule).__name__}; save a LearnableSchedule, one "
            f"of {', '.join(CURVES)}, LearnedSchedules or a part of them"
        )
    free = {
        name: {"dtype": str(x.dtype), "value": np.asarray(x).tolist()}
        for name, x in schedule.free.items()
    }
    return {**kind, "free": free}


def _plain_fields(schedule: Any) -> dict[str, float]:
    return {name: x for name, x in vars(schedule).items() if name != "free"}


def _name_of(what: str, found: Any, named: dict[str, Any]) -> str:
    for name, function in named.items():
        if function is found:
            return name
    raise ValueError(
        f"schedule has the {what} {found}, which has no name in a file; use one of "
        f"{', '.join(named)}"
    )


def _built(content: dict[str, Any]) -> Any:
    kind = content["kind"]
    if kind == "bundle":
        for name, part in content["parts"].items():
            if part["kind"] not in (name, f"piecewise_{name}"):
                raise ValueError(f"{name} is of the kind {part['kind']}")
        return LearnedSchedules(
            **{name: _built(part) for name, part in content["parts"].items()}
        )
    free = {
        name: jnp.asarray(x["value"], dtype=jax.dtypes.canonicalize_dtype(x["dtype"]))
        for name, x in content["free"].items()
    }
    for name, x in free.items():
        finite(name, x)
    if kind in _TRAINING:
        like = _TRAINING[kind]
        _require_same(free, like.free)
        plain = {name: float(x) for name, x in content["plain"].items()}
        _require_same(plain, _plain_fields(like))
        schedule = type(like)(free, **plain)
        for value in jax.tree.leaves(schedule(0)):
            finite("a value", value)
        return schedule
    rule = _RULES[content["rule"]]
    if kind == "learnable":
        schedule = LearnableSchedule(free, rule, bool(content["legacy"]))
        _require_same(free, LearnableSchedule.default().free)
    elif kind == "epistemic":
        _require_same(free, EpistemicSchedule.default().free)
        dissent = Dissent(**content["dissent"])
        schedule = EpistemicSchedule(free, float(content["max_temp"]), dissent, rule)
    else:
        schedule = FixedSchedule(free, CURVES[kind], rule)
    schedule.temperature(0, 0)
    return schedule


def _require_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    if found.keys() != wanted.keys():
        raise KeyError(*sorted(found.keys() ^ wanted.keys()))
