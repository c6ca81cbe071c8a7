"""Write a model from any source as a file that llama.cpp and Ollama run."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import gguf, models, text
from .._files import replacing


def export(
    source: str | os.PathLike,
    out: str | os.PathLike,
    file_type: str = "q8_0",
    *,
    name: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> Path | None:
    """Write a GGUF file and, beside it, a Modelfile for Ollama.

    Args:
        source: as for ``models.load``.
        out: the GGUF file.
        file_type: a key of ``gguf.FILE_TYPES``.
        name: ``general.name``; None: the file's stem.
        progress: called with the share of tensors written so far.

    Returns:
        Path of ``<stem>.Modelfile``, or None where the model has no chat template.

    Raises:
        ValueError: as ``models.save_gguf`` and ``text.modelfile``.
        OSError: where a file cannot be written.
    """
    out = Path(out)
    model, tokenizer = models.load(source)
    models.save_gguf(model, tokenizer, out, file_type, name=name, progress=progress)
    if tokenizer.chat_template is None:
        return None
    context = model.config.max_position_embeddings
    content = text.modelfile(tokenizer, out.name, parameters={"num_ctx": context})
    path = out.with_name(f"{out.stem}.Modelfile")
    with replacing(path) as put:
        put(content.encode())
    return path


def inspect(path: str | os.PathLike) -> dict[str, Any]:
    """Return what a GGUF file holds, as ``gguf.summary`` tells it.

    Args:
        path: the file.

    Returns:
        A JSON-able mapping.
    """
    with gguf.read(path) as file:
        return gguf.summary(file)
