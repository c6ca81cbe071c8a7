"""Collect an importance matrix over a text."""

import os
from collections.abc import Callable

import jax
import numpy as np

from .. import gguf, models
from .._checks import at_least
from ._source import open_model, read_text


def imatrix(
    source: str | os.PathLike,
    data: str | os.PathLike,
    out: str | os.PathLike,
    *,
    chunk_tokens: int = 512,
    max_chunks: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> gguf.ImportanceMatrix:
    """Run a model over a text, and write down how large the inputs of its weights are.

    Args:
        source: as for ``models.load``, or the folder of a finished run.
        data: a text in UTF-8, of the kind that the model is for.
        out: the GGUF file, for ``quantize`` here and in llama.cpp.
        chunk_tokens: the text is cut into pieces of this many tokens, each read by
            itself; what is left at the end is dropped.
        max_chunks: stop after so many; None: none is left out.
        progress: called with the share of pieces done so far.

    Returns:
        What was written.

    Raises:
        ValueError: where the text is shorter than one piece or not UTF-8, or a piece
            longer than the model's context.
        FloatingPointError: where an activation is not finite.
        OSError: where a file cannot be read or written.
    """
    at_least("chunk_tokens", chunk_tokens)
    if max_chunks is not None:
        at_least("max_chunks", max_chunks)
    text = read_text(data)
    model, tokenizer = open_model(source)
    if chunk_tokens > model.config.max_position_embeddings:
        raise ValueError(
            f"chunk_tokens is {chunk_tokens}, and the model's context "
            f"{model.config.max_position_embeddings}"
        )
    ids = np.asarray(tokenizer.encode(text, add_special=True), np.int32)
    chunks = ids[: len(ids) // chunk_tokens * chunk_tokens].reshape(-1, chunk_tokens)
    chunks = chunks[:max_chunks]
    if not len(chunks):
        raise ValueError(
            f"{os.fspath(data)} has {len(ids)} tokens, and a piece {chunk_tokens}; "
            "give a longer text or smaller pieces"
        )
    if tokenizer.add_bos and tokenizer.bos_id is not None:
        chunks[:, 0] = tokenizer.bos_id
    squares = jax.jit(models.input_squares)
    totals: dict[str, np.ndarray] = {}
    for at, chunk in enumerate(chunks):
        for pattern, stack in squares(model, chunk[None]).items():
            rows = np.asarray(stack, np.float64)
            totals[pattern] = rows if pattern not in totals else totals[pattern] + rows
        if progress is not None:
            progress((at + 1) / len(chunks))
    means = {
        pattern.format(i=i): (row / chunks.size).astype(np.float32)
        for pattern, rows in totals.items()
        for i, row in enumerate(rows)
    }
    wrong = [name for name, row in means.items() if not np.isfinite(row).all()]
    if wrong:
        raise FloatingPointError(
            f"the inputs of {wrong[0]} are not finite; the weights have diverged"
        )
    names = (os.path.basename(data),)
    matrix = gguf.ImportanceMatrix(means, chunks.size, chunk_tokens, names)
    gguf.write_imatrix(out, matrix)
    return matrix
