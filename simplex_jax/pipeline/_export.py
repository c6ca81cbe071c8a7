"""Write a model from any source as a file that llama.cpp and Ollama run."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .. import gguf, models, text
from .._files import replacing
from ._source import open_model


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
        source: as for ``models.load``, or the folder of a finished run.
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
    model, tokenizer = open_model(source)
    models.save_gguf(model, tokenizer, out, file_type, name=name, progress=progress)
    if tokenizer.chat_template is None:
        return None
    path = out.with_name(f"{out.stem}.Modelfile")
    write_modelfile(path, model, tokenizer, out.name)
    return path


def write_modelfile(
    path: Path,
    model: models.Decoder,
    tokenizer: text.Tokenizer,
    gguf_name: str,
    parameters: Mapping[str, int | float] | None = None,
) -> None:
    """Write a Modelfile with the model's whole context.

    Args:
        path: of the Modelfile.
        model: says how long its context is.
        tokenizer: with a chat template.
        gguf_name: of the file beside it.
        parameters: further ones, as for ``text.modelfile``.

    Raises:
        ValueError: as ``text.modelfile``.
        OSError: where it cannot be written.
    """
    context = {"num_ctx": model.config.max_position_embeddings}
    content = text.modelfile(
        tokenizer, gguf_name, parameters={**context, **(parameters or {})}
    )
    with replacing(path) as put:
        put(content.encode())


def inspect(path: str | os.PathLike) -> dict[str, Any]:
    """Return what a GGUF file holds, as ``gguf.summary`` tells it.

    Args:
        path: the file.

    Returns:
        A JSON-able mapping.
    """
    with gguf.open(path) as file:
        return gguf.summary(file)


def quantize(
    path_in: str | os.PathLike,
    path_out: str | os.PathLike,
    file_type: str = "q4_k_m",
    *,
    imatrix: str | os.PathLike | None = None,
    workers: int | None = None,
    progress: Callable[[float], None] | None = None,
    **overrides: Any,
) -> None:
    """Write a GGUF file anew with other tensor types; see ``gguf.quantize``.

    Args:
        path_in: a GGUF file.
        path_out: the file to write.
        file_type: a key of ``gguf.FILE_TYPES``.
        imatrix: file of ``imatrix``, here or in llama.cpp; None: every column counts
            alike.
        workers: processes; None: one a core.
        progress: called with the share of elements written so far.
        **overrides: the attributes of ``gguf.Overrides``.

    Raises:
        ValueError: as ``gguf.quantize`` and ``gguf.Overrides``.
        OSError: where a file cannot be read or written.
    """
    gguf.quantize(
        path_in,
        path_out,
        file_type,
        imatrix=None if imatrix is None else gguf.read_imatrix(imatrix),
        overrides=gguf.Overrides(**overrides),
        workers=workers,
        progress=progress,
    )


def plan_quantization(
    path_in: str | os.PathLike,
    file_type: str = "q4_k_m",
    *,
    imatrix: str | os.PathLike | None = None,
    **overrides: Any,
) -> dict[str, Any]:
    """Return what ``quantize`` would write, as ``gguf.plan`` tells it.

    Args:
        path_in: a GGUF file.
        file_type: a key of ``gguf.FILE_TYPES``.
        imatrix: as for ``quantize``.
        **overrides: the attributes of ``gguf.Overrides``.

    Returns:
        A JSON-able mapping.

    Raises:
        ValueError: as ``quantize``, as far as the header tells.
        OSError: where the file cannot be read.
    """
    return gguf.plan(
        path_in,
        file_type,
        imatrix=None if imatrix is None else gguf.read_imatrix(imatrix),
        overrides=gguf.Overrides(**overrides),
    )
