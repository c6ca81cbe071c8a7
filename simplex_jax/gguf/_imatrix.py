"""Importance matrices: what a model's weights are multiplied by, as a file."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ._reader import GGUFFile
from ._reader import open as open_gguf
from ._types import GGMLType, GGUFError
from ._writer import TensorSource, write

_TYPE = "general.type"
_DATASETS, _CHUNKS, _CHUNK_TOKENS = (
    f"imatrix.{name}" for name in ("datasets", "chunk_count", "chunk_size")
)
_SQUARES, _COUNTS = ".in_sum2", ".counts"


@dataclass(frozen=True, eq=False)
class ImportanceMatrix:
    """Mean squares of the inputs of a model's matrices.

    Attributes:
        mean_squares: tensor name to float32 (columns,), the mean of x^2 over all tokens
            for the x that a column is multiplied by; >= 0.
        tokens: how many were averaged.
        chunk_tokens: how many make a text of their own.
        datasets: the texts' file names.
        path: of the file that this was read from, or "".
    """

    mean_squares: Mapping[str, np.ndarray]
    tokens: int
    chunk_tokens: int
    datasets: tuple[str, ...] = ()
    path: str = ""

    @property
    def chunks(self) -> int:
        """Return how many texts were read, those that are cut short included."""
        return -(-self.tokens // self.chunk_tokens)


def write_imatrix(path: str | os.PathLike[str], matrix: ImportanceMatrix) -> None:
    """Write an importance matrix as llama.cpp reads it, whole or not at all.

    Args:
        path: the file to write.
        matrix: what to write; at least one tensor.

    Raises:
        ValueError: there is no tensor, or its name cannot be written.
        OSError: the file cannot be written.

    Precision: float32 sums; reading divides them by the count again.
    """
    if not matrix.mean_squares:
        raise ValueError("matrix.mean_squares is empty; collect it over some text")
    count = np.array([matrix.tokens], np.float32)
    arrays = {}
    for name, mean in sorted(matrix.mean_squares.items()):
        arrays[name + _SQUARES] = mean.astype(np.float32) * count
        arrays[name + _COUNTS] = count
    metadata = {
        _TYPE: "imatrix",
        _CHUNKS: np.uint32(matrix.chunks),
        _CHUNK_TOKENS: np.uint32(matrix.chunk_tokens),
        _DATASETS: list(matrix.datasets) or ["unknown"],
    }
    sources = [
        TensorSource(name, array.shape, GGMLType.F32, lambda array=array: array)
        for name, array in arrays.items()
    ]
    write(path, metadata, sources)


def read_imatrix(path: str | os.PathLike[str]) -> ImportanceMatrix:
    """Read an importance matrix in its GGUF form.

    Args:
        path: a file of ``write_imatrix`` or of llama.cpp's ``imatrix`` tool.

    Returns:
        The matrix. A tensor that saw no token counts every column alike.

    Raises:
        GGUFError: the file is not GGUF (such as the older form, whose names end in
            ``.dat``), holds something else, or a tensor's numbers cannot be used.
        OSError: the file cannot be read.
    """
    with open_gguf(path) as file:
        if file.metadata.get(_TYPE) != "imatrix":
            raise GGUFError(
                f"{file.path}: {_TYPE} is {file.metadata.get(_TYPE)!r}, and 'imatrix' "
                "in an importance matrix"
            )
        names = [n.removesuffix(_SQUARES) for n in file.tensors if n.endswith(_SQUARES)]
        found = {name: _mean(file, name) for name in names}
        if not found:
            raise GGUFError(f"{file.path}: no tensor's name ends in {_SQUARES}")
        datasets = file.metadata.get(_DATASETS, [])
        return ImportanceMatrix(
            mean_squares={name: mean for name, (mean, _) in found.items()},
            tokens=int(max(count for _, count in found.values())),
            chunk_tokens=_positive(file, _CHUNK_TOKENS),
            datasets=tuple(map(str, datasets)) if isinstance(datasets, list) else (),
            path=file.path,
        )


def _mean(file: GGUFFile, name: str) -> tuple[np.ndarray, float]:
    where = f"{file.path}: {name}"
    if name + _COUNTS not in file.tensors:
        raise GGUFError(f"{where}{_COUNTS} is missing beside {name}{_SQUARES}")
    sums = file.tensors[name + _SQUARES].dequantize()
    counts = file.tensors[name + _COUNTS].dequantize()
    if counts.size != 1:
        raise GGUFError(
            f"{where} is a stack of {counts.size} experts; such models are not "
            "supported"
        )
    count = float(counts.flat[0])
    if not (np.isfinite(sums).all() and (sums >= 0).all()):
        raise GGUFError(f"{where}{_SQUARES} has numbers below 0 or not finite")
    if not (np.isfinite(count) and count >= 0):
        raise GGUFError(f"{where}{_COUNTS} is {count}; a count is finite and >= 0")
    flat = sums.reshape(-1)
    mean = flat / np.float32(count) if count else np.ones_like(flat)
    return mean, count


def _positive(file: GGUFFile, key: str) -> int:
    value = file.metadata.get(key)
    if not isinstance(value, np.integer) or value < 1:
        raise GGUFError(
            f"{file.path}: {key} is {value!r}; it is a number of at least 1"
        )
    return int(value)
