"""The JSON file that a schedule of any kind is saved in."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.dtypes
import jax.numpy as jnp
import numpy as np

from .._checks import finite, known
from .._files import replacing

VERSION = 1
# The room that wrote the first files; those of every kind still say so.
_FORMAT = "simplex_jax.anneal.schedule"


def write_schedule_file(
    path: str | os.PathLike[str], content: Mapping[str, Any]
) -> None:
    """Write what makes up a schedule, whole or not at all.

    Args:
        path: the file to create or replace.
        content: JSON values and arrays; ``kind`` tells a reader what the others mean.

    Raises:
        ValueError: where an array is being traced.
        OSError: where the file cannot be written.

    Precision: every number is read back bit for bit.
    """
    whole = {"format": _FORMAT, "version": VERSION, **content}
    text = json.dumps(whole, indent=2, default=_described) + "\n"
    with replacing(path) as put:
        put(text.encode())


def read_schedule_file(
    path: str | os.PathLike[str],
    kinds: Mapping[str, Callable[[dict[str, Any]], Any]],
) -> Any:
    """Read a file of ``write_schedule_file``.

    Args:
        path: the file.
        kinds: functions that make a schedule of what was written, by its ``kind``.

    Returns:
        What the function of the file's kind makes.

    Raises:
        ValueError: for a file of another format, version or kind, or one that was
            damaged.
        OSError: where the file cannot be read.
    """
    try:
        content = json.loads(Path(path).read_text())
    except ValueError as error:
        raise ValueError(
            f"path is {path}, which is no JSON file; give one that save wrote"
        ) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(
            f"path is {path}, which holds no schedule; give one that save wrote"
        )
    if content.get("version") != VERSION:
        raise ValueError(
            f"path is {path} of version {content.get('version')}, but this release "
            f"reads version {VERSION}; save the schedule again"
        )
    if content.get("kind") not in kinds:
        raise ValueError(
            f"path is {path}, which is damaged or for another reader: its kind is "
            f"{content.get('kind')!r}, none of {', '.join(kinds)}; anneal.load reads "
            "schedules of temperatures, schedules.load those of training runs"
        )
    try:
        return kinds[content["kind"]](_arrays(content))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"path is {path}, which is damaged: {error!r}; save the schedule again"
        ) from error


def _described(x: Any) -> dict[str, Any]:
    if not known(x):
        raise ValueError("schedule is traced; save it outside of jit and grad")
    return {"dtype": str(x.dtype), "value": np.asarray(x).tolist()}


def _arrays(content: Any, name: str = "the file") -> Any:
    if not isinstance(content, dict):
        return content
    if content.keys() == {"dtype", "value"}:
        dtype = jax.dtypes.canonicalize_dtype(content["dtype"])
        return finite(name, jnp.asarray(content["value"], dtype=dtype))
    return {key: _arrays(value, key) for key, value in content.items()}
