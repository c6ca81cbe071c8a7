"""Write a model from any source as a file that llama.cpp and Ollama run."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .. import data, gguf, models
from .._files import replacing
from ..report import read_manifest
from ..text import Tokenizer, modelfile
from ._parity import chat_rows, parity, text_rows
from ._passage import PASSAGE
from ._source import open_model, read_text


class Exported(NamedTuple):
    """What stands beside an exported file.

    Args:
        modelfile: for Ollama; None where the model has no chat template.
        parity: path of the comparison of the file with its source.
        found: that comparison; see ``parity``.
    """

    modelfile: Path | None
    parity: Path
    found: dict[str, Any]


def export(
    source: str | os.PathLike,
    out: str | os.PathLike,
    file_type: str = "q4_k_m",
    *,
    name: str | None = None,
    text_file: str | os.PathLike | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Exported:
    """Write a GGUF file, its Modelfile, and how near the file is to its source.

    Args:
        source: as for ``models.load``, or the folder of a finished run.
        out: the GGUF file; ``<stem>.Modelfile`` and ``<stem>.parity.json`` go beside
            it.
        file_type: a key of ``gguf.FILE_TYPES``.
        name: ``general.name``; None: the file's stem.
        text_file: UTF-8, to compare on; None: a run's held-out examples, or a short
            story that no model was trained on.
        progress: called with the share that is done, half of it when the file is there.

    Returns:
        What stands beside the file.

    Raises:
        ValueError: as ``models.save_gguf``, ``text.modelfile`` and ``parity``.
        OSError: where a file cannot be read or written.
    """
    out = Path(out)
    model, tokenizer = open_model(source)
    heldout = Path(source) / "data" / "heldout.jsonl"
    if text_file is None and read_manifest(source) is not None and heldout.is_file():
        rows = chat_rows(model, tokenizer, data.read_jsonl(heldout))
    else:
        text = PASSAGE if text_file is None else read_text(text_file)
        rows = text_rows(model, tokenizer, text)
    # Before the file is written, since the comparison comes after it.
    if not rows:
        raise ValueError(
            f"{os.fspath(text_file or heldout)} has no text of two tokens that fits "
            "the model's context; there is nothing to compare on"
        )
    models.save_gguf(
        model,
        tokenizer,
        out,
        file_type,
        name=name,
        progress=lambda share: progress(share / 2),
    )
    recipe = None
    if tokenizer.chat_template is not None:
        recipe = out.with_name(f"{out.stem}.Modelfile")
        write_modelfile(recipe, model, tokenizer, out.name)
    found = parity(
        out, model, tokenizer, rows, progress=lambda share: progress((1 + share) / 2)
    )
    path = out.with_name(f"{out.stem}.parity.json")
    with replacing(path) as put:
        put(f"{json.dumps(found, indent=2, ensure_ascii=False)}\n".encode())
    return Exported(recipe, path, found)


def write_modelfile(
    path: Path,
    model: models.Decoder,
    tokenizer: Tokenizer,
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
    content = modelfile(
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
