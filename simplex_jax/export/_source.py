"""Open what a command is given: a model from any source, or a run's folder."""

import os
from pathlib import Path

import jax.numpy as jnp

from .. import lora, models
from ..report import read_manifest
from ..text import Tokenizer


def open_model(source: str | os.PathLike) -> tuple[models.Decoder, Tokenizer]:
    """Load a model; a run's folder gives the base with its adapter merged in.

    Args:
        source: as for ``models.load``, or the folder of a run that is finished.

    Returns:
        The model, without adapters, and its tokenizer.

    Raises:
        ValueError: where the run is not finished, or as ``models.load``.
        FileNotFoundError: as ``models.load``.
    """
    manifest = read_manifest(source)
    if manifest is None:
        return models.load(source)
    if manifest["status"] != "finished":
        raise ValueError(
            f"{os.fspath(source)} is not finished; give the same train command again"
        )
    folder = Path(source)
    training = manifest["config"]["training"]
    if training["full"]:
        return models.load(folder / "model")
    # The merged weights are rounded as they were when the run was judged.
    dtype = jnp.bfloat16 if training["bf16"] else jnp.float32
    base, tokenizer = models.load(manifest["config"]["base"], dtype=dtype)
    return lora.merge(lora.load_peft(base, folder / "adapter")), tokenizer


def read_text(path: str | os.PathLike) -> str:
    """Return a file's text.

    Args:
        path: of a file in UTF-8.

    Returns:
        The text.

    Raises:
        ValueError: where it is not UTF-8.
        OSError: where it cannot be read.
    """
    try:
        return Path(path).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)} is not UTF-8: {error}") from None
