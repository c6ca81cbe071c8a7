"""Describe a file in plain values, for a person or for JSON."""

from collections import Counter
from math import prod
from typing import Any

import numpy as np

from ._reader import GGUFFile
from ._types import MetadataValue

_SHOWN = 4


def summary(file: GGUFFile) -> dict[str, Any]:
    """Describe a file in values that JSON can hold.

    Args:
        file: an open file.

    Returns:
        ``version``, ``alignment``, ``size_bytes``, ``parameters`` (elements
        of all tensors), ``bits_per_weight`` (of the tensor data; absent in a
        file without parameters), ``types`` (tensors by type), ``tensors``
        (name, shape, type, nbytes) and ``metadata``, where an array of more
        than four elements is given as its length and its first four.
    """
    infos = file.tensors.values()
    parameters = sum(prod(info.shape) for info in infos)
    result: dict[str, Any] = {
        "version": file.version,
        "alignment": file.alignment,
        "size_bytes": file.size_bytes,
        "parameters": parameters,
        "types": dict(Counter(info.type.name for info in infos)),
        "tensors": [
            {
                "name": info.name,
                "shape": list(info.shape),
                "type": info.type.name,
                "nbytes": info.nbytes,
            }
            for info in infos
        ],
        "metadata": {key: _plain(value) for key, value in file.metadata.items()},
    }
    if parameters:
        result["bits_per_weight"] = 8 * sum(i.nbytes for i in infos) / parameters
    return result


def _plain(value: MetadataValue) -> Any:
    if isinstance(value, np.ndarray):
        first, count = value[:_SHOWN].tolist(), value.size
    elif isinstance(value, list):
        first, count = value[:_SHOWN], len(value)
    else:
        return value.item() if isinstance(value, np.generic) else value
    return first if count <= _SHOWN else {"count": count, "first": first}
