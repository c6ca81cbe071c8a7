"""Turn a file of one kind into a file of another."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ._codecs import dequantize_array
from ._header import TensorInfo
from ._imatrix import ImportanceMatrix
from ._importance import check_importance
from ._overrides import Overrides
from ._placement import FILE_TYPES, file_order, tensor_types
from ._reader import GGUFFile
from ._reader import open as open_gguf
from ._types import GGMLType, GGUFError, MetadataValue, block_size, tensor_nbytes
from ._writer import TensorSource, write

_WHOLE_NUMBERS = (GGMLType.I8, GGMLType.I16, GGMLType.I32, GGMLType.I64)
_CHECKED_BYTES = 1 << 20


def quantize(
    path_in: str | os.PathLike[str],
    path_out: str | os.PathLike[str],
    file_type: str = "q4_k_m",
    *,
    imatrix: ImportanceMatrix | None = None,
    overrides: Overrides | None = None,
    workers: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Write a model's file anew with other tensor types, as ``llama-quantize`` does.

    A few rows at a time go from the one file to the other. Tensors that are
    quantized already are decoded first and lose a second time: start from F32, F16 or
    BF16 where you can. Tensors that have the right type are copied.

    Args:
        path_in: a GGUF file of a llama, qwen2 or qwen3 model.
        path_out: the file to write; its old content stands until the new one is
            complete.
        file_type: a key of ``FILE_TYPES``; ``tensor_types`` says what it means.
        imatrix: of the same model; see ``read_imatrix``. Tensors that it lacks are
            quantized without.
        overrides: other types for some tensors.
        workers: as for ``write``.
        progress: called with the share of elements written so far, in (0, 1].

    Raises:
        GGUFError: ``path_in`` is not a usable GGUF file, or one part of several.
        ValueError: both paths are one file; the type is unknown, or impossible for a
            tensor; the architecture is another; weights are not finite; importances
            have another length, are not finite or negative, or fit no tensor.
        OSError: a file cannot be read or written.
        RuntimeError: a worker process died.

    Precision: as ``dequantize_array`` and ``quantize_array``: the file equals that
    of llama.cpp byte for byte.

    Source: llama.cpp ``src/llama-quant.cpp``, which ignores importances of another
    length for ``token_embd.weight``, where this raises.
    """
    if os.path.exists(path_out) and os.path.samefile(path_in, path_out):
        raise ValueError(
            f"path_in and path_out are one file, {os.fspath(path_out)}; give another "
            "name for the result"
        )
    with open_gguf(path_in) as file:
        sources = _sources(file, file_type, imatrix, overrides)
        metadata = _metadata(file, file_type, imatrix)
        write(path_out, metadata, sources, workers=workers, progress=progress)


def plan(
    path_in: str | os.PathLike[str],
    file_type: str = "q4_k_m",
    *,
    imatrix: ImportanceMatrix | None = None,
    overrides: Overrides | None = None,
) -> dict[str, Any]:
    """Say what ``quantize`` would write, in values that JSON can hold.

    Args:
        path_in: as for ``quantize``.
        file_type: as for ``quantize``.
        imatrix: as for ``quantize``.
        overrides: as for ``quantize``.

    Returns:
        ``parameters`` (elements of all tensors), ``bytes_before``, ``bytes_after`` (of
        the tensor data), ``bits_per_weight`` (absent in a file without parameters),
        and ``tensors`` in the order of the new file: ``name``, ``shape``,
        ``type_before``, ``type_after``, ``bytes_before`` and ``bytes_after``.

    Raises:
        GGUFError: as ``quantize``.
        ValueError: as ``quantize``, as far as the header tells.
        OSError: the file cannot be read.
    """
    with open_gguf(path_in) as file:
        sources = _sources(file, file_type, imatrix, overrides)
        infos = file.tensors
    tensors = [
        {
            "name": source.name,
            "shape": list(source.shape),
            "type_before": infos[source.name].type.name,
            "type_after": source.type.name,
            "bytes_before": infos[source.name].nbytes,
            "bytes_after": tensor_nbytes(source.shape, source.type),
        }
        for source in sources
    ]
    result: dict[str, Any] = {
        "parameters": sum(math.prod(source.shape) for source in sources),
        "bytes_before": sum(tensor["bytes_before"] for tensor in tensors),
        "bytes_after": sum(tensor["bytes_after"] for tensor in tensors),
        "tensors": tensors,
    }
    if result["parameters"]:
        result["bits_per_weight"] = 8 * result["bytes_after"] / result["parameters"]
    return result


def _sources(
    file: GGUFFile,
    file_type: str,
    imatrix: ImportanceMatrix | None,
    overrides: Overrides | None,
) -> list[TensorSource]:
    if not np.array_equal(file.metadata.get("split.count", 1), 1):
        raise GGUFError(
            f"{file.path} is one of {file.metadata['split.count']} parts of a model; "
            "join them first"
        )
    types = tensor_types(
        {name: info.shape for name, info in file.tensors.items()},
        file_type,
        file.metadata,
        imatrix=imatrix is not None,
        overrides=overrides,
    )
    means = {} if imatrix is None else imatrix.mean_squares
    importances = _importances(file, means)
    if imatrix is not None and not importances:
        raise ValueError(
            f"imatrix: none of its {len(means)} names, such as "
            f"{next(iter(means), None)!r}, is a tensor of {file.path}"
        )

    def source(name: str) -> TensorSource:
        info = file.tensors[name]
        type = types.get(name, info.type)
        try:
            tensor_nbytes(info.shape, type)
        except ValueError as error:
            raise ValueError(f"tensor {name!r}: {error}") from None

        def load() -> np.ndarray:
            file.release()
            raw = file.tensors[name].raw()
            if type == info.type or block_size(type)[0] == 1:
                # Encoding blocks looks for such values by itself.
                try:
                    _check_finite(info, raw)
                except ValueError as error:
                    raise ValueError(f"tensor {name!r}: {error}") from None
            return raw

        return TensorSource(
            name, info.shape, type, load, info.type, importances.get(name)
        )

    return [source(name) for name in file_order(file.tensors)]


def _importances(
    file: GGUFFile, imatrix: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    result = {}
    for name, values in imatrix.items():
        if name not in file.tensors:
            continue
        try:
            columns = file.tensors[name].shape[-1:]
            result[name] = check_importance(np.asarray(values), *columns or (1,))
        except ValueError as error:
            raise ValueError(f"imatrix of {name!r}: {error}") from None
    return result


def _check_finite(info: TensorInfo, raw: np.ndarray) -> None:
    for values in _floats(info, raw):
        finite = np.isfinite(values)
        if not finite.all():
            raise ValueError(
                f"values are not finite, such as {values[~finite][0]!r}; the weights "
                "have diverged, or the file is damaged"
            )


def _floats(info: TensorInfo, raw: np.ndarray) -> Iterator[np.ndarray]:
    if info.type in _WHOLE_NUMBERS:
        return
    elements, nbytes = block_size(info.type)
    step = _CHECKED_BYTES // nbytes * nbytes
    for start in range(0, raw.size, step):
        part = raw[start : start + step]
        yield dequantize_array(part, info.type, (part.size // nbytes * elements,))


def _metadata(
    file: GGUFFile, file_type: str, imatrix: ImportanceMatrix | None
) -> dict[str, MetadataValue]:
    written: dict[str, MetadataValue] = {
        "general.quantization_version": np.uint32(2),
        "general.file_type": np.uint32(FILE_TYPES[file_type]),
    }
    split = ("split.no", "split.count", "split.tensors.count")
    kept = {
        key: value
        for key, value in file.metadata.items()
        if key not in written and key not in split
    }
    if imatrix is not None:
        about = {
            "file": imatrix.path,
            "dataset": imatrix.datasets[0] if imatrix.datasets else "",
            "entries_count": np.uint32(len(imatrix.mean_squares)),
            "chunks_count": np.uint32(imatrix.chunks),
        }
        written |= {f"quantize.imatrix.{key}": x for key, x in about.items() if x}
    return kept | written
