"""Write a file, a few rows at a time."""

import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .._files import replacing
from . import _types as t
from ._codecs import ENCODABLE, encodable_names
from ._piece import Piece
from ._pool import encoding, worker_count
from ._types import GGMLType, MetadataValue, short_repr

_TYPE_IDS = {(d.kind, d.itemsize): type_id for type_id, d in t.NUMBERS.items()}

# What one worker takes at a time: 4 MiB of float32.
_PIECE_ELEMENTS = 1 << 20


@dataclass(frozen=True)
class TensorSource:
    """A tensor to be written.

    Attributes:
        name: at most 63 bytes of UTF-8.
        shape: NumPy order, at most four axes.
        type: how to store it: one that ``quantize_array`` writes, or ``stored``.
        load: called once, when its turn comes, so that few tensors at a time are in
            memory: the one read and those being written. Returns a float array of
            ``shape``, or where ``stored`` is given, the tensor's bytes, uint8, such
            as ``GGUFFile.raw`` returns.
        stored: the type of those bytes. Where it is ``type`` they are copied,
            else decoded to float32 and encoded again.
        importance: float32 (columns,), as for ``quantize_array``.
    """

    name: str
    shape: tuple[int, ...]
    type: GGMLType
    load: Callable[[], np.ndarray]
    stored: GGMLType | None = None
    importance: np.ndarray | None = None


def write(
    path: str | os.PathLike[str],
    metadata: Mapping[str, MetadataValue],
    tensors: Sequence[TensorSource],
    *,
    workers: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Write a GGUF file, version 3, whole or not at all.

    Metadata and shapes are checked before anything is written. The bytes go
    to a temporary file in the same folder, which replaces ``path`` at the
    end; on any failure ``path`` keeps its old content.

    Args:
        path: the file to write.
        metadata: written in order, ``general.architecture`` first. Numbers
            are NumPy scalars. ``general.alignment``, where given, rules.
        tensors: written in order.
        workers: processes that encode block types; None: one a core that this
            process may use. With 1, and for small files, this process encodes.
        progress: called with the share of elements written so far, in (0, 1].

    Raises:
        ValueError: a key, value, name, shape, type or tensor that cannot be
            written; the message names it.
        OSError: the file cannot be written; ``filename`` says which.
        RuntimeError: a worker process died.
    """
    alignment = t.DEFAULT_ALIGNMENT
    if t.ALIGNMENT_KEY in metadata:
        alignment = t.check_alignment(metadata[t.ALIGNMENT_KEY])
    header = _header(metadata, tensors, alignment)
    total = sum(math.prod(source.shape) for source in tensors)
    pieces = (piece for source in tensors for piece in _pieces(source, alignment))
    work = sum(
        math.prod(source.shape)
        for source in tensors
        if source.type != source.stored and t.block_size(source.type)[0] > 1
    )
    done = 0
    with replacing(path) as put, encoding(pieces, worker_count(workers, work)) as ready:
        put(header)
        for piece, data in ready:
            put(data.data)
            put(bytes(piece.padding_bytes))
            done += math.prod(piece.shape)
            if progress is not None and total:
                progress(done / total)


def _pieces(source: TensorSource, alignment: int) -> Iterator[Piece]:
    array, shape = np.asarray(source.load()), tuple(source.shape)
    if source.stored is not None:
        expected = t.tensor_nbytes(shape, source.stored)
        if array.dtype != np.uint8 or array.size != expected:
            raise ValueError(
                f"tensor {source.name!r}: load() returned {array.dtype} of "
                f"{array.size} elements; {source.stored.name} of shape {shape} is "
                f"uint8 of {expected}"
            )
    elif array.shape != shape:
        raise ValueError(
            f"tensor {source.name!r}: load() returned shape {array.shape}, and "
            f"{shape} was declared"
        )
    columns = shape[-1] if shape else 1
    rows = math.prod(shape[:-1])
    values = array.reshape(rows, -1) if array.size else array.reshape(rows, 0)
    step = max(1, _PIECE_ELEMENTS // max(1, columns))
    nbytes = t.tensor_nbytes(shape, source.type)
    for start in range(0, max(1, rows), step):
        part = values[start : start + step]
        yield Piece(
            tensor=source.name,
            shape=(len(part), columns),
            values=part,
            stored=source.stored,
            type=source.type,
            importance=source.importance,
            padding_bytes=0
            if start + step < rows
            else t.padded(nbytes, alignment) - nbytes,
        )


def _header(
    metadata: Mapping[str, object],
    tensors: Sequence[TensorSource],
    alignment: int,
) -> bytes:
    out = bytearray(t.MAGIC)
    out += struct.pack("<Iqq", t.VERSION, len(tensors), len(metadata))
    # llama.cpp's tools look for the architecture before anything else.
    for key in sorted(metadata, key=lambda key: key != t.ARCHITECTURE_KEY):
        encoded = t.check_name(key, "metadata key", t.MAX_KEY_BYTES)
        out += struct.pack("<Q", len(encoded)) + encoded
        out += _value(metadata[key], f"metadata key {short_repr(key)}")
    offset, names = 0, set()
    for source in tensors:
        name = t.check_name(source.name, "tensor name", t.MAX_TENSOR_NAME_BYTES)
        if name in names:
            raise ValueError(f"tensor name {source.name!r} occurs twice")
        names.add(name)
        if source.type not in ENCODABLE and source.type != source.stored:
            raise ValueError(
                f"tensor {source.name!r}: type {source.type.name} cannot be written; "
                f"use one of {encodable_names()}"
            )
        try:
            nbytes = t.tensor_nbytes(source.shape, source.type)
        except ValueError as error:
            raise ValueError(f"tensor {source.name!r}: {error}") from None
        out += struct.pack("<Q", len(name)) + name
        out += struct.pack(
            f"<I{len(source.shape)}q", len(source.shape), *source.shape[::-1]
        )
        out += struct.pack("<iQ", source.type, offset)
        offset += t.padded(nbytes, alignment)
    out += bytes(t.padded(len(out), alignment) - len(out))
    return bytes(out)


def _value(value: object, what: str) -> bytes:
    if isinstance(value, str):
        encoded = t.encode_text(value, what)
        return struct.pack("<iQ", t.STRING, len(encoded)) + encoded
    if isinstance(value, (bool, np.bool_)):
        return struct.pack("<i?", t.BOOL, value)
    if isinstance(value, np.generic):
        type_id, dtype = _number_type(value.dtype, what)
        return struct.pack("<i", type_id) + value.astype(dtype).tobytes()
    if isinstance(value, list):
        return _strings(value, what)
    if isinstance(value, np.ndarray):
        return _array(value, what)
    raise ValueError(
        f"{what} is {short_repr(value)} of type {type(value).__name__}, which says "
        "nothing of its width; give a NumPy scalar, such as np.uint32(...) or "
        "np.float32(...), an array, a str, a bool or a list of str"
    )


def _strings(values: list, what: str) -> bytes:
    if not values:
        raise ValueError(f"{what} is an empty list, which readers refuse; omit the key")
    out = bytearray(struct.pack("<iiq", t.ARRAY, t.STRING, len(values)))
    for value in values:
        if not isinstance(value, str):
            raise ValueError(
                f"{what} is a list that contains {short_repr(value)}; lists are of "
                "str, numbers go in np.array(..., dtype)"
            )
        encoded = t.encode_text(value, what)
        out += struct.pack("<Q", len(encoded)) + encoded
    return bytes(out)


def _array(values: np.ndarray, what: str) -> bytes:
    if values.ndim != 1 or not values.size:
        raise ValueError(
            f"{what} is an array of shape {values.shape}; arrays have one axis and at "
            "least one element: flatten it, or omit the key"
        )
    if values.dtype == np.bool_:
        type_id, dtype = t.BOOL, np.dtype(np.bool_)
    else:
        type_id, dtype = _number_type(values.dtype, what)
    return struct.pack("<iiq", t.ARRAY, type_id, values.size) + (
        values.astype(dtype).tobytes()
    )


def _number_type(dtype: np.dtype, what: str) -> tuple[int, np.dtype]:
    type_id = _TYPE_IDS.get((dtype.kind, dtype.itemsize))
    if type_id is None:
        raise ValueError(
            f"{what} has dtype {dtype}, which the format lacks; use an integer of 8 to "
            "64 bits, float32, float64 or bool, and a list for texts"
        )
    return type_id, t.NUMBERS[type_id]
