"""The manifest of a run: what decided it, what came out, in one JSON file."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._files import replacing

_NAME = "manifest.json"


def read_manifest(folder: str | os.PathLike) -> dict[str, Any] | None:
    """Return a run's manifest, or None where the folder holds none.

    Args:
        folder: of a run.

    Returns:
        JSON values with at least ``status``, ``name``, ``config`` and ``versions``.

    Raises:
        ValueError: where the file is no manifest.
    """
    path = Path(folder) / _NAME
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    if not isinstance(manifest, dict) or not (
        {"status", "name", "config", "versions"} <= set(manifest)
    ):
        raise ValueError(f"{path}: not the manifest of a run")
    return manifest


def write_manifest(folder: str | os.PathLike, manifest: Mapping[str, Any]) -> None:
    """Write a run's manifest, whole or not at all.

    Args:
        folder: of the run, which is there.
        manifest: JSON values, all numbers finite.

    Raises:
        OSError: where the file cannot be written.
    """
    text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(Path(folder) / _NAME) as put:
        put(f"{text}\n".encode())
